"""What suppliers' SKUs mean, in memory: looked up by mappers in their threads, while changes come in from another.

Invariant: one look-up sees the map as it was at one moment, and all that are made within `held` see it as it was when
that began: so the two readings of a snapshot agree. Filled by `runner.skus` and by `stockweave dlq retry`. An entry
takes some 200 bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from schemas.sku_map import Entry


class SkuMap:
    """Of all suppliers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_supplier: dict[str, dict[str, str]] = {}
        self._holding: list[SupplierSkus] = []

    def change(self, entries: Iterable[Entry]) -> None:
        """Take entries in, in their order."""
        with self._lock:
            for supplier_id, supplier_sku, sku in entries:
                known = self._by_supplier.setdefault(supplier_id, {})
                for view in self._holding:
                    view._note(supplier_id, supplier_sku, known.get(supplier_sku))
                if sku is None:
                    known.pop(supplier_sku, None)
                else:
                    known[supplier_sku] = sku

    def of(self, supplier_id: str) -> SupplierSkus:
        """A supplier's, as one feed sees them."""
        with self._lock:
            return SupplierSkus(self, supplier_id, self._by_supplier.setdefault(supplier_id, {}))


class SupplierSkus:
    """One supplier's part of the map, as one feed sees it. Made by `SkuMap.of`."""

    def __init__(self, whole: SkuMap, supplier_id: str, known: dict[str, str]) -> None:
        self._whole = whole
        self._supplier_id = supplier_id
        self._known = known
        self._before: dict[str, str | None] = {}  # what has changed while it was held, as it was

    def look_up(self, supplier_skus: Sequence[str | None]) -> list[str | None]:
        """Our SKU of each; None where the map has none."""
        with self._whole._lock:
            before = self._before
            found = list(map(self._known.get, supplier_skus))  # type: ignore[arg-type] # None is in no map
            if before:
                found = [before.get(sku, now) if sku else now for sku, now in zip(supplier_skus, found, strict=True)]
            return found

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it, what changes is not seen."""
        with self._whole._lock:
            self._whole._holding.append(self)
        try:
            yield
        finally:
            with self._whole._lock:
                self._whole._holding.remove(self)
                self._before.clear()

    def _note(self, supplier_id: str, supplier_sku: str, sku: str | None) -> None:
        if supplier_id == self._supplier_id:
            self._before.setdefault(supplier_sku, sku)
