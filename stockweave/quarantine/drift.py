"""`stockweave connectors drift`: what was told of fields that are other ones than they were."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stockweave.quarantine.command import feeds_topic
from stockweave.quarantine.feeds import read_feeds
from stockweave.replay.session import kafka
from stockweave.settings import Settings


def show(settings: Settings, feed: str | None, *, json: bool) -> None:
    """Print the latest alerts, the oldest first; of one feed, or of all.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: no connectors ever ran there.
    """
    with kafka(settings, Console(stderr=True)) as connected:
        kept = read_feeds(feeds_topic(connected), connected.bootstrap_servers or "")
    alerts = [alert for name, each in kept.items() if feed in (None, name) for alert in each.drifts.values()]
    alerts.sort(key=lambda alert: (alert.at_ms, alert.feed, alert.number))
    if json:
        sys.stdout.buffer.write(b"".join(msgspec.json.encode(alert) + b"\n" for alert in alerts))
        return
    if not alerts:
        sys.stdout.write("nothing was told\n")
        return
    table = Table("feed", "when", "field", "what", "sample")
    for each in alerts:
        at = datetime.fromtimestamp(each.at_ms / 1_000, UTC).isoformat(timespec="seconds")
        sample = ", ".join(map(repr, each.sample))
        told = (f"{each.feed}@{each.version}", at, each.field, f"{each.change}: {each.was} -> {each.now}", sample)
        table.add_row(*map(_shown, told))
    Console().print(table)


def _shown(text: str) -> Text:
    """As it is, but for what a terminal would obey: a supplier wrote it."""
    return Text("".join(each if each.isprintable() else "?" for each in text))
