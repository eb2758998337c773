"""The connectors' process: configuration, leases, publishers and feeds put together, until it is told to stop.

Order at the end: suppliers can send no more; the leases are given back, for which each feed ends after the rows that
are on their way; then the publishers deliver what they have. Called by `stockweave connectors run`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import structlog
import uvloop
from watchfiles import awatch

from connectors.configuration.load import Loaded, files_in, load, refuse
from connectors.documents import Kind
from connectors.inbound.inbox import Inbox
from connectors.inbound.server import Inbound
from connectors.publisher import Publisher
from connectors.runner.leases import Event, Leases
from connectors.runner.letter_log import LetterLog
from connectors.runner.skus import SkuFollower
from connectors.runner.supervisor import Outlets, Supervisor
from schemas.admin import Deployed, ensure_topics
from schemas.codec import Codec
from schemas.registry import open_registry
from schemas.topics import DEAD_LETTERS, FEEDS, RECEIVED, SETTLED, SKU_MAP, UPDATES
from stockweave import metrics
from stockweave.errors import Fatal
from stockweave.patience import patiently
from stockweave.settings import Settings
from stockweave.world import SystemClock

log = structlog.get_logger(__name__)

LOOK_MS = 1_000
LINGER_MS = 5.0  # nobody waits for a single update here


class Reached(NamedTuple):
    """What other services gave."""

    topics: Mapping[str, Deployed]
    updates: Codec


def main(settings: Settings, path: Path, kinds: Mapping[str, Kind]) -> None:
    """Run the feeds of a folder until SIGTERM or SIGINT.

    Raises:
        Rejected: there are files, and none is well, or there is no such folder; each fault has a line.
        Fatal: a setting is wrong, or a publisher or the leases cannot go on.
        Retriable: Kafka, or the registry, did not come up in a minute.
    """
    if settings.bootstrap_servers is None:
        raise Fatal("STOCKWEAVE_BOOTSTRAP_SERVERS is not set; set it to host:port of Kafka")
    loaded = load(path, kinds)
    if not loaded.feeds and (files_in(path) or not path.exists()):
        refuse(loaded)
    for fault in loaded.faults:  # of one supplier; the others are read all the same
        log.error("configuration_not_taken", fault=fault)
    if settings.metrics_port is not None:
        metrics.serve(settings.metrics_host, settings.metrics_port)
    reached = patiently(partial(_reach, settings, settings.bootstrap_servers), "connectors_wait")
    uvloop.run(run(settings, path, kinds, loaded, reached))


async def run(
    settings: Settings, path: Path, kinds: Mapping[str, Kind], loaded: Loaded, reached: Reached,
    told_to_stop: asyncio.Event | None = None,
) -> None:  # fmt: skip
    """The loop's part of `main`. `told_to_stop`: in place of signals."""
    servers, feeds = settings.bootstrap_servers or "", reached.topics[FEEDS.name]
    timeout_ms = settings.publish_timeout_ms

    def publisher(topic: str) -> Publisher:
        name = reached.topics[topic].name
        return Publisher(servers, name, reached.updates, timeout_ms, LINGER_MS, metrics.FEED_SECONDS)

    written = (UPDATES, DEAD_LETTERS, FEEDS, RECEIVED, SETTLED)
    updates, letters, progress, received, notes = (publisher(topic.name) for topic in written)
    async with updates, letters, progress, received, notes:
        letter_log = LetterLog(servers, reached.topics[DEAD_LETTERS.name], reached.topics[SETTLED.name], notes)
        outlets = Outlets(updates, letters, progress, reached.updates, letter_log)
        inbox, inbound = Inbox(servers, reached.topics[RECEIVED.name]), Inbound(settings, received, SystemClock())
        skus = SkuFollower(servers, reached.topics[SKU_MAP.name])
        supervisor = Supervisor(kinds, outlets, feeds.partitions, SystemClock(), inbox, skus)
        for each in (inbound, supervisor):
            await each.configure(loaded)
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        group = f"{settings.topic_prefix}stockweave-connectors"
        leases = Leases(servers, feeds.name, group, tell)
        hearing = asyncio.create_task(_hear(events, supervisor))
        following = asyncio.create_task(_follow(path, kinds, loaded, inbound, supervisor))
        parts = (supervisor, updates, letters, progress, received, notes, inbox, skus)
        watched = [asyncio.create_task(part.watch()) for part in parts]
        told = asyncio.create_task((told_to_stop or _signals(loop)).wait())
        leases.start()
        try:
            done, _ = await asyncio.wait([told, hearing, following, *watched], return_when=asyncio.FIRST_COMPLETED)
        finally:
            following.cancel()
            await inbound.stop()
            await leases.stop()
            await supervisor.stop()
            await inbox.stop()
            await skus.stop()
            for task in (told, hearing, *watched):
                task.cancel()
        for task in done - {told}:
            task.result()


def _signals(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told


async def _hear(events: asyncio.Queue[Event], supervisor: Supervisor) -> None:
    while True:
        await supervisor.hear(await events.get())


async def _follow(
    path: Path, kinds: Mapping[str, Kind], loaded: Loaded, inbound: Inbound, supervisor: Supervisor
) -> None:
    """The configuration, as its files change; one with a fault changes nothing of its supplier's, and none, nothing."""
    has_looked = False
    async for changes in awatch(path, recursive=False, rust_timeout=LOOK_MS, yield_on_timeout=True):
        if has_looked and not changes:
            continue
        has_looked = True  # once for what changed between the start and the watch
        changed = await asyncio.to_thread(load, path, kinds, loaded)
        if changed == loaded:
            continue
        for fault in changed.faults:
            log.error("configuration_not_taken", fault=fault)
        if not changed.feeds:
            continue  # as when a folder is put in another one's place
        try:
            await inbound.configure(changed)
        except Fatal as why:  # the feeds that run are none the worse for an address that another one has
            log.error("configuration_not_taken", fault=str(why))
            continue
        await supervisor.configure(changed)
        loaded = changed
        log.info("configuration_taken", feeds=len(loaded.feeds))


def _reach(settings: Settings, bootstrap_servers: str) -> Reached:
    return Reached(ensure_topics(settings, bootstrap_servers), Codec("StockUpdate", open_registry(settings)))
