"""From 202 to visible in a read, at steady rates of updates, against the bare path beside it.

Up to 1,000 updates/s each is a request of its own. From 10,000/s on they come as NDJSON batches of 100 lines, for on
two cores neither this load nor one API process takes as many single requests; the clock starts at the batch's 202, and
the read asks for its last line. The bare path is the least that any such system has to do with the same Kafka, at the
same rate, in the same run: produce, a transaction a batch, a read_committed follower, in three processes, with no HTTP,
no fold and no disk.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import bare, results
from benchmarks.figures import QUANTILES, line, machine, quantile
from benchmarks.load import Load
from benchmarks.table import table
from tests.system.stack import Stack

RATES = [100, 1_000, 10_000, 30_000]
BATCHED_FROM, BATCH_LINES = 10_000, 100
P99_MS_MAX = 75.0
BAR_UP_TO = 10_000
BARE_S_MAX = 10.0

Quantiles = dict[str, float]
"""Milliseconds by quantile: p50, p99, p99.9."""


def main(arguments: list[str]) -> int:
    """The command; 1 when a bar is missed."""
    options = _options(arguments)
    print(machine())
    figures: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="stockweave-bench-") as folder, Stack(Path(folder), workers=1) as stack:
        for rate in options.rates:
            figures[rate] = _measure(stack, rate, options.seconds, options.runs)
    print(_table(figures))
    missed = [rate for rate in figures if rate <= BAR_UP_TO and not figures[rate]["visible"]["p99"] < P99_MS_MAX]
    said = f"p99 under {P99_MS_MAX:.0f} ms up to {BAR_UP_TO:,} updates/s, median of {options.runs} runs"
    print(f"{said}: {'missed at ' + ', '.join(f'{rate:,}/s' for rate in missed) if missed else 'held'}")
    if options.save:
        results.save("latency", vars(options), {str(rate): of_rate for rate, of_rate in figures.items()})
    return 1 if missed else 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks latency", description=__doc__)
    parser.add_argument(
        "--rates", type=lambda text: [int(rate) for rate in text.split(",")], default=RATES, help="updates per second"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--runs", type=int, default=5, help="at each rate; the median of the runs counts")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/latency.json")
    return parser.parse_args(arguments)


def _measure(stack: Stack, rate: int, seconds: float, runs: int) -> dict[str, Any]:
    lines = BATCH_LINES if rate >= BATCHED_FROM else 1
    how = f"in batches of {lines} lines" if lines > 1 else "one by one"
    visible: list[Quantiles] = []
    accepted: list[Quantiles] = []
    limit: list[Quantiles] = []
    late = 0
    for run in range(1, runs + 1):
        load = Load(stack.url, rate, seconds, lines)
        uvloop.run(load.run())
        late += load.late
        bare_s = bare.measure(stack.bootstrap_servers, rate, min(seconds, BARE_S_MAX))
        print(f"run {run}: {rate:,} updates/s {how} for {seconds:.0f} s" + f", {load.late} sent late" * bool(load.late))
        print(line("  request to 202", load.accepted_s))
        print(line("  202 to visible in a read", load.visible_s))
        print(line("  bare path, for comparison", bare_s), flush=True)
        for kept, found in ((visible, load.visible_s), (accepted, load.accepted_s), (limit, bare_s)):
            kept.append(in_ms(found))
    medians = {"accepted": median_of(accepted), "visible": median_of(visible), "bare": median_of(limit)}
    return {"lines": lines, "late": late, **medians, "visible_runs": visible}


def in_ms(seconds: Sequence[float]) -> Quantiles:
    """Quantiles of one run."""
    return {name: round(quantile(seconds, q) * 1e3, 2) for name, q in QUANTILES}


def median_of(runs: Sequence[Quantiles]) -> Quantiles:
    """Of each quantile, the median of the runs."""
    return {name: statistics.median(run[name] for run in runs) for name, _ in QUANTILES}


def _table(figures: dict[int, dict[str, Any]]) -> str:
    head = ["updates/s", "lines", *(f"{name} ms" for name, _ in QUANTILES), *(f"bare {name}" for name, _ in QUANTILES)]
    rows = []
    for rate, of_rate in figures.items():
        cells = [of_rate[part][name] for part in ("visible", "bare") for name, _ in QUANTILES]
        rows.append(
            [f"{rate:,}", str(of_rate["lines"]), *("-" if math.isnan(cell) else f"{cell:.1f}" for cell in cells)]
        )
    return table(head, rows)
