"""How a deployment grows: events/s of 1, 2 and 4 workers over one topic; disk and memory of one by the number of SKUs.

The workers share the machine's cores, so beyond those only the processor time of an event can stay the same. Rows have
five sources; memory is the peak while a worker restores all rows and then folds updates of all of them.
"""

from __future__ import annotations

import argparse
import time
import uuid
from pathlib import Path
from subprocess import Popen

from benchmarks import results
from benchmarks.figures import machine
from benchmarks.fill import Filling, fill
from benchmarks.kafka import own_broker
from benchmarks.observe import Measured, Watch
from benchmarks.peers.stockweave_worker import forget_rows, settings_of, spawn_worker
from benchmarks.profile import Profile
from benchmarks.row_fill import RowFilling, fill_rows
from benchmarks.table import table
from schemas.admin import ensure_topics
from schemas.topics import STOCK, UPDATES

PARTITIONS = 4
WARM_UP = 500_000
ROW_BYTES_MAX = 600
MEMORY_BYTES_MAX = 1 << 30
STOP_S = 60.0

Figures = dict[str, float]


def main(arguments: list[str]) -> int:
    """The command; 1 when a bar is missed."""
    options = _options(arguments)
    print(machine())
    by_workers = _by_workers(options.workers, Profile(skus=options.skus), options.events)
    print(_workers_table(by_workers), flush=True)
    by_rows = {rows: _by_rows(rows, options.updates) for rows in options.rows}
    head = ["SKUs", "bytes per row", "disk MB", "worker's peak MB", "updates/s"]
    columns = ["row_bytes", "disk_mb", "peak_mb", "per_second"]
    print(table(head, [[f"{rows:,}", *(f"{f[c]:,.0f}" for c in columns)] for rows, f in by_rows.items()]))
    missed = [f"{rows:,} SKUs: {why}" for rows, found in by_rows.items() for why in over_bars(found)]
    bars = f"under {ROW_BYTES_MAX} bytes a row and 1 GiB a worker"
    print(f"{bars}: {'missed: ' + '; '.join(missed) if missed else 'held'}")
    if options.save:
        workers = {str(n): m._asdict() | {"per_second": m.per_second} for n, m in by_workers.items()}
        results.save("scale", vars(options), {"workers": workers, "rows": {str(n): f for n, f in by_rows.items()}})
    return 1 if missed else 0


def over_bars(found: Figures) -> list[str]:
    """The figures that are over their bars."""
    over = []
    if found["row_bytes"] >= ROW_BYTES_MAX:
        over.append(f"{found['row_bytes']:.0f} bytes a row")
    if found["peak_mb"] * 1e6 >= MEMORY_BYTES_MAX:
        over.append(f"{found['peak_mb']:,.0f} MB")
    return over


def _options(arguments: list[str]) -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(n) for n in text.split(",") if n]

    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=__doc__)
    parser.add_argument("--workers", type=numbers, default=[1, 2, 4], help="processes")
    parser.add_argument("--events", type=int, default=2_000_000, help="for each number of workers, after the warm-up")
    parser.add_argument("--skus", type=int, default=100_000, help="of those events")
    parser.add_argument("--rows", type=numbers, default=[100_000, 1_000_000, 5_000_000], help="numbers of SKUs")
    parser.add_argument("--updates", type=int, default=500_000, help="of those SKUs")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/scale.json")
    return parser.parse_args(arguments)


def _by_workers(numbers: list[int], profile: Profile, events: int) -> dict[int, Measured]:
    measured: dict[int, Measured] = {}
    if not numbers:
        return measured
    with own_broker() as (broker, folder):
        bootstrap, prefix = broker.bootstrap_servers, f"bench-{uuid.uuid4().hex[:6]}."
        settings = settings_of(bootstrap, prefix, PARTITIONS, folder)
        topic = ensure_topics(settings, bootstrap)[UPDATES.name].name
        seconds = fill(Filling(bootstrap, topic, PARTITIONS, profile, WARM_UP + events))
        print(f"{profile.base_events + WARM_UP + events:,} updates filled in {seconds:.0f} s", flush=True)
        warm = profile.base_events + WARM_UP
        for number in numbers:
            forget_rows(settings, bootstrap)
            workers = [spawn_worker(bootstrap, prefix, folder / f"{number}-{i}") for i in range(number)]
            watch = Watch(bootstrap, settings.group, topic, PARTITIONS)
            try:
                measured[number] = watch.measure(warm, warm + events, workers)
            finally:
                watch.close()
                _stop(workers)
    return measured


def _workers_table(by_workers: dict[int, Measured]) -> str:
    rows = [
        [str(number), f"{m.per_second:,.0f}", f"{m.per_cpu_second:,.0f}", f"{m.peak_bytes / 1e6 / number:,.0f}"]
        for number, m in by_workers.items()
    ]
    return table(["workers", "events/s", "per CPU-s", "peak MB each"], rows)


def _by_rows(rows: int, updates: int) -> Figures:
    with own_broker() as (broker, folder):
        bootstrap, prefix = broker.bootstrap_servers, f"bench-{uuid.uuid4().hex[:6]}."
        settings = settings_of(bootstrap, prefix, PARTITIONS, folder)
        topics = ensure_topics(settings, bootstrap)
        fill_rows(RowFilling(bootstrap, topics[STOCK.name].name, PARTITIONS, rows))
        fill(Filling(bootstrap, topics[UPDATES.name].name, PARTITIONS, Profile(skus=rows), updates, with_base=False))
        worker = spawn_worker(bootstrap, prefix, folder / "worker")
        watch = Watch(bootstrap, settings.group, topics[UPDATES.name].name, PARTITIONS)
        try:
            samples = watch.until(updates, [worker])
        finally:
            watch.close()
            _stop([worker])
        began = next(sample for sample in samples if sample.committed)
        disk_bytes = folder_bytes(folder / "worker" / "data" / "stock")
    peak_bytes = max(sample.rss_bytes for sample in samples)
    seconds = max(samples[-1].at_s - began.at_s, 1e-3)
    print(f"{rows:,} SKUs: {disk_bytes / rows:.0f} bytes a row, peak {peak_bytes / 1e6:,.0f} MB", flush=True)
    return {
        "row_bytes": disk_bytes / rows,
        "disk_mb": disk_bytes / 1e6,
        "peak_mb": peak_bytes / 1e6,
        "per_second": (samples[-1].committed - began.committed) / seconds,
    }


def folder_bytes(folder: Path) -> int:
    """Of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _stop(workers: list[Popen[bytes]]) -> None:
    for worker in workers:
        worker.terminate()
    deadline_s = time.monotonic() + STOP_S
    for worker in workers:
        worker.wait(max(1.0, deadline_s - time.monotonic()))
