"""What a row's number is made of: each source as a sum of what it holds, and what of it can be sold; pure.

Invariant: the parts of a source add up to its on hand, and what its sources sell adds up to what is available, safety
stock of the SKU and what is sold beyond the stock apart, by `inventory.availability` itself. Called by the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from inventory.availability import EXCLUDED, PASSED_OVER, SAME_STOCK, STALE, Availability, Part
from inventory.stock import observed_at
from schemas.rows import Source, StockRow
from stockweave.replay.explain.history import History, Trace

COUNT, WITHDRAWN, DELTA = "count", "withdrawn", "delta"
BASES = ("ON_HAND", "AVAILABLE")


class Entry(NamedTuple):
    """A count, a withdrawal or a delta that a source holds. `trace`: None where a checkpoint hides it."""

    kind: str
    id: str
    observed_at: int
    quantity: int
    basis: str | None
    order_ref: str | None
    trace: Trace | None


@dataclass(frozen=True)
class Account:
    """A source.

    Attributes:
        supplier, location: of the source.
        source: as the row has it.
        count: that counts; None where there is none.
        deltas: since, in order of time.
        sells: units of it that count; safety stock of the SKU comes off the sum.
        standing: as of `inventory.availability.Part`.
        withdrawn: no longer offered.
        latest_at: when that was observed, ms since the epoch.
        reserved: units that holds have of it, or of its pool, and its on hand does not know of.
        at_most: what its pool has on hand, where that is less; None: it is not.
    """

    supplier: str
    location: str
    source: Source
    count: Entry | None
    deltas: list[Entry]
    sells: int
    standing: str
    withdrawn: bool
    latest_at: int
    reserved: int = 0
    at_most: int | None = None

    @property
    def on_hand(self) -> int:
        """Units: count, carried and deltas."""
        return self.source.on_hand

    @property
    def why(self) -> str:
        """Why it does not sell what it has on hand, or has none; empty where it does."""
        if self.standing == EXCLUDED:
            return "excluded by a policy"
        if self.stale:
            return f"stale: {self.sells:,} units are its floor" if self.sells else "stale: it counts as nothing"
        if self.standing == PASSED_OVER:
            return "passed over: the strategy takes another supplier"
        if self.standing == SAME_STOCK:
            return "the same stock as another source, which speaks for it"
        if self.on_hand < 0:
            return "oversold: below zero it counts as nothing"
        if self.withdrawn and not self.deltas:
            return "withdrawn: no longer offered"
        if self.withdrawn:
            return "withdrawn, but for the deltas since"
        said = [f"{self.reserved:,} reserved"] if self.reserved else []
        there = self.on_hand if self.at_most is None else self.at_most
        if there < self.on_hand:
            said.append(f"{there:,} by another source of the same stock")
        if self.sells < max(0, there - self.reserved):
            said.append("safety stock is held back of it")
        return "; ".join(said)

    @property
    def stale(self) -> bool:
        """Whether its latest statement is older than it, or a policy, allows."""
        return self.standing == STALE


def accounts(row: StockRow, history: History, answer: Availability) -> list[Account]:
    """The sources of a row, by supplier and location.

    Args:
        row: that `history` came to.
        history: of its updates.
        answer: what can be sold of it.
    """
    parts = dict(zip(row.sources, answer.parts, strict=True))
    return [_account(key, row.sources[key], parts[key], history) for key in sorted(row.sources)]


def _account(key: str, source: Source, part: Part, history: History) -> Account:
    held = source.count
    count = None
    if held is not None:
        withdrawn = held.kind != 0
        trace = history.trace(key, held.id, delta=False)
        kind, basis = (WITHDRAWN, None) if withdrawn else (COUNT, BASES[source.basis])
        count = Entry(kind, held.id, held.at, held.quantity, basis, None, trace)
    deltas = [
        Entry(DELTA, d.id, d.at, d.quantity, None, d.order_ref, history.trace(key, d.id, delta=True))
        for d in source.deltas
    ]
    return Account(
        part.supplier, part.location, source, count, deltas, part.units, part.standing,
        held is not None and held.kind != 0, observed_at(source), part.reserved, part.at_most,
    )  # fmt: skip
