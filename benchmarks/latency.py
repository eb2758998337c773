"""From 202 to visible in a read: single updates through HTTP at a steady rate, against the bare path beside it.

The clock of an update starts when its 202 has arrived, and stops when a GET that was given its token (`min_offset`) has
answered. The GETs are a sample, so that reading does not become the load. The bare path is the least that any such
system has to do with the same Kafka, in the same run: produce, a transaction a batch, a read_committed follower, in
three processes, with no HTTP, no fold and no disk.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import tempfile
import time
from pathlib import Path

import aiohttp
import orjson
import uvloop

from benchmarks import bare
from benchmarks.figures import line, machine
from tests.system.stack import Stack

SKUS, SUPPLIERS = 10_000, 5
WARM_UP_S = 3.0
MEDIAN_MS_MAX, P99_MS_MAX = 25.0, 75.0


class Load:
    """An open loop: updates leave when they are due, however long others take."""

    def __init__(self, url: str, rate: int, seconds: float, sample_every: int) -> None:
        self._url, self._rate, self._seconds, self._sample_every = url, rate, seconds, sample_every
        self.visible_s: list[float] = []
        self.accepted_s: list[float] = []
        self.late = 0
        self._rng = random.Random(1)

    async def run(self) -> None:
        """Send for `seconds`, after a warm-up that is not counted."""
        connector = aiohttp.TCPConnector(limit=256)
        async with aiohttp.ClientSession(self._url, connector=connector) as session:
            began, under_way = time.perf_counter(), set()
            for i in itertools.count():
                due = began + i / self._rate
                if due > began + WARM_UP_S + self._seconds:
                    break
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                elif wait < -1:
                    self.late += 1
                counted = due > began + WARM_UP_S
                task = asyncio.create_task(self._one(session, i, counted and i % self._sample_every == 0, counted))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.gather(*under_way)

    async def _one(self, session: aiohttp.ClientSession, i: int, sampled: bool, counted: bool) -> None:
        sku = f"SKU-{self._rng.randrange(SKUS):06d}"
        now_ms = time.time_ns() // 1_000_000
        body = {"sku": sku, "kind": "DELTA", "quantity": 1, "timestamp": now_ms, "updateId": f"bench-{now_ms}-{i}"}
        path = f"/api/v1/suppliers/supplier-{i % SUPPLIERS}/inventory-update"
        sent = time.perf_counter()
        headers = {"Content-Type": "application/json"}
        async with session.post(path, data=orjson.dumps(body), headers=headers) as answer:
            said = orjson.loads(await answer.read())
            if answer.status != 202:
                raise SystemExit(f"an update was answered {answer.status}: {said}")
        accepted = time.perf_counter()
        if counted:
            self.accepted_s.append(accepted - sent)
        if sampled:
            async with session.get("/api/v1/inventory", params={"sku": sku, "min_offset": said["token"]}) as answer:
                await answer.read()
                if answer.status != 200:
                    raise SystemExit(f"a read was answered {answer.status}")
            self.visible_s.append(time.perf_counter() - accepted)


def main(arguments: list[str]) -> int:
    """The command; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks latency", description=__doc__)
    parser.add_argument("--rate", type=int, default=1_000, help="updates per second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--runs", type=int, default=3, help="the median of the runs counts")
    parser.add_argument("--sample", type=int, default=10, help="read every so-manieth update")
    options = parser.parse_args(arguments)
    print(machine())
    medians, p99s = [], []
    with tempfile.TemporaryDirectory(prefix="stockweave-bench-") as folder, Stack(Path(folder), workers=1) as stack:
        for run in range(1, options.runs + 1):
            load = Load(stack.url, options.rate, options.seconds, options.sample)
            uvloop.run(load.run())
            print(
                f"run {run}: {options.rate} updates/s for {options.seconds:.0f} s"
                + f", {load.late} late" * bool(load.late)
            )
            print(line("  POST to 202", load.accepted_s))
            print(line("  202 to visible in a read", load.visible_s))
            limit = bare.measure(stack.bootstrap_servers, options.rate, min(options.seconds, 10.0))
            print(line("  bare path, for comparison", limit), flush=True)
            ordered = sorted(load.visible_s)
            medians.append(ordered[len(ordered) // 2] * 1e3)
            p99s.append(ordered[int(len(ordered) * 0.99)] * 1e3)
    median, p99 = sorted(medians)[len(medians) // 2], sorted(p99s)[len(p99s) // 2]
    bars = f"bars {MEDIAN_MS_MAX:.0f} and {P99_MS_MAX:.0f} ms"
    print(f"median of {options.runs} runs: p50 {median:.1f} ms, p99 {p99:.1f} ms ({bars})")
    return 0 if median < MEDIAN_MS_MAX and p99 < P99_MS_MAX else 1
