"""A log of awkward updates, and what a SKU's row should be of any prefix of it, by the tests' own reference."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from inventory.stock import StockUpdate
from schemas.topics import UPDATES
from stockweave.errors import Rejected
from tests.deployment import Deployment
from tests.inventory.builders import update
from tests.inventory.reference import Event, LogOrder

BASE_MS = 1_700_000_000_000
HORIZON_MS = 7 * 86_400_000
ENTRIES_MAX = 6
STEP_MS = 20 * 60_000
OUTCOME_OF = {"applied": "applied", "replaced": "applied", "duplicate": "duplicate", "superseded": "superseded"}
BAD = "bad"  # how the ids of those begin that no row can use


def awkward_updates(count: int, skus: int = 8, seed: int = 1, first: int = 0) -> list[StockUpdate]:
    """Late ones, repeats, conflicts, withdrawals, and some that are refused, over more time than the horizon."""
    rng = random.Random(seed)
    made: list[StockUpdate] = []
    for i in range(first, first + count):
        chance = rng.random()
        if made and chance < 0.12:
            again = cast("dict[str, Any]", rng.choice(made[-60:]))
            if chance < 0.06 and not again["update_id"].startswith(BAD):  # the same id with another content
                again = again | {"observed_at": again["observed_at"] + rng.choice([0, 0, -STEP_MS, STEP_MS])}
                again["quantity"] += 0 if again["kind"] == "WITHDRAWN" or again["quantity"] == -1 else 1
            made.append(cast("StockUpdate", again | {"received_at": _received(i)}))
            continue
        at = BASE_MS + i * STEP_MS + rng.randrange(-3, 4) * STEP_MS
        if rng.random() < 0.12:
            at -= rng.randrange(9 * 86_400_000)
        kind = rng.choices(["DELTA", "COUNT", "WITHDRAWN"], [80, 16, 4])[0]
        quantity = {"DELTA": rng.choice([-5, -2, -1, 1, 9]), "COUNT": rng.randint(0, 60), "WITHDRAWN": 0}[kind]
        said = _said(rng, kind)
        name = f"u{seed}-{i}"
        if chance > 0.97:
            name, kind, quantity = f"{BAD}{seed}-{i}", *rng.choice([("DELTA", 0), ("COUNT", -1), ("WITHDRAWN", 2)])
        elif chance > 0.95:
            name, at = f"{BAD}{seed}-{i}", _received(i) + 400_000
        where = {"supplier_id": f"s{rng.randrange(2)}", "location_id": rng.choice(["default", "north"])}
        event = Event(kind, name, at, quantity)
        made.append(update(event, sku=f"sku-{rng.randrange(skus)}", received_at=_received(i), **where, **said))
    return made


def _received(i: int) -> int:
    return BASE_MS + 60 * 86_400_000 + i


def _said(rng: random.Random, kind: str) -> dict[str, Any]:
    if kind == "DELTA":
        return {"order_ref": rng.choice([None, "order-7"])}
    return {
        "basis": rng.choice(["ON_HAND", "AVAILABLE"]),
        "stale_after_ms": rng.choice([None, 86_400_000]),
        "incoming": [{"expected_at": BASE_MS, "quantity": 5}] if rng.random() < 0.3 else [],
    }


class Told(NamedTuple):
    """A message of the log. `update`: None where it is unreadable or its key is not its SKU."""

    partition: int
    offset: int
    stamp_ms: int
    key: bytes
    update: StockUpdate | None


def log_of(deployment: Deployment) -> list[Told]:
    """The whole log as Kafka has it, by partition and offset."""
    found = []
    for m in deployment.read(UPDATES.name):
        [decoded] = deployment.codec.decode([m.value()])
        key = cast("bytes", m.key())
        usable = not isinstance(decoded, Rejected) and decoded["sku"].encode() == key
        place = cast("int", m.partition()), cast("int", m.offset()), m.timestamp()[1]
        found.append(Told(*place, key, cast("StockUpdate", decoded) if usable else None))
    return sorted(found)


@dataclass
class _Source:
    rule: LogOrder
    said: dict[str, Any] = field(default_factory=lambda: {"basis": "ON_HAND", "incoming": [], "stale_after_ms": None})
    offsets: dict[tuple[bool, str], int] = field(default_factory=dict)


@dataclass
class Due:
    """What should be told of a SKU.

    `sources`: what they mean, by supplier and location; `offsets`: where what they hold came from, by (is it a delta,
    id); `refused`: offset and outcome of each update that changed nothing, oldest first.
    """

    sources: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    offsets: dict[tuple[str, str], dict[tuple[bool, str], int]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[int, str]] = field(default_factory=list)

    @property
    def on_hand(self) -> int:
        return sum(source["on_hand"] for source in self.sources.values())


def due(log: Iterable[Told], sku: str, until_ms: int | None = None) -> Due:
    """By the reference, of the log up to a time."""
    sources: dict[tuple[str, str], _Source] = {}
    answer = Due()
    for told in _of(log, sku, until_ms):
        outcome = "rejected"
        u = told.update
        if u is not None and not u["update_id"].startswith(BAD):
            name = (u["supplier_id"], u["location_id"])
            source = sources.get(name) or _Source(LogOrder(HORIZON_MS, ENTRIES_MAX))
            verdict = source.rule.see(Event(u["kind"], u["update_id"], u["observed_at"], u["quantity"]))
            outcome = OUTCOME_OF.get(verdict, "rejected")
            if outcome == "applied":
                sources[name] = source
                source.offsets[(u["kind"] == "DELTA", u["update_id"])] = told.offset
                if u["kind"] != "DELTA":
                    source.said = {key: u[key] for key in source.said}  # type: ignore[literal-required]
        answer.outcomes[outcome] += 1
        if outcome != "applied":
            answer.refused.append((told.offset, outcome))
    answer.sources = {name: source.rule.row() | source.said for name, source in sources.items()}
    answer.offsets = {name: source.offsets for name, source in sources.items()}
    return answer


def _of(log: Iterable[Told], sku: str, until_ms: int | None) -> Iterator[Told]:
    key = sku.encode()
    return (told for told in log if told.key == key and (until_ms is None or told.stamp_ms <= until_ms))
