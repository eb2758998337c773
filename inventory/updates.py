"""A batch of decoded updates as columns: what the fold reads, with no object per update.

Made of the decoder's Arrow columns, or of records where those came one by one; either way with why some of them can
never be used. Called by `streams.batch` and the replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from inventory.stock import DELTA, FUTURE_MS_MAX, INCOMING_MAX, QUANTITY_MAX, WITHDRAWN, Announced, StockUpdate, refusal
from schemas.keys import ID_CHARACTERS_MAX, SOURCE_SEPARATOR, source_key

IDS = ("sku", "supplier_id", "location_id", "update_id", "order_ref")
SPACE, TILDE = 0x20, 0x7E  # the first and the last printable character of ASCII


class Updates(NamedTuple):
    """Columns of one length, in log order; `inventory.stock.StockUpdate` says what those of its names hold.

    `source`: the key of each within its row; `refusals`: why some can never be used, by index (`stock.refusal`).
    """

    supplier_id: list[str]
    kind: list[str]
    observed_at: list[int]
    update_id: list[str]
    quantity: list[int]
    received_at: list[int]
    order_ref: list[str | None]
    basis: list[str]
    incoming: list[list[Announced]]
    stale_after_ms: list[int | None]
    source: list[str]
    refusals: dict[int, str]

    @classmethod
    def of(cls, records: Sequence[StockUpdate]) -> Self:
        """The columns of `records`."""
        columns: dict[str, list[Any]] = {name: [record[name] for record in records] for name in NAMES}  # type: ignore[literal-required]
        refusals = ((i, refusal(record)) for i, record in enumerate(records))
        source = [source_key(record["supplier_id"], record["location_id"]) for record in records]
        return cls(**columns, source=source, refusals={i: why for i, why in refusals if why is not None})

    @classmethod
    def of_batch(cls, batch: pa.RecordBatch) -> Self:
        """Those of a decoded batch, which is looked at as a whole first: most have nothing to refuse."""
        if not _all_usable(batch):
            return cls.of(batch.to_pylist())
        columns: dict[str, list[Any]] = {n: (_shared if n in FEW else _listed)(batch.column(n)) for n in NAMES}
        source = pc.binary_join_element_wise(batch.column("supplier_id"), batch.column("location_id"), SOURCE_SEPARATOR)
        return cls(**columns, source=_shared(source), refusals={})


NAMES = Updates._fields[:-2]
FEW = ("supplier_id", "kind", "basis")
"""Columns with few values: each is one string then, however often it is there."""


def _listed(column: pa.Array) -> list[Any]:
    if column.null_count == len(column):
        return [None] * len(column)  # of order_ref and stale_after_ms the common case
    if pa.types.is_list(column.type) and len(column.flatten()) == 0:
        return [[]] * len(column)  # the common case, at no cost; nobody changes a decoded list
    values: list[Any] = column.to_pylist()
    return values


def _shared(column: pa.StringArray) -> list[str]:
    encoded = column.dictionary_encode()
    distinct: list[str] = encoded.dictionary.to_pylist()
    if len(distinct) == 1:
        return distinct * len(column)
    values: list[str] = np.array(distinct, object).take(encoded.indices.to_numpy()).tolist()
    return values


def _all_usable(batch: pa.RecordBatch) -> bool:
    """Whether `refusal` would surely let every update pass; False may also mean that one has to look closer."""
    if len(batch) == 0:
        return True
    at, received_at, quantity = (batch.column(n).to_numpy() for n in ("observed_at", "received_at", "quantity"))
    incoming = batch.column("incoming")
    return bool(
        at.min() >= 0
        and (at - FUTURE_MS_MAX <= received_at).all()
        and quantity.min() >= -QUANTITY_MAX
        and quantity.max() <= QUANTITY_MAX
        and _fit(batch.column("kind"), quantity)
        and (len(incoming.flatten()) == 0 or pc.max(incoming.value_lengths()).as_py() <= INCOMING_MAX)
        and all(_plain(batch.column(name)) for name in IDS)
    )


def _fit(kind: pa.StringArray, quantity: NDArray[np.int64]) -> bool:
    """Whether every quantity is one that its kind may have."""
    deltas, withdrawn = (pc.equal(kind, name).to_numpy(zero_copy_only=False) for name in (DELTA, WITHDRAWN))
    return not np.where(deltas, quantity == 0, (quantity < 0) | (withdrawn & (quantity != 0))).any()


def _plain(ids: pa.StringArray) -> bool:
    """Whether all are printable ASCII without outer spaces and of an allowed length, as `schemas.keys.plain_ids`."""
    if ids.null_count:
        ids = ids.drop_null()
    if len(ids) == 0:
        return True
    _, offsets, text = ids.buffers()
    edges = np.frombuffer(offsets, np.int32)[ids.offset : ids.offset + len(ids) + 1]
    lengths = np.diff(edges)
    if lengths.min() < 1 or lengths.max() > ID_CHARACTERS_MAX:
        return False
    characters = np.frombuffer(text, np.uint8)
    used = characters[edges[0] : edges[-1]]
    return bool(
        used.min() >= SPACE
        and used.max() <= TILDE
        and (characters[edges[:-1]] != SPACE).all()
        and (characters[edges[1:] - 1] != SPACE).all()
    )
