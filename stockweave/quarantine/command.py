"""`stockweave quarantine`: which snapshots are held back and why, and what is to become of them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Literal

import msgspec
import orjson
from rich.console import Console
from rich.table import Table

from connectors.runner.progress import Held, Order
from schemas.admin import Deployed, find_topics
from schemas.topics import FEEDS
from stockweave.errors import Fatal, Rejected
from stockweave.quarantine.feeds import give_order, read_feeds
from stockweave.replay.session import kafka
from stockweave.settings import Settings


def show(settings: Settings, *, json: bool) -> None:
    """Print what is held back.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: no connectors ever ran there.
    """
    with kafka(settings, Console(stderr=True)) as connected:
        held = _held(feeds_topic(connected), connected.bootstrap_servers or "")
    if json:
        lines = [{"feed": feed} | msgspec.to_builtins(each) for feed, each in held.items()]
        sys.stdout.buffer.write(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        return
    if not held:
        sys.stdout.write("nothing is held back\n")
        return
    table = Table("feed", "since", "why", "document")
    for feed, each in held.items():
        at = datetime.fromtimestamp(each.at_ms / 1_000, UTC).isoformat(timespec="seconds")
        table.add_row(feed, at, each.why, each.origin)
    Console().print(table)


def decide(settings: Settings, feed: str, do: Literal["release", "drop"]) -> None:
    """Order what becomes of a feed's snapshot; the process that runs the feed hears of it at once.

    Raises:
        Rejected: nothing is held back of that feed.
        Retriable: Kafka does not answer.
        Fatal: no connectors ever ran there.
    """
    with kafka(settings, Console(stderr=True)) as connected:
        topic, servers = feeds_topic(connected), connected.bootstrap_servers or ""
        held = _held(topic, servers)
        if feed not in held:
            there = ", ".join(held) or "none"
            raise Rejected(
                "nothing_held", f"of feed {feed} nothing is held back; of these something is: {there}", "feed"
            )
        give_order(topic, servers, feed, Order(held[feed].origin, do))
    said = {"release": "is taken as it is", "drop": "is passed over"}[do]
    sys.stdout.write(f"{feed}: {held[feed].origin} {said}, as soon as the feed runs\n")


def _held(topic: Deployed, bootstrap_servers: str) -> dict[str, Held]:
    kept = read_feeds(topic, bootstrap_servers)
    return {feed: each.progress.held for feed, each in sorted(kept.items()) if each.progress.held is not None}


def feeds_topic(settings: Settings) -> Deployed:
    """Where what is kept of feeds is; raises Fatal if no connectors ever ran there."""
    topics = find_topics(settings, settings.bootstrap_servers or "")
    if FEEDS.name not in topics:
        raise Fatal(f"there is no topic {settings.topic(FEEDS.name)}; run `stockweave connectors run` once")
    return topics[FEEDS.name]
