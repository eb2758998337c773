"""What a row's number is made of: each source as a sum of what it holds, and what of it can be sold; pure.

Invariant: the parts of a source add up to its on hand, and what its sources sell adds up to what is available, by
`inventory.availability` itself. Called by the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from inventory.availability import availability, is_stale, observed_at
from schemas.keys import SOURCE_SEPARATOR
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
        sells: units of it that can be sold.
        withdrawn: no longer offered.
        stale: its latest statement is older than it allows.
        latest_at: when that was observed, ms since the epoch.
    """

    supplier: str
    location: str
    source: Source
    count: Entry | None
    deltas: list[Entry]
    sells: int
    withdrawn: bool
    stale: bool
    latest_at: int

    @property
    def on_hand(self) -> int:
        """Units: count, carried and deltas."""
        return self.source.on_hand

    @property
    def why(self) -> str:
        """Why it does not sell what it has on hand, or has none; empty where it does."""
        if self.stale:
            return "stale: it counts as nothing"
        if self.on_hand < 0:
            return "oversold: below zero it counts as nothing"
        if self.withdrawn and not self.deltas:
            return "withdrawn: no longer offered"
        return "withdrawn, but for the deltas since" if self.withdrawn else ""


def accounts(row: StockRow, history: History, at_ms: int) -> list[Account]:
    """The sources of a row at a time, by supplier and location.

    Args:
        row: that `history` came to.
        history: of its updates.
        at_ms: when it is judged what can be sold, ms since the epoch.
    """
    return [_account(row.sku, key, row.sources[key], history, at_ms) for key in sorted(row.sources)]


def available(row: StockRow | None, at_ms: int) -> int:
    """What can be sold of a row."""
    return 0 if row is None else availability(row, at_ms).available


def _account(sku: str, key: str, source: Source, history: History, at_ms: int) -> Account:
    supplier, _, location = key.partition(SOURCE_SEPARATOR)
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
    alone = StockRow(sku, 0, source.on_hand, 0, {key: source})
    return Account(
        supplier, location, source, count, deltas, availability(alone, at_ms).available,
        held is not None and held.kind != 0, is_stale(source, at_ms), observed_at(source),
    )  # fmt: skip
