"""A batch of decoded updates as columns: what the fold reads, with no object per update.

Called by `streams.batch`, which fills it from the decoder's columns, or from records where those came one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self, cast

from inventory.stock import Announced, StockUpdate


class Updates(NamedTuple):
    """Columns of one length, in log order; `inventory.stock.StockUpdate` says what each holds."""

    sku: list[str]
    supplier_id: list[str]
    location_id: list[str]
    update_id: list[str]
    kind: list[str]
    quantity: list[int]
    observed_at: list[int]
    received_at: list[int]
    basis: list[str]
    order_ref: list[str | None]
    incoming: list[list[Announced]]
    stale_after_ms: list[int | None]

    @classmethod
    def of(cls, records: Sequence[StockUpdate]) -> Self:
        """The columns of `records`."""
        columns: Any = ([record[name] for record in records] for name in cls._fields)  # type: ignore[literal-required]
        return cls(*columns)

    def record(self, i: int) -> StockUpdate:
        """The update at `i`."""
        return cast("StockUpdate", {name: column[i] for name, column in zip(self._fields, self, strict=True)})  # type: ignore[index]
