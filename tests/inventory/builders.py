"""Updates and rows for tests, from as little as a test wants to say."""

from __future__ import annotations

from typing import Any, cast

from inventory.stock import StockUpdate
from schemas.rows import Source
from tests.inventory.reference import Event

KIND_NAMES = ("COUNT", "WITHDRAWN")


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
