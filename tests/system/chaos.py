"""Kills workers, the API and the broker at random while a feed runs, and compares every number afterwards.

`python -m tests.system.chaos --kills 20`, or `make chaos`. The feed goes through HTTP and repeats what was not
acknowledged, as a supplier does; the answers are compared with the tests' own reference, the log with the outcomes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from confluent_kafka import Consumer, KafkaException, TopicPartition

from inventory.stock import StockUpdate
from schemas import keys
from schemas.rows import decode_position
from schemas.topics import STOCK, UPDATES
from stockweave.clients import CLIENT_LOGGER, client_config
from tests.deployment import Deployment, some_updates
from tests.inventory.reference import Event, LogOrder
from tests.system.stack import Stack

PARTITIONS = 4
TAKEOVER_S_MAX = 15.0  # of a worker alone
BROKER_SETTLES_S = 30.0  # until then the other partitions may be away as well
LINES_PER_REQUEST = 200


@dataclass
class Report:
    """What a run found; `problems` is empty when nothing was lost, doubled or wrong."""

    events: int = 0
    acknowledged: int = 0
    repeated_requests: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    takeovers_s: list[float] = field(default_factory=list)
    takeovers_after_broker_s: list[float] = field(default_factory=list)
    skus: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{sum(self.kills.values())} kills: " + ", ".join(f"{k} {n}" for k, n in sorted(self.kills.items())),
            f"{self.events} updates, {self.acknowledged} acknowledged, {self.repeated_requests} requests repeated",
            f"a killed worker's partitions served again: {_spread(self.takeovers_s)}",
            f"the same within {BROKER_SETTLES_S:.0f} s of a broker's kill: {_spread(self.takeovers_after_broker_s)}",
            f"checked {self.skus} SKUs: {len(self.problems)} differ",
        ]
        return "\n".join(lines + self.problems[:20])


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "no such kill"
    return f"after {statistics.median(seconds):.1f} s (median), {max(seconds):.1f} s (worst), {len(seconds)} kills"


class Watch(threading.Thread):
    """Follows the positions in inventory.stock: when was which offset folded."""

    def __init__(self, bootstrap_servers: str) -> None:
        super().__init__(daemon=True)
        self._consumer = Consumer(
            client_config(bootstrap_servers)
            | {"group.id": "chaos-watch", "isolation.level": "read_committed", "auto.offset.reset": "earliest"},
            logger=CLIENT_LOGGER,
        )
        self._consumer.assign([TopicPartition(STOCK.name, p, 0) for p in range(PARTITIONS)])
        self._asker = Consumer(client_config(bootstrap_servers) | {"group.id": "chaos-ends"}, logger=CLIENT_LOGGER)
        self._seen: list[list[tuple[float, int]]] = [[] for _ in range(PARTITIONS)]
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            for message in self._consumer.consume(5_000, 0.1):
                value, partition = message.value(), message.partition()
                if message.error() is None and message.key() == keys.POSITION and value and partition is not None:
                    offset = decode_position(value).offsets[UPDATES.name]
                    self._seen[partition].append((time.monotonic(), offset))
        self._consumer.close()

    def ends(self) -> list[int] | None:
        """The next offset of each partition of inventory.updates; None while the broker is away."""
        try:
            found = [
                self._asker.get_watermark_offsets(TopicPartition(UPDATES.name, p), timeout=5) for p in range(PARTITIONS)
            ]
        except KafkaException:
            return None
        return [low_high[1] for low_high in found if low_high is not None]

    def folded_after_s(self, since: float, ends: list[int]) -> float | None:
        """Seconds from `since` until all partitions were folded up to `ends`; None while they are not."""
        took = 0.0
        for seen, end in zip(self._seen, ends, strict=True):
            at = next((t for t, offset in list(seen) if offset >= end), None)
            if at is None:
                return None
            took = max(took, at - since)
        return took

    def stop(self) -> None:
        self._stopping.set()
        self.join()
        self._asker.close()


class Feed:
    """Sends updates in order, by supplier, and repeats a request until all of it is acknowledged."""

    def __init__(self, url: str, updates: list[StockUpdate], rate: int, report: Report) -> None:
        self._url, self._updates, self._rate, self._report = url, updates, rate, report
        self.sent: list[StockUpdate] = []
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            began = time.monotonic()
            for first in range(0, len(self._updates), LINES_PER_REQUEST):
                if self.stopping.is_set():
                    return
                chunk = self._updates[first : first + LINES_PER_REQUEST]
                by_supplier: dict[str, list[StockUpdate]] = {}
                for one in chunk:
                    by_supplier.setdefault(one["supplier_id"], []).append(one)
                await asyncio.gather(*(self._send(session, s, some) for s, some in by_supplier.items()))
                self.sent += chunk
                await asyncio.sleep(max(0.0, began + first / self._rate - time.monotonic()))

    async def _send(self, session: aiohttp.ClientSession, supplier: str, updates: list[StockUpdate]) -> None:
        body = b"\n".join(orjson.dumps(line_of(u)) for u in updates)
        url = f"{self._url}/api/v1/suppliers/{supplier}/inventory-batch-update"
        headers = {"Content-Type": "application/x-ndjson"}
        deadline = time.monotonic() + 120
        while True:
            try:
                async with session.post(url, data=body, headers=headers) as answer:
                    said = await answer.json(content_type=None)
                    if answer.status == 202:
                        self._report.acknowledged += said["accepted"]
                        return
                    assert answer.status == 503, (answer.status, said)
            except (aiohttp.ClientError, TimeoutError):
                pass  # the API was killed: what it took in is in doubt, so all of it is sent again
            assert time.monotonic() < deadline, "the API did not come back within 120 s"
            self._report.repeated_requests += 1
            await asyncio.sleep(0.2)


def line_of(update: StockUpdate) -> dict[str, Any]:
    """An update as the push endpoint takes it."""
    return {
        "sku": update["sku"],
        "kind": update["kind"],
        "quantity": update["quantity"],
        "timestamp": update["observed_at"],
        "updateId": update["update_id"],
    }


async def run(data_dir: Path, kills: int, seed: int, rate: int, gap_s: tuple[float, float]) -> Report:
    """One run against a fresh stack of two workers."""
    report, rng = Report(), random.Random(seed)
    with Stack(data_dir, workers=2) as stack:
        updates = some_updates(rate * int(kills * (gap_s[1] + 8) + 60), skus=500, suppliers=5, seed=seed)
        watch = Watch(stack.bootstrap_servers)
        watch.start()
        feed = Feed(stack.url, updates, rate, report)
        feeding = asyncio.create_task(feed.run())
        victims = ["worker-0", "worker-1", "api", "broker"]
        broker_killed_at = -BROKER_SETTLES_S
        for i in range(kills):
            await asyncio.sleep(rng.uniform(*gap_s))
            victim = victims[i] if i < len(victims) else rng.choice(victims)
            before = await asyncio.to_thread(watch.ends)
            killed_at = time.monotonic()
            await asyncio.to_thread(stack.kill, victim)
            report.kills[victim] += 1
            print(f"kill {i + 1}/{kills}: {victim}", flush=True)
            if victim.startswith("worker") and before is not None:
                took_s = await takeover(watch, killed_at, before)
                alone = killed_at - broker_killed_at > BROKER_SETTLES_S
                (report.takeovers_s if alone else report.takeovers_after_broker_s).append(took_s)
                print(f"  served again after {took_s:.1f} s", flush=True)
            elif victim == "broker":
                broker_killed_at = killed_at
        feed.stopping.set()
        await feeding
        await compare(stack, feed.sent, report)
        watch.stop()
        code = await asyncio.to_thread(stack.stop)
        if code != 0:
            report.problems.append(f"`stockweave up` ended with {code}")
    return report


async def takeover(watch: Watch, killed_at: float, before: list[int]) -> float:
    """How long after a worker's death something that came to every partition after it was folded."""
    after: list[int] | None = None
    while time.monotonic() < killed_at + 60:
        if after is None:
            ends = await asyncio.to_thread(watch.ends)
            if ends is not None and all(now > then for now, then in zip(ends, before, strict=True)):
                after = ends
        elif (took_s := watch.folded_after_s(killed_at, after)) is not None:
            return took_s
        await asyncio.sleep(0.05)
    return 60.0


async def compare(stack: Stack, sent: list[StockUpdate], report: Report) -> None:
    """Every answer with the reference, and the outcomes with the log."""
    report.events = len(sent)
    await asyncio.to_thread(stack.await_ready, "api", 60.0)
    deployment = Deployment(stack.bootstrap_servers, stack.data_dir, PARTITIONS, prefix="")
    ends = await asyncio.to_thread(deployment.end_of_updates)
    snapshot = await asyncio.to_thread(deployment.wait_folded, ends, 90.0)
    if snapshot.events != ends:
        report.problems.append(f"{ends} updates in the log, {snapshot.events} outcomes")
    if ends < len(sent):
        report.problems.append(f"{len(sent)} updates were acknowledged, {ends} are in the log")
    if letters := deployment.dead_letters():
        report.problems.append(f"{len(letters)} dead letters, none was expected")
    if snapshot.versions_fell:
        report.problems.append(f"versions went back: {snapshot.versions_fell[:5]}")
    expected = by_supplier(sent)
    report.skus = len(expected)
    async with aiohttp.ClientSession() as session:
        for sku, suppliers in expected.items():
            answered = await answer_of(session, stack.url, sku)
            if answered != suppliers:
                report.problems.append(f"{sku}: answered {answered}, expected {suppliers}")


async def answer_of(session: aiohttp.ClientSession, url: str, sku: str) -> dict[str, int]:
    """On hand by supplier, once the API has all of it."""
    async with session.get(f"{url}/api/v1/inventory", params={"sku": sku}) as answer:
        said = await answer.json(content_type=None)
        assert answer.status == 200, (sku, answer.status, said)
    on_hand = {s["supplierId"]: s["quantity"] for s in said["suppliers"]}
    assert said["available_quantity"] == sum(max(0, quantity) for quantity in on_hand.values()), said
    return on_hand


def by_supplier(updates: list[StockUpdate]) -> dict[str, dict[str, int]]:
    """On hand by SKU and supplier, by the tests' own reference."""
    sources: dict[tuple[str, str], LogOrder] = {}
    for u in updates:
        source = sources.setdefault((u["sku"], u["supplier_id"]), LogOrder(7 * 86_400_000, 256))
        source.see(Event(u["kind"], u["update_id"], u["observed_at"], u["quantity"]))
    found: dict[str, dict[str, int]] = {}
    for (sku, supplier), source in sources.items():
        found.setdefault(sku, {})[supplier] = source.row()["on_hand"]
    return found


def main() -> int:
    """The command; 1 when anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--data-dir", type=Path, help="kept, with its logs; unset: a temporary one")
    parser.add_argument("--rate", type=int, default=1_000, help="updates per second")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="stockweave-chaos-") as folder:
        data_dir = arguments.data_dir or Path(folder)
        report = asyncio.run(run(data_dir, arguments.kills, arguments.seed, arguments.rate, (0.5, 6.0)))
    print(report)
    late = [s for s in report.takeovers_s if s > TAKEOVER_S_MAX]
    return 1 if report.problems or late else 0


if __name__ == "__main__":
    raise SystemExit(main())
