"""Updates and rows for tests, from as little as a test wants to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
from hypothesis import strategies as st

from inventory.stock import StockUpdate
from schemas.rows import Source
from tests.inventory.reference import Event

KIND_NAMES = ("COUNT", "WITHDRAWN")
RECEIPT = pa.struct([("expected_at", pa.int64()), ("quantity", pa.int64())])
DECODED = pa.schema(
    [
        *(pa.field(name, pa.string(), False) for name in ("sku", "supplier_id", "location_id", "update_id", "kind")),
        *(pa.field(name, pa.int64(), False) for name in ("quantity", "observed_at", "received_at")),
        pa.field("basis", pa.string(), False),
        pa.field("order_ref", pa.string()),
        pa.field("incoming", pa.list_(RECEIPT), False),
        pa.field("stale_after_ms", pa.int64()),
        pa.field("feed", pa.string(), False),
    ]
)
"""The columns that `schemas.codec` decodes StockUpdate to; a test there holds them together."""


def update(event: Event, **fields: Any) -> StockUpdate:
    base: dict[str, Any] = {
        "sku": "sku-1",
        "supplier_id": "acme",
        "location_id": "default",
        "update_id": event.id,
        "kind": event.kind,
        "quantity": event.quantity,
        "observed_at": event.at,
        "received_at": event.at,
        "basis": "ON_HAND",
        "order_ref": None,
        "incoming": [],
        "stale_after_ms": None,
        "feed": "test",
    }
    return cast("StockUpdate", base | fields)


def batch_of(updates: Sequence[StockUpdate]) -> pa.RecordBatch:
    """As the decoder gives them."""
    return pa.RecordBatch.from_pylist(cast("list[dict[str, Any]]", updates), DECODED)


def row_of(source: Source) -> dict[str, Any]:
    """A source in the words of the golden vectors."""
    count = source.count
    row: dict[str, Any] = {
        "count": None if count is None else [KIND_NAMES[count.kind], count.id, count.at, count.quantity],
        "deltas": [[d.id, d.at, d.quantity] for d in source.deltas],
        "on_hand": source.on_hand,
        "anchored": count is not None,
    }
    if source.floor_at is not None:
        row |= {"carried": source.carried, "floor_at": source.floor_at}
    return row


odd = st.fixed_dictionaries(
    {},
    optional={
        "quantity": st.sampled_from([0, -1, 3, 10**12, 10**12 + 1, -(10**12) - 1]),
        "observed_at": st.sampled_from([-1, 0, 10, 300_010, 300_011]),
        "sku": st.sampled_from(
            ["", " a", "a ", "a b", "a|b", "a| b", "é", "e\u0301", "x" * 128, "x" * 129, "\x00position"]
        ),
        "supplier_id": st.sampled_from(["", "a\tb", "a b", "| a"]),
        "update_id": st.sampled_from(["", "u" * 129, "u 1", "a\x1fb"]),
        "order_ref": st.sampled_from([None, "", "o" * 128, "o" * 129, "o 1", "\n"]),
        "incoming": st.sampled_from([[{"expected_at": 9, "quantity": 1}] * entries for entries in (0, 1, 100, 101)]),
    },
)
"""Fields of an update that few have, and that make some of them unusable."""
