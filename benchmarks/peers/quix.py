"""Quix Streams, exactly once: in an environment of its own, for its pins are not ours; over a part of the events."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import uuid
from pathlib import Path

from benchmarks.peers.contest import Contestant, Feed, Started
from benchmarks.peers.python_peers import PROGRAMS, SCHEMA
from stockweave.broker.jars import default_cache
from stockweave.children import spawn
from stockweave.errors import Fatal

REQUIREMENTS = Path(__file__).with_name("requirements-quix.txt")
EVENTS_MAX = 500_000


def contestant() -> Contestant:
    """Measured over `EVENTS_MAX` events after the same warm-up."""
    return Contestant("quix", "exactly once", install, _start)


def _environment() -> Path:
    pins = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    return default_cache().parent / f"quix-{pins}"


def install() -> None:
    """Make the environment, once for each set of pins.

    Raises:
        Fatal: pip cannot.
    """
    folder = _environment()
    if (folder / "installed").exists():
        return
    print(f"installing Quix Streams into {folder}", flush=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS)]
    for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], pip):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()[-1_000:]
            raise Fatal(
                f"the peer quix cannot be installed: check the network, or choose other --peers; it says: {said}"
            )
    (folder / "installed").touch()


def _start(feed: Feed, folder: Path) -> Started:
    group = f"quix-{uuid.uuid4().hex[:8]}"
    command = [
        str(_environment() / "bin" / "python"), str(PROGRAMS / "quix_fold.py"), feed.bootstrap_servers, feed.topic,
        group, str(folder / "state"), str(SCHEMA),
    ]  # fmt: skip
    log = folder / "quix.log"
    process = spawn(command, log, {**os.environ, "PYTHONUNBUFFERED": "1"})
    return Started(process, log, group, feed.warm, min(feed.end, feed.warm + EVENTS_MAX))
