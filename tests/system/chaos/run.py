"""One run: a fresh system behind the proxy, a plan of faults, and what is found in the end."""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import fastavro
from confluent_kafka import Message

from inventory.stock import StockUpdate
from schemas.codec import FRAME
from schemas.topics import DEAD_LETTERS, UPDATES
from tests.deployment import Deployment, Hanging, Snapshot, header, letters
from tests.system.chaos.check import Evidence, Logged, Place, check
from tests.system.chaos.disk import NoSmallDisk, SmallDisks
from tests.system.chaos.faults import Faults
from tests.system.chaos.feed import Feed, endless
from tests.system.chaos.plan import Options, Plan
from tests.system.chaos.readers import Readers, last_answers
from tests.system.chaos.report import TAKEOVER_S_MAX, Report
from tests.system.chaos.setting import PARTITIONS, WORKERS, all_at_once, started
from tests.system.chaos.watch import Watch
from tests.system.stack import Stack

SKUS, SUPPLIERS = 500, 5
READERS, READ_SKUS = 4, 40
FOLDED_S = 120.0
SCHEMA = Path(__file__).parents[3] / "schemas" / "avro" / "StockUpdate.1.avsc"


async def run(data_dir: Path, options: Options) -> tuple[Report, Evidence]:
    """Everything, from the start to the judgement."""
    rng, report, began_s = random.Random(options.seed), Report(options.seed), time.monotonic()
    disks = _disks(data_dir, options.kinds)
    async with started(data_dir, options, rng, report, disks) as world:
        stack, faults = world.stack, Faults(world)
        feed = Feed(stack.url, endless(options.seed, SKUS, SUPPLIERS), options.rate, PARTITIONS)
        readers = Readers(stack.url, feed.tokens, [f"sku-{n}" for n in range(READ_SKUS)], READERS, options.seed)
        kinds = [kind for kind in options.kinds if disks or not kind.startswith("disk-")]
        plan = Plan(faults, kinds, options, rng, report)
        await all_at_once(plan.carry_out(), [(feed.run(), feed.stopping), (readers.run(), readers.stopping)])
        evidence = await _gather(stack, world.broker.bootstrap_servers, world.watch, feed, readers)
        code = await asyncio.to_thread(stack.stop)
    _judge(report, evidence, feed, readers)
    if code != 0:
        report.problems.append(f"`stockweave up` ended with {code}")
    report.took_s = time.monotonic() - began_s
    return report, evidence


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


def _read_letters(deployment: Deployment) -> Counter[Place]:
    """The updates that dead letters name."""

    def named(messages: Iterable[Message]) -> list[Place]:
        return [(int(header(one, "partition")), int(header(one, "offset"))) for one in letters(messages)]

    try:
        found = list(deployment.read(DEAD_LETTERS.name))
        if len(letters(found)) == len(found):
            return Counter(named(found))
        print("  a start has ended a transaction that hung in the dead letters: each is looked at once")
        return Counter(set(named(found)))
    except Hanging as why:  # a broker killed inside a commit may do that; docs/kafka.md, `Hanging transactions`
        print(f"  {why}: Kafka has lost a marker of a transaction; all there are, committed or not, are looked at once")
        return Counter(set(named(deployment.read(DEAD_LETTERS.name, committed=False))))


async def _gather(stack: Stack, bootstrap_servers: str, watch: Watch, feed: Feed, readers: Readers) -> Evidence:
    """What is not folded, or not answered, after `FOLDED_S` is left to the judgement."""
    deployment = Deployment(bootstrap_servers, stack.data_dir, PARTITIONS, prefix="")
    log = await asyncio.to_thread(_read_log, deployment)
    ends = [1 + max((one.offset for one in log if one.partition == p), default=-1) for p in range(PARTITIONS)]
    deadline_s = time.monotonic() + FOLDED_S
    await asyncio.to_thread(watch.wait_folded, ends, deadline_s)
    last, on_hand = await last_answers(stack.url, feed.tokens, READERS, deadline_s)
    snapshot = await asyncio.to_thread(deployment.stock)
    letters = await asyncio.to_thread(_read_letters, deployment)
    return Evidence(
        feed.acknowledged,
        feed.attempts,
        log,
        snapshot.rows,
        _outcomes(snapshot),
        letters,
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
