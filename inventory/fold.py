"""Folds a batch of updates into the rows that they touch: each row is decoded and encoded once, whatever it receives.

The boundary is narrow on purpose (encoded rows in; encoded rows, tallies and refusals out), so that a compiled kernel
can stand in its place with this as its oracle. Events are folded one by one, in log order, so that no
result depends on the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from inventory.stock import APPLIED, DUPLICATE, REPLACED, SUPERSEDED, Limits, StockUpdate, apply, refusal
from schemas.keys import source_key
from schemas.rows import OUTCOMES, PackedRow, Source, decode_packed_row, decode_source, encode

REJECTED_AT = OUTCOMES.index("rejected")
TALLIED_AT = {
    APPLIED: OUTCOMES.index("applied"),
    REPLACED: OUTCOMES.index("applied"),
    DUPLICATE: OUTCOMES.index("duplicate"),
    SUPERSEDED: OUTCOMES.index("superseded"),
}


class Folded(NamedTuple):
    """What became of a batch.

    `rows`: the changed ones, encoded, by key. `tallies`: events by supplier in the order of `OUTCOMES`; they add up to
    the batch. `refused`: the index in the batch and the reason of each rejected event.
    """

    rows: dict[bytes, bytes]
    tallies: dict[str, list[int]]
    refused: list[tuple[int, str]]


def fold(
    updates: Sequence[StockUpdate], offsets: Sequence[int], stored: Mapping[str, bytes | None], limits: Limits
) -> Folded:
    """Fold `updates`, in their order, into the rows `stored`.

    Args:
        updates: decoded, of one partition.
        offsets: of each in its partition.
        stored: the present row of every SKU in `updates`, encoded; None where there is none yet.
        limits: of every source.
    """
    open_rows: dict[str, _OpenRow] = {}
    tallies: dict[str, list[int]] = {}
    refused: list[tuple[int, str]] = []
    for i, update in enumerate(updates):
        supplier = update["supplier_id"]
        tally = tallies.get(supplier)
        if tally is None:
            tally = tallies[supplier] = [0] * len(OUTCOMES)
        outcome = refusal(update)
        if outcome is None:
            sku = update["sku"]
            row = open_rows.get(sku)
            if row is None:
                row = open_rows[sku] = _OpenRow(sku, stored[sku])
            outcome = row.apply(update, offsets[i], limits)
        place = TALLIED_AT.get(outcome)
        if place is None:
            tally[REJECTED_AT] += 1
            refused.append((i, outcome))
        else:
            tally[place] += 1
    changed = {sku.encode(): row.close() for sku, row in open_rows.items() if row.changed}
    return Folded(changed, tallies, refused)


class _OpenRow:
    """A row under the fold: only the touched sources are decoded."""

    __slots__ = ("changed", "changed_at", "on_hand_before", "row", "touched")

    def __init__(self, sku: str, stored: bytes | None) -> None:
        self.row = PackedRow(sku, 0, 0, 0, {}) if stored is None else decode_packed_row(stored)
        self.touched: dict[str, Source] = {}
        self.on_hand_before: dict[str, int] = {}
        self.changed: set[str] = set()
        self.changed_at = 0

    def apply(self, update: StockUpdate, offset: int, limits: Limits) -> str:
        key = source_key(update["supplier_id"], update["location_id"])
        source = self.touched.get(key)
        if source is None:
            packed = self.row.sources.get(key)
            source = self.touched[key] = Source() if packed is None else decode_source(packed)
            self.on_hand_before[key] = source.on_hand
        outcome = apply(source, update, limits)
        if outcome is APPLIED or outcome is REPLACED:
            source.offset = offset
            self.changed.add(key)
            self.changed_at = update["received_at"]
        return outcome

    def close(self) -> bytes:
        row = self.row
        for key in self.changed:
            source = self.touched[key]
            row.on_hand += source.on_hand - self.on_hand_before[key]
            row.sources[key] = msgspec.Raw(encode(source))
        row.version += 1
        row.changed_at = self.changed_at
        return encode(row)
