"""What the product has, told in the auditor's plain words."""

from __future__ import annotations

from typing import Any

from schemas.rows import OUTCOMES, Position, Source, decode_row
from tests.simulation.auditor import Row


def row_in_words(encoded: bytes) -> Row:
    """A stored row, but for its version and the time of its change."""
    row = decode_row(encoded)
    return {
        "on_hand": row.on_hand,
        "sources": {key: _source(source) for key, source in row.sources.items()},
    }


def _source(source: Source) -> dict[str, Any]:
    count = source.count
    words: dict[str, Any] = {
        "count": None if count is None else [("COUNT", "WITHDRAWN")[count.kind], count.id, count.at, count.quantity],
        "deltas": [[d.id, d.at, d.quantity, d.order_ref] for d in source.deltas],
        "on_hand": source.on_hand,
        "anchored": count is not None,
        "basis": ("ON_HAND", "AVAILABLE")[source.basis],
        "incoming": [{"expected_at": r.expected_at, "quantity": r.quantity} for r in source.incoming],
        "stale_after_ms": source.stale_after_ms,
        "received_at": source.received_at,
        "offset": source.offset,
    }
    if source.floor_at is not None:
        words |= {"carried": source.carried, "floor_at": source.floor_at}
    return words


def tallies_in_words(position: Position) -> dict[str, dict[str, int]]:
    """A position's outcomes."""
    return {who: dict(zip(OUTCOMES, counts, strict=True)) for who, counts in position.outcomes.items()}
