"""Which updates of a batch tell of a shipment for an order, and the partition as the batch leaves it before they close.

Most updates name no order, and most batches have none that does: then nothing is done here. Used by `streams.batch`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inventory.reservations.shipments import Shipment
from inventory.stock import DELTA, SUPERSEDED
from inventory.updates import Updates
from schemas.keys import ORDER_PREFIX
from state.store import PartitionStore


def shipments(
    updates: Updates, keys: Sequence[bytes], offsets: Sequence[int], others: Mapping[int, str], first: int
) -> list[Shipment]:
    """The shipments that accepted updates tell of, in log order.

    One that a count knows of already counts as accepted: the count has its units, so they come off no longer either.

    Args:
        updates: of one partition.
        keys: of the row of each.
        offsets: of each in its partition.
        others: outcome of each that was not applied, by its index.
        first: offset; those below it have closed what they close.
    """
    orders = updates.order_ref
    if orders.count(None) == len(orders):
        return []
    return [
        Shipment(
            keys[i].decode(), order, updates.source[i], updates.update_id[i], updates.observed_at[i],
            -updates.quantity[i], offsets[i],
        )
        for i, order in enumerate(orders)
        if order is not None
        and updates.kind[i] == DELTA
        and updates.quantity[i] < 0
        and offsets[i] >= first
        and others.get(i, SUPERSEDED) == SUPERSEDED
    ]  # fmt: skip


class Above:
    """A store with what a batch has changed so far above it; satisfies `streams.desk.Stored`.

    Args:
        changed: by key.
        store: below.
    """

    def __init__(self, changed: Mapping[bytes, bytes], store: PartitionStore) -> None:
        self._changed = changed
        self._store = store

    def get_many(self, row_keys: Sequence[bytes]) -> list[bytes | None]:
        """As the store's."""
        found = self._store.get_many(row_keys)
        return [self._changed.get(key, stored) for key, stored in zip(row_keys, found, strict=True)]

    def order_keys(self, prefixes: Sequence[bytes]) -> list[list[bytes]]:
        """As the store's."""
        found = self._store.order_keys(prefixes)
        new = [key for key in self._changed if key.startswith(ORDER_PREFIX)]
        return [
            sorted({*stored, *(key for key in new if key.startswith(prefix))}) if new else stored
            for prefix, stored in zip(prefixes, found, strict=True)
        ]
