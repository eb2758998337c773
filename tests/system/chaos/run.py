"""One run: a fresh system behind the proxy, a plan of faults, and what is found in the end."""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import fastavro
import psutil

from inventory.stock import StockUpdate
from schemas.codec import FRAME
from schemas.topics import UPDATES
from tests.deployment import Deployment, Snapshot, header
from tests.system.chaos.broker import Broker
from tests.system.chaos.check import Evidence, Logged, check
from tests.system.chaos.disk import NoSmallDisk, SmallDisks
from tests.system.chaos.faults import Faults, World
from tests.system.chaos.feed import Feed, endless
from tests.system.chaos.proxy import Proxy
from tests.system.chaos.readers import Readers, last_answers
from tests.system.chaos.report import TAKEOVER_S_MAX, Report
from tests.system.chaos.watch import Watch
from tests.system.stack import Stack

PARTITIONS, WORKERS, SKUS, SUPPLIERS = 4, 2, 500, 5
READERS, READ_SKUS = 4, 40
FOLDED_S = 120.0
SCHEMA = Path(__file__).parents[3] / "schemas" / "avro" / "StockUpdate.1.avsc"

KINDS = (
    *("kill-worker", "kill-api", "kill-broker", "kill-in-commit", "delay", "cut", "half-open", "late", "zombie"),
    *("freeze-broker", "disk-worker", "disk-api"),
)
HARDEST = ("kill-in-commit", "zombie")
NETWORK = ("delay", "cut", "half-open", "late")
BESIDES = ("delay", "cut", "kill-worker", "kill-api", "kill-broker")  # what may happen while the network is wrong

# So that stores write to their disks all the time, and not only after the first hundred megabytes of rows.
SMALL_STORES = {"STOCKWEAVE_WRITE_BUFFER_BYTES": str(4 << 20), "STOCKWEAVE_ROW_CACHE_BYTES": str(1 << 20)}


@dataclass(frozen=True)
class Options:
    """`faults`: how many; `kinds`: each comes once before one comes again; `seconds`: no fault is begun after them;
    `rate`: updates a second; `gap_s`: between two faults; `half_open_s`: how long nothing comes through."""

    faults: int
    seed: int
    kinds: Sequence[str] = KINDS
    seconds: float = float("inf")
    rate: int = 1_000
    gap_s: tuple[float, float] = (0.5, 4.0)
    half_open_s: tuple[float, float] = (11.0, 18.0)  # longer than a write may take, and than a transaction


async def run(data_dir: Path, options: Options) -> tuple[Report, Evidence]:
    """Everything, from the start to the judgement."""
    rng, report, began_s = random.Random(options.seed), Report(options.seed), time.monotonic()
    disks = _disks(data_dir, options.kinds)
    async with AsyncExitStack() as stop:
        broker = stop.enter_context(Broker(data_dir))
        stack = Stack(
            data_dir,
            WORKERS,
            wrapper=disks.wrapper if disks else (),
            STOCKWEAVE_BOOTSTRAP_SERVERS=f"127.0.0.1:{broker.proxy_port}",
            **SMALL_STORES,
        )
        owner_of = _Owners(stack)
        proxy = await stop.enter_async_context(Proxy(broker.proxy_port, broker.behind_port, owner_of, rng))
        await asyncio.to_thread(stack.start)
        stop.push_async_callback(asyncio.to_thread, stack.stop)  # the proxy goes on meanwhile
        if disks:
            disks.belong_to(stack.process.pid)
        watch = Watch(broker.bootstrap_servers, PARTITIONS)
        watch.start()
        stop.callback(watch.stop)
        workers = [f"worker-{number}" for number in range(WORKERS)]
        faults = Faults(World(stack, broker, proxy, disks, watch, rng, report, options.half_open_s, workers))
        feed = Feed(stack.url, endless(options.seed, SKUS, SUPPLIERS), options.rate, PARTITIONS)
        readers = Readers(stack.url, feed.tokens, [f"sku-{n}" for n in range(READ_SKUS)], READERS, options.seed)
        await _all_at_once(feed, readers, _inject_all(faults, disks, options, rng, began_s))
        evidence = await _gather(stack, broker, watch, feed, readers)
        code = await asyncio.to_thread(stack.stop)
    _judge(report, evidence, feed, readers)
    if code != 0:
        report.problems.append(f"`stockweave up` ended with {code}")
    report.took_s = time.monotonic() - began_s
    return report, evidence


class _Owners:
    """Which child of a stack opened a connection, by its port."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def __call__(self, port: int) -> str | None:
        for name, pid in self._stack.pids.items():
            try:
                if any(c.laddr.port == port for c in psutil.Process(pid).net_connections("tcp4")):
                    return name
            except psutil.NoSuchProcess:
                continue  # it was killed, and its successor has not been heard of yet
        return None


def _disks(data_dir: Path, kinds: Sequence[str]) -> SmallDisks | None:
    if not any(kind.startswith("disk-") for kind in kinds):
        return None
    names = ["api", *(f"worker-{number}" for number in range(WORKERS))]
    try:
        disks = SmallDisks([data_dir.absolute() / name for name in names])
    except NoSmallDisk as why:
        print(f"full disks are left out, for nothing here gives a small one: {why}", flush=True)
        return None
    print(f"full disks: each process has {disks.way}", flush=True)
    return disks


async def _all_at_once(feed: Feed, readers: Readers, injecting: asyncio.Task[None]) -> None:
    """Feed and read as long as there are faults; what fails first ends all."""
    going = [asyncio.create_task(feed.run()), asyncio.create_task(readers.run())]
    try:
        await asyncio.wait({*going, injecting}, return_when=asyncio.FIRST_COMPLETED)
        if not injecting.done():
            injecting.cancel()
    finally:
        feed.stopping.set()
        readers.stopping.set()
        results = await asyncio.gather(*going, injecting, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def _inject_all(
    faults: Faults, disks: SmallDisks | None, options: Options, rng: random.Random, began_s: float
) -> asyncio.Task[None]:
    kinds = [kind for kind in options.kinds if disks or not kind.startswith("disk-")]

    async def inject() -> None:
        besides: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            for kind in plan(kinds, options.faults, rng):
                await asyncio.sleep(rng.uniform(*options.gap_s))
                if time.monotonic() - began_s > options.seconds:
                    break
                if besides is not None and (kind not in BESIDES or besides.done()):
                    await besides
                    besides = None
                if kind in NETWORK and besides is None and rng.random() < 0.5:
                    besides = group.create_task(faults.inject(kind))
                else:
                    await faults.inject(kind)
        await asyncio.gather(*faults.recoveries)

    return asyncio.create_task(inject())


def plan(kinds: Sequence[str], faults: int, rng: random.Random) -> list[str]:
    """Every kind once, in the order given, before any comes again; then at random, the hardest twice as often."""
    weighted = [*kinds, *(kind for kind in kinds if kind in HARDEST)]
    return [kinds[number] if number < len(kinds) else rng.choice(weighted) for number in range(faults)]


async def _gather(stack: Stack, broker: Broker, watch: Watch, feed: Feed, readers: Readers) -> Evidence:
    await asyncio.to_thread(stack.await_ready, "api", 60.0)
    last, on_hand = await last_answers(stack.url, feed.tokens, READERS)
    deployment = Deployment(broker.bootstrap_servers, stack.data_dir, PARTITIONS, prefix="")
    log = await asyncio.to_thread(_read_log, deployment)
    snapshot = await asyncio.to_thread(deployment.wait_folded, len(log), FOLDED_S)
    letters = await asyncio.to_thread(deployment.dead_letters)
    ends = await asyncio.to_thread(watch.ends)
    deadline_s = time.monotonic() + FOLDED_S
    while ends is None or not watch.has_folded(ends):
        assert time.monotonic() < deadline_s, "the watch does not come to the end"
        await asyncio.sleep(0.05)
        ends = ends or await asyncio.to_thread(watch.ends)
    return Evidence(
        feed.acknowledged,
        feed.attempts,
        log,
        snapshot.rows,
        _outcomes(snapshot),
        Counter((int(header(one, "partition")), int(header(one, "offset"))) for one in letters),
        watch.commits,
        readers.answers + last,
        on_hand,
    )


def _read_log(deployment: Deployment) -> list[Logged]:
    """Decoded without anything of ours."""
    schema = fastavro.schema.load_schema(str(SCHEMA))
    found = []
    for message in deployment.read(UPDATES.name):
        body = cast("bytes", message.value())[FRAME.size :]
        decoded = fastavro.schemaless_reader(io.BytesIO(body), schema, None)
        place = cast("int", message.partition()), cast("int", message.offset())
        found.append(Logged(*place, cast("StockUpdate", decoded)))
    return found


def _outcomes(snapshot: Snapshot) -> dict[str, list[int]]:
    sums: dict[str, list[int]] = {}
    for position in snapshot.positions.values():
        for supplier, counts in position.outcomes.items():
            sums[supplier] = [a + b for a, b in zip(sums.get(supplier, [0] * len(counts)), counts, strict=True)]
    return sums


def _judge(report: Report, evidence: Evidence, feed: Feed, readers: Readers) -> None:
    report.verdict = check(evidence)
    report.problems += [
        f"a killed worker's partitions were served again after {s:.1f} s"
        for s in report.takeovers_s
        if s > TAKEOVER_S_MAX
    ]
    answers = evidence.answers
    report.numbers = {
        "updates acknowledged": len(evidence.acknowledged),
        "in the log": len(evidence.log),
        "requests repeated": feed.repeated_requests,
        "refused by the rule": evidence.letters.total(),
        "commits": sum(map(len, evidence.commits)),
        "SKUs compared": len(evidence.on_hand),
        "answers held against the reference": len(answers),
        "of them read after a write": sum(answer.asked_for is not None for answer in answers),
        "not modified": readers.unchanged,
        "reads turned away": readers.refused,
    }
