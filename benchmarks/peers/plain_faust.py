"""Faust as its tutorial writes it, with a table on RocksDB and its changelog; over a small part of the events.

It begins behind the base, for it would be minutes over that. Its guarantee is its default's: at least once, and a send
to the changelog that failed is only logged.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from benchmarks.kafka import begin_at
from benchmarks.peers.contest import Contestant, Feed, Started
from benchmarks.peers.python_peers import PROGRAMS, SCHEMA, Environment
from stockweave.children import spawn

ENVIRONMENT = Environment("plain-faust", Path(__file__).with_name("requirements-faust.txt"))
WARM_UP, EVENTS_MAX = 20_000, 130_000


def contestant() -> Contestant:
    """Measured over `EVENTS_MAX` events of the mix after `WARM_UP`."""
    return Contestant("plain-faust", "at least once", ENVIRONMENT.install, _start)


def _start(feed: Feed, folder: Path) -> Started:
    group = f"plain-faust-{uuid.uuid4().hex[:8]}"
    begin_at(feed.bootstrap_servers, group, feed.topic, feed.base_ends)
    environment = {
        **os.environ,
        "PEER_BOOTSTRAP_SERVERS": feed.bootstrap_servers,
        "PEER_TOPIC": feed.topic,
        "PEER_GROUP": group,
        "PEER_STATE_DIR": str(folder / "state"),
        "PEER_PARTITIONS": str(feed.partitions),
        "PEER_SCHEMA": str(SCHEMA),
    }
    command = [str(ENVIRONMENT.python), str(PROGRAMS / "plain_faust_app.py"), "worker", "-l", "warn", "--without-web"]
    log = folder / "plain-faust.log"
    first = sum(feed.base_ends) + WARM_UP
    return Started(spawn(command, log, environment), log, group, first, min(feed.end, first + EVENTS_MAX))
