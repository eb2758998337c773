"""Puts the API's process together: topics, codecs, publishers, view, and the routes of every part, in one server.

The parts never import one another, so they meet here. Called by `stockweave api`.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import uvloop

from api.app import make_app
from api.reservations.desk import Desk
from api.server import open_view, serve
from connectors.publisher import Publisher
from connectors.push import app as push
from connectors.push import openapi as push_openapi
from inventory.reservations.coordinate import home
from schemas.admin import Deployed, ensure_topics
from schemas.codec import Codec
from schemas.registry import open_registry
from schemas.topics import COMMANDS, STOCK, UPDATES
from stockweave import metrics
from stockweave.errors import Fatal
from stockweave.folder_lock import lock_folder
from stockweave.patience import patiently
from stockweave.settings import Settings

COMMAND_LINGER_MS = 2  # a shopper waits for it; but requests to Kafka cost more than the reservations in them


class Reached(NamedTuple):
    """What other services gave."""

    topics: Mapping[str, Deployed]
    updates: Codec
    commands: Codec


def main(settings: Settings) -> None:
    """Run the API until SIGTERM or SIGINT.

    Raises:
        Fatal: a setting, a port or the data folder is wrong, or the view or the publisher cannot go on.
        Retriable: Kafka, or the registry, did not come up in a minute.
    """
    if settings.bootstrap_servers is None:
        raise Fatal("STOCKWEAVE_BOOTSTRAP_SERVERS is not set; set it to host:port of Kafka, or use `stockweave up`")
    with lock_folder(settings.data_dir / "view", "API"):
        reached = patiently(partial(_reach, settings, settings.bootstrap_servers), "api_waits")
        uvloop.run(_serve(settings, settings.bootstrap_servers, reached))


async def _serve(settings: Settings, bootstrap_servers: str, reached: Reached) -> None:
    updates = reached.topics[UPDATES.name].name
    publisher = Publisher(bootstrap_servers, updates, reached.updates, settings.publish_timeout_ms)
    commands = Publisher(
        bootstrap_servers,
        reached.topics[COMMANDS.name].name,
        reached.commands,
        settings.reserve_wait_ms,
        COMMAND_LINGER_MS,
        metrics.COMMAND_PUBLISH_SECONDS,
        home,
    )
    view = open_view(settings, bootstrap_servers, reached.topics[STOCK.name])
    app = make_app(
        Desk(view, commands, settings.reserve_wait_ms),
        updates,
        settings.read_wait_ms,
        mounts={push.ROOT: push.create_app(settings, publisher, gives_way=lambda: commands.is_used)},
        contributions=[push_openapi.contribution(settings)],
    )
    async with publisher, commands:
        gc.collect()
        gc.freeze()  # what is there stays: looking through it took 25 ms, more than once a second of reservations
        await serve(app, view, settings.api_host, settings.api_port, [publisher.watch(), commands.watch()])


def _reach(settings: Settings, bootstrap_servers: str) -> Reached:
    topics = ensure_topics(settings, bootstrap_servers)
    registry = open_registry(settings)
    return Reached(topics, Codec("StockUpdate", registry), Codec("ReservationCommand", registry))
