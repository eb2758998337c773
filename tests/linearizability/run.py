"""One run: a fresh system with two API processes behind the proxy, a plan of faults, shoppers, and the judgement."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.deployment import Deployment
from tests.linearizability import conservation, ends, history, porcupine, reads, second_api
from tests.linearizability.calls import Caller, Door
from tests.linearizability.history import Fault
from tests.linearizability.order import order
from tests.linearizability.report import Report
from tests.linearizability.second_api import SecondApi
from tests.linearizability.shoppers import Shoppers
from tests.reservations import check as check_reservations
from tests.system.chaos import plan
from tests.system.chaos.faults import API, Faults, World
from tests.system.chaos.feed import Feed, endless
from tests.system.chaos.plan import Plan
from tests.system.chaos.report import Report as OfFaults
from tests.system.chaos.setting import PARTITIONS, all_at_once, started

SKUS, SUPPLIERS = 50, 3  # of the updates that come besides, so that there is always something to commit
DRIFT_MS_MAX = 10  # of the machine's two clocks from one window to the next: the checker allows for 25


@dataclass(frozen=True)
class Options:
    """What a run is to be. `faults`: also the seed; `calls`: at least; `window`: calls on one SKU, about."""

    faults: plan.Options
    calls: int = 0
    window: int = 2_000


class _Noted(Faults):
    """Faults that are written into the history."""

    def __init__(self, world: World, caller: Caller) -> None:
        super().__init__(world)
        self._caller = caller

    def _count(self, kind: str, what: str) -> None:
        super()._count(kind, what)
        self._caller.records.append(Fault(at=history.now(), what=f"{kind}: {what}"))


async def run(folder: Path, path: Path, options: Options) -> Report:
    """Everything but the search, which `judge` adds to the report.

    Args:
        folder: for the system's data.
        path: where the history goes.
        options: of the run.
    """
    seed = options.faults.seed
    rng, of_faults, began_s = random.Random(seed), OfFaults(seed), time.monotonic()
    report = Report(of_faults)
    async with AsyncExitStack() as stop:
        world = await stop.enter_async_context(started(folder, options.faults, rng, of_faults, None))
        other = SecondApi(folder, f"127.0.0.1:{world.broker.proxy_port}")
        stop.push_async_callback(asyncio.to_thread, other.stop)
        await asyncio.to_thread(other.start)
        world.others[second_api.NAME] = other
        http = await stop.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        doors = [Door(API, world.stack.url), Door(second_api.NAME, other.url)]
        caller = Caller(doors, http, random.Random(seed + 1))
        try:
            evidence = await _ask(world, caller, options, of_faults)
            caller.records += [*order(evidence.facts, caller.records)]
        finally:
            history.write(caller.records, path)
    report.conserved = conservation.check(evidence)
    report.read = reads.check(caller.records)
    report.count(caller.records)
    report.took_s = time.monotonic() - began_s
    return report


async def _ask(world: World, caller: Caller, options: Options, of_faults: OfFaults) -> conservation.Evidence:
    """While things go wrong, and once they do no more."""
    seed = options.faults.seed
    shoppers = Shoppers(caller, options.window, options.calls, seed + 2)
    feed = Feed(world.stack.url, endless(seed, SKUS, SUPPLIERS), options.faults.rate, PARTITIONS)
    faults = Plan(_Noted(world, caller), options.faults.kinds, options.faults, world.rng, of_faults)

    async def until_enough() -> None:
        await faults.carry_out()
        await shoppers.enough.wait()

    await all_at_once(until_enough(), [(shoppers.run(), shoppers.stopping), (feed.run(), feed.stopping)])
    of_faults.problems += _drift(caller)
    deployment = Deployment(world.broker.bootstrap_servers, world.stack.data_dir, PARTITIONS, prefix="")
    evidence = await ends.gather(caller, shoppers.windows, deployment)
    try:
        await asyncio.to_thread(lambda: check_reservations(deployment.stock(), deployment))
    except AssertionError as why:
        of_faults.problems.append(f"rows, holds and facts differ: {why}")
    return evidence


def _drift(caller: Caller) -> list[str]:
    """When a reservation was made and lapses is told in UTC, and all else by the history's clock."""
    caller.records.append(history.clock())
    offsets = [one.wall_ms - one.at / 1e6 for one in caller.records if isinstance(one, history.Clock)]
    drift_ms = max((abs(after - before) for before, after in itertools.pairwise(offsets)), default=0.0)
    return [f"the machine's clocks moved by {drift_ms:.0f} ms against one another"] if drift_ms > DRIFT_MS_MAX else []


def judge(report: Report, checker: Path, path: Path, drawings: Path) -> None:
    """Let the checker search each window of a history for an order; `drawings`: a folder, for those that have none."""
    began_s = time.monotonic()
    report.verdicts = porcupine.judge(checker, path, drawings=drawings)
    report.checked_s = time.monotonic() - began_s
