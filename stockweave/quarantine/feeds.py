"""All that inventory.feeds keeps, read at once, and a person's orders written to it. Used by `command`."""

from __future__ import annotations

import msgspec
import structlog

from connectors.runner.progress import ORDER, Kept, Order, note
from schemas.admin import Deployed
from schemas.keys import feed_partition
from stockweave.clients import send_all
from stockweave.errors import Rejected
from stockweave.replay.facts import everything

log = structlog.get_logger(__name__)


def read_feeds(topic: Deployed, bootstrap_servers: str) -> dict[str, Kept]:
    """What is kept of each feed, as of now.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: the topic is gone, or may not be read.
    """
    kept: dict[str, Kept] = {}
    for message in everything(bootstrap_servers, topic.name, range(topic.partitions), "progress"):
        try:
            note(kept, message)
        except Rejected as why:
            log.warning("progress_unreadable", why=str(why))
    return kept


def give_order(topic: Deployed, bootstrap_servers: str, feed: str, order: Order) -> None:
    """Tell whoever runs the feed.

    Raises:
        Retriable: Kafka does not take it.
    """
    record = (f"{feed}{ORDER}", msgspec.json.encode(order))
    send_all(bootstrap_servers, topic.name, [record], feed_partition(feed, topic.partitions))
