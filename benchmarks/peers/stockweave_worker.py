"""Stockweave itself: the worker process as `stockweave up` runs it, with default settings but for its row cache."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from subprocess import Popen

from benchmarks.kafka import forget, read_to_end
from benchmarks.peers.contest import Contestant, Feed, Started
from schemas.admin import ensure_topics
from schemas.keys import ROW_FIRST
from schemas.rows import StockRow, decode_row
from schemas.topics import STOCK
from stockweave.children import spawn
from stockweave.settings import Settings

ROW_CACHE_BYTES = 512 << 20  # as Kafka Streams has it here


def contestant(batch_events_max: int | None = None) -> Contestant:
    """The first line of the table; `batch_events_max`: in one transaction, None for the default."""
    more = {"STOCKWEAVE_ROW_CACHE_BYTES": str(ROW_CACHE_BYTES)}
    if batch_events_max is not None:
        more["STOCKWEAVE_BATCH_EVENTS_MAX"] = str(batch_events_max)
    return Contestant("stockweave", "exactly once", _nothing, partial(_start, more), _rows)


def spawn_worker(bootstrap_servers: str, topic_prefix: str, folder: Path, **more: str) -> Popen[bytes]:
    """A worker process with the environment that `stockweave up` gives it, and its log in `folder`."""
    metrics_dir = folder / "metrics"
    metrics_dir.mkdir(parents=True, exist_ok=True)
    environment = clean_environment() | {
        "PYTHONUNBUFFERED": "1",
        "STOCKWEAVE_BOOTSTRAP_SERVERS": bootstrap_servers,
        "STOCKWEAVE_TOPIC_PREFIX": topic_prefix,
        "STOCKWEAVE_DATA_DIR": str(folder / "data"),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics_dir),
        **more,
    }
    return spawn([sys.executable, "-m", "stockweave", "worker"], folder / "worker.log", environment)


def clean_environment() -> dict[str, str]:
    """Ours, without any setting of ours: defaults are measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith("STOCKWEAVE_")}


def settings_of(bootstrap_servers: str, topic_prefix: str, partitions: int, folder: Path) -> Settings:
    """Of a deployment of the benchmark's own."""
    return Settings(
        bootstrap_servers=bootstrap_servers, topic_prefix=topic_prefix, partitions=partitions, data_dir=folder
    )


def forget_rows(settings: Settings, bootstrap_servers: str) -> None:
    """Delete what workers made of the updates, so that they are folded again from the first one."""
    forget(bootstrap_servers, [settings.topic(STOCK.name)], [settings.group])
    ensure_topics(settings, bootstrap_servers)


def _nothing() -> None:
    """It is installed."""


def _start(more: dict[str, str], feed: Feed, folder: Path) -> Started:
    settings = settings_of(feed.bootstrap_servers, feed.topic_prefix, feed.partitions, folder)
    forget_rows(settings, feed.bootstrap_servers)
    process = spawn_worker(feed.bootstrap_servers, feed.topic_prefix, folder, **more)
    return Started(process, folder / "worker.log", settings.group, feed.warm, feed.end)


def _rows(feed: Feed) -> Iterator[StockRow]:
    latest = {}
    for message in read_to_end(feed.bootstrap_servers, feed.topic_prefix + STOCK.name):
        key, value = message.key(), message.value()
        if key is not None and value is not None and key >= ROW_FIRST:
            latest[key] = value
    return map(decode_row, latest.values())
