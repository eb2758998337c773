"""Which updates of a long stretch can still show in its rows, so that a replay need not fold the others.

The law that this rests on: once a count is applied, nothing of its source that was observed before it leaves a trace,
whether it came earlier in the log (the count took its place) or later (it is superseded). So of each source the latest
count of the stretch, and what was not observed before it, is enough, as long as that count itself is not rejected: who
folds what lasts has to look at that, and to fold everything where `Lasting.rests_on` names a rejected update. Outcomes
are not told. Called by the replay.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from inventory.stock import DELTA, FUTURE_MS_MAX, QUANTITY_MAX, WITHDRAWN

UNITS_MAX = 10**14
"""Of a stretch, by amount: below it no sum of deltas that is left out could have refused one that is not."""


class Lasting(NamedTuple):
    """What to fold. `places`: of the updates, in log order; `rests_on`: of the counts that make others superfluous."""

    places: NDArray[np.int64]
    rests_on: NDArray[np.int64]


def lasting(updates: pa.RecordBatch) -> Lasting:
    """Choose among decoded updates.

    Args:
        updates: with the columns of `inventory.updates.Updates`, in log order.
    """
    at = updates["observed_at"].to_numpy()
    quantity = updates["quantity"].to_numpy()
    nothing = np.empty(0, np.int64)
    if np.abs(quantity.astype(np.float64)).sum() > UNITS_MAX:
        return Lasting(np.arange(len(at)), nothing)
    kind = updates["kind"]
    withdrawn = _mask(pc.equal(kind, WITHDRAWN))
    counts = ~_mask(pc.equal(kind, DELTA))
    counts &= (at >= 0) & (at <= updates["received_at"].to_numpy() + FUTURE_MS_MAX)
    counts &= (quantity >= 0) & (quantity <= np.where(withdrawn, 0, QUANTITY_MAX))
    source = _sources(updates)
    latest = np.full(int(source.max(initial=-1)) + 1, -1, np.int64)
    np.maximum.at(latest, source[counts], at[counts])
    latest_of_source = latest[source]
    lasts = at >= latest_of_source
    return Lasting(np.flatnonzero(lasts), np.flatnonzero(counts & (at == latest_of_source)))


def _sources(updates: pa.RecordBatch) -> NDArray[np.int64]:
    """A number for each update's source (SKU, supplier, location), counted from 0."""
    together = np.zeros(len(updates), np.int64)
    for name in ("sku", "supplier_id", "location_id"):
        codes = updates[name].dictionary_encode()
        together = together * len(codes.dictionary) + codes.indices.to_numpy()
        together = pa.array(together).dictionary_encode().indices.to_numpy().astype(np.int64)
    return together


def _mask(values: pa.BooleanArray) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = values.to_numpy(zero_copy_only=False)
    return mask
