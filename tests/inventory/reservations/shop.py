"""One SKU as a worker has it: its row, its holds, and the facts that were decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from inventory.availability import availability
from inventory.policies import Policies
from inventory.reservations.decide import Case, Command, Decision, decide, expire
from inventory.reservations.facts import Fact, Origin, fact_of, hold_after, row_after
from inventory.reservations.reserved import forget
from inventory.reservations.shipments import Shipment, close
from inventory.stock import APPLIED, REPLACED, SUPERSEDED, Limits, apply_count, apply_delta
from schemas.keys import source_key
from schemas.reservations import Hold
from schemas.rows import Count, PackedRow, Source, StockRow, decode_row, decode_source, encode
from tests.inventory.reservations.builders import NOW, SKU

SOURCES = [source_key("acme", "north"), source_key("acme", "south"), source_key("bolt", "east")]


class Counted(NamedTuple):
    """A count. `source`: its key; `basis`: as stored."""

    source: str
    units: int
    at: int
    basis: int


def stock(units: dict[str, int], basis: int = 0, at: int = NOW - 5_000) -> PackedRow:
    sources = {key: encode(Source(Count(0, f"c-{n}", at, n), basis=basis)) for key, n in units.items()}
    return PackedRow(SKU, 1, sum(units.values()), NOW, sources)


def shipment(key: str, units: int, at: int, order_id: str = "o1", update_id: str = "") -> Shipment:
    return Shipment(SKU, order_id, key, update_id or f"d-{at}", at, units, 0)


@dataclass
class Shop:
    """As a worker decides and folds."""

    row: PackedRow
    policies: Policies = field(default_factory=Policies)
    holds: dict[str, Hold] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    now_ms: int = NOW

    def whole(self) -> StockRow:
        return decode_row(encode(self.row))

    def ask(self, asked: Command) -> Decision | None:
        self.lapse()
        decision = decide(
            asked, Case(self.whole(), self.holds.get(asked["reservation_id"]), self.policies, self.now_ms)
        )
        self.take(decision, asked["command_id"])
        return decision

    def lapse(self) -> None:
        for hold in list(self.holds.values()):
            self.take(expire(hold, self.now_ms), None)

    def take(self, decision: Decision | None, command_id: str | None) -> None:
        if decision is None:
            return
        fact = fact_of(decision, Origin(len(self.facts), command_id, None, self.now_ms))
        before = self.holds.get(decision.hold.reservation_id)
        after = hold_after(before, fact)
        assert after == decision.hold, "a fact says all that a decision does"
        row_after(self.row, before, after)
        self.holds[after.reservation_id] = after
        self.facts.append(fact)

    def count(self, key: str, units: int, at: int, basis: int) -> None:
        counted(self.row, Counted(key, units, at, basis))

    def ship(self, told: Shipment) -> list[Decision]:
        """A change that names an order: folded, and if it is accepted, it closes."""
        if shipped(self.row, told) not in (APPLIED, REPLACED, SUPERSEDED):
            return []
        self.lapse()
        holds = [hold for _, hold in sorted(self.holds.items()) if hold.order_id == told.order_id]
        decisions = close(told, holds, self.now_ms)
        for decision in decisions:
            self.take(decision, told.command_id)
        return decisions

    def available(self) -> int:
        return availability(self.whole(), self.policies.rules(SKU), self.now_ms).available


def counted(row: PackedRow, told: Counted) -> None:
    """As the fold does it."""
    key, units, at, basis = told
    source = decode_source(row.sources[key])
    before = source.on_hand
    if apply_count(source, Count(0, f"c-{at}", at, units), Limits()) not in (APPLIED, REPLACED):
        return
    source.basis = basis
    row.on_hand += source.on_hand - before
    row.sources[key] = encode(source)
    left = forget(row.reserved.pop(key, []), source.count)
    if left:
        row.reserved[key] = left


def shipped(row: PackedRow, told: Shipment) -> str:
    """As the fold does it; the outcome."""
    source = decode_source(row.sources[told.source])
    before = source.on_hand
    outcome = apply_delta(source, told.observed_at, told.update_id, -told.units, told.order_id, Limits())
    row.on_hand += source.on_hand - before
    row.sources[told.source] = encode(source)
    return outcome
