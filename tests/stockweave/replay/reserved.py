"""A deployment in which reservations were decided by a worker, and what must hold of them whoever made the rows."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Producer

from inventory.stock import StockUpdate
from schemas import keys
from schemas.reservations import Hold
from schemas.rows import Position, encode
from schemas.topics import COMMANDS, STOCK
from stockweave.world import SystemClock
from streams.assembly import Engine
from tests.deployment import Deployment, Snapshot, drive, drive_events, ready
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.inventory.reservations.builders import command
from tests.streams.staging import Stopped, keep_for

SKUS = 6
BASE_MS = 1_700_000_000_000


def counts(n: int = 0, units: int = 50, skus: int = SKUS) -> list[StockUpdate]:
    """A count of every SKU by two suppliers; a later `n` is observed later."""
    made = []
    for i in range(skus):
        for supplier in ("acme", "globex"):
            event = Event("COUNT", f"c{n}-{i}", BASE_MS + n * 1_000, units + i)
            made.append(update(event, sku=f"sku-{i}", supplier_id=supplier))
    return made


def drawn(seed: int, count: int, skus: int = SKUS) -> list[dict[str, Any]]:
    """Commands of all kinds: holds with and without an order, some for unknown SKUs, and what becomes of them."""
    rng = random.Random(seed)
    made: list[dict[str, Any]] = []
    held: list[tuple[str, str]] = []
    for n in range(count):
        action = rng.choice(("HOLD", "HOLD", "COMMIT", "COMMIT", "FULFIL", "RELEASE", "EXTEND")) if held else "HOLD"
        if action == "HOLD":
            sku = "nobody-has-it" if rng.random() < 0.05 else f"sku-{rng.randrange(skus)}"
            held.append((sku, f"r{seed}-{n}"))
            order = rng.choice((None, f"o{seed}-{n}"))
            fields = {"quantity": rng.randint(1, 9), "order_id": order, "channel": rng.choice(("default", "shop"))}
            sku, reservation = held[-1]
        else:
            sku, reservation = rng.choice(held)
            fields = {"quantity": rng.choice((0, 0, 1))}
        made.append(dict(command(action, sku=sku, reservation_id=reservation, command_id=f"x{seed}-{n}", **fields)))
    return made


def shipments(commands: Iterable[Mapping[str, Any]]) -> list[StockUpdate]:
    """A unit of each order leaves one supplier or the other, before the next count or after it."""
    made = []
    for n, asked in enumerate(commands):
        if asked["action"] == "HOLD" and asked["order_id"] is not None and asked["sku"] != "nobody-has-it":
            event = Event("DELTA", f"d-{asked['order_id']}", BASE_MS + (500 if n % 2 else 2_000) + n, -1)
            supplier = ("acme", "globex")[n % 4 // 2]
            made.append(update(event, sku=asked["sku"], supplier_id=supplier, order_ref=asked["order_id"]))
    return made


def decide(engine: Engine, deployment: Deployment, commands: Iterable[Mapping[str, Any]]) -> None:
    """Ask, and let the worker decide."""
    deployment.ask(commands)
    drive(engine, lambda: decided(deployment))


def decided(deployment: Deployment) -> bool:
    """Whether a worker has decided all that was asked."""
    asked = sum(end for _, end in deployment._watermarks(COMMANDS.name))
    positions = deployment.stock().positions.values()
    return sum(position.offsets.get(COMMANDS.name, 0) for position in positions) >= asked


@contextmanager
def working(deployment: Deployment, name: str = "w") -> Any:
    """A worker, driven by the test."""
    engine, identity = deployment.engine(name)
    engine.standby.start()
    try:
        yield engine
    finally:
        engine.standby.close()
        engine.processor.close()
        identity.release()


def reserved(deployment: Deployment, commands: int = 120) -> None:
    """Counts are folded, commands decided, some of it ships, and counts come again that know of some of it."""
    deployment.publish(counts())
    with working(deployment) as engine:
        drive_events(engine, 2 * SKUS)
        decide(engine, deployment, drawn(1, commands))
        drive_events(engine, deployment.publish(shipments(drawn(1, commands))))
        deployment.publish(counts(1, 40))
        drive_events(engine, 2 * SKUS)
        decide(engine, deployment, drawn(2, commands))


def forget(deployment: Deployment) -> Snapshot:
    """Let all holds that are over but those that ended last be forgotten; the rows and holds of before."""
    before = deployment.stock()
    ended = {hold.ended_at for hold in before.holds.values() if hold.ended_at is not None}
    cut_ms = sorted(ended)[-2]
    now_ms = SystemClock().now_ms()
    with working(deployment) as engine:
        drive(engine, ready(engine, len(before.positions)))
        keep_for(engine, now_ms - cut_ms, Stopped(now_ms))
        drive(engine, lambda: not any(past(hold, cut_ms) for hold in deployment.stock().holds.values()))
    return before


def again(names: Collection[str]) -> list[dict[str, Any]]:
    """What `reserved` asked for of these reservations, once more, for the order `another`."""
    return [
        one | {"order_id": "another"} for seed in (1, 2) for one in drawn(seed, 120) if one["reservation_id"] in names
    ]


def past(hold: Hold, cut_ms: int) -> bool:
    """Whether it was over by then."""
    return hold.ended_at is not None and hold.ended_at <= cut_ms


def tamper(deployment: Deployment, changed: Mapping[bytes, bytes | None], partition: int, position: Position) -> None:
    """Write what no worker would, with a position after it."""
    producer = Producer({"bootstrap.servers": deployment.bootstrap_servers})
    topic = deployment.topics[STOCK.name].name
    for key, value in changed.items():
        producer.produce(topic, value, key, partition)
    producer.produce(topic, encode(position), keys.POSITION, partition)
    assert producer.flush(30) == 0


def partition_of(deployment: Deployment, sku: str) -> int:
    """Where a SKU is."""
    return keys.partition_of(sku.encode(), deployment.topics[STOCK.name].partitions)


def a_hold(seen: Snapshot, state: str) -> Hold:
    """The first in a state, that takes something."""
    return next(seen.holds[r] for r in sorted(seen.holds) if seen.holds[r].state == state)
