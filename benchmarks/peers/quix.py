"""Quix Streams, exactly once: in an environment of its own, for its pins are not ours; over a part of the events."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from benchmarks.peers.contest import Contestant, Feed, Started
from benchmarks.peers.python_peers import PROGRAMS, SCHEMA, Environment
from stockweave.children import spawn

ENVIRONMENT = Environment("quix", Path(__file__).with_name("requirements-quix.txt"))
EVENTS_MAX = 500_000


def contestant() -> Contestant:
    """Measured over `EVENTS_MAX` events after the same warm-up."""
    return Contestant("quix", "exactly once", ENVIRONMENT.install, _start)


def _start(feed: Feed, folder: Path) -> Started:
    group = f"quix-{uuid.uuid4().hex[:8]}"
    command = [
        str(ENVIRONMENT.python), str(PROGRAMS / "quix_fold.py"), feed.bootstrap_servers, feed.topic,
        group, str(folder / "state"), str(SCHEMA),
    ]  # fmt: skip
    log = folder / "quix.log"
    process = spawn(command, log, {**os.environ, "PYTHONUNBUFFERED": "1"})
    return Started(process, log, group, feed.warm, min(feed.end, feed.warm + EVENTS_MAX))
