"""`stockweave verify` over many updates, beside a loop that only consumes the same topic, in the same run."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path

import orjson

from benchmarks import results
from benchmarks.bare_read import consume_all
from benchmarks.figures import machine
from benchmarks.fill import Filling, fill
from benchmarks.kafka import own_broker
from benchmarks.observe import Watch
from benchmarks.peers.stockweave_worker import clean_environment, settings_of, spawn_worker
from benchmarks.profile import Profile
from benchmarks.table import table
from schemas.admin import ensure_topics
from schemas.topics import UPDATES
from stockweave.errors import Fatal

PARTITIONS = 4
SHARE_MIN = 1 / 3
STOP_S = 30.0


def main(arguments: list[str]) -> int:
    """The command; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks replay", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000, help="of the mix, after the base")
    parser.add_argument("--skus", type=int, default=100_000, help="with five sources each")
    parser.add_argument("--runs", type=int, default=3, help="the median of the runs counts")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/replay.json")
    options = parser.parse_args(arguments)
    print(machine())
    prefix = f"bench-{uuid.uuid4().hex[:6]}."
    verified: list[float] = []
    consumed: list[float] = []
    with_values: list[float] = []
    with own_broker() as (broker, folder):
        events = _folded(broker.bootstrap_servers, prefix, folder, Profile(skus=options.skus), options.events)
        for run in range(1, options.runs + 1):
            for kept, values in ((consumed, False), (with_values, True)):
                topic = f"{prefix}{UPDATES.name}"
                count, seconds = consume_all(broker.bootstrap_servers, topic, with_values=values)
                kept.append(count / seconds)
            verified.append(_verify(broker.bootstrap_servers, prefix, folder, events))
            print(
                f"run {run}: verify {verified[-1]:,.0f} updates/s, bare loop {consumed[-1]:,.0f}/s, "
                f"{with_values[-1]:,.0f}/s with values",
                flush=True,
            )
    verify, bare = statistics.median(verified), statistics.median(consumed)
    share = verify / bare
    rows = [
        ["stockweave verify", f"{verify:,.0f}"],
        ["bare consume loop", f"{bare:,.0f}"],
        ["the same, asking for each value", f"{statistics.median(with_values):,.0f}"],
    ]
    print(table(["", "updates/s"], rows))
    held = share >= SHARE_MIN
    print(f"verify at {share:.2f} of the bare loop (bar {SHARE_MIN:.2f}): {'held' if held else 'missed'}")
    if options.save:
        figures = {
            "verify": verified,
            "bare": consumed,
            "bare_with_values": with_values,
            "share": round(share, 3),
            "updates": events,
        }
        results.save("replay", vars(options), figures)
    return 0 if held else 1


def _folded(bootstrap_servers: str, prefix: str, folder: Path, profile: Profile, events: int) -> int:
    """Fill the updates and let a worker fold them; returns how many there are."""
    settings = settings_of(bootstrap_servers, prefix, PARTITIONS, folder)
    topic = ensure_topics(settings, bootstrap_servers)[UPDATES.name].name
    seconds = fill(Filling(bootstrap_servers, topic, PARTITIONS, profile, events))
    total = profile.base_events + events
    print(f"{total:,} updates filled in {seconds:.0f} s", flush=True)
    began_s = time.monotonic()
    worker = spawn_worker(bootstrap_servers, prefix, folder / "worker")
    watch = Watch(bootstrap_servers, settings.group, topic, PARTITIONS)
    try:
        watch.until(total, [worker])
    finally:
        watch.close()
        worker.terminate()
        worker.wait(STOP_S)
    print(f"folded by a worker in {time.monotonic() - began_s:.0f} s", flush=True)
    return total


def _verify(bootstrap_servers: str, prefix: str, folder: Path, events: int) -> float:
    """Updates per second of the command, its start included.

    Raises:
        Fatal: it fails, finds a difference, or has folded something else.
    """
    environment = clean_environment() | {
        "STOCKWEAVE_BOOTSTRAP_SERVERS": bootstrap_servers,
        "STOCKWEAVE_TOPIC_PREFIX": prefix,
        "STOCKWEAVE_DATA_DIR": str(folder / "verify"),
    }
    command = [sys.executable, "-m", "stockweave", "verify", "--json"]
    began_s = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began_s
    if done.returncode != 0:
        raise Fatal(f"verify ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-1_000:]}")
    said = orjson.loads(done.stdout)
    if said["events"] != events:
        raise Fatal(f"verify folded {said['events']:,} of {events:,} updates; the figure would be void")
    return events / seconds
