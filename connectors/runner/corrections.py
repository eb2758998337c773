"""Counts rows in which a supplier contradicts itself: another count of a SKU for the same time as before.

What is found are corrections, but not all are: it is compared within each piece of a document, and, where rows have
times of their own, with the latest that was said of some thousands of SKUs, in this process. Used by `intake`, in its
thread.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

SLOTS = 1 << 14  # of three numbers: 400 kB a feed

Numbers = npt.NDArray[np.int64]


class Corrections:
    """Of one feed.

    Args:
        is_remembered: whether one document can contradict another: without times of their own, its rows are as old as
            it is, and so none can.
    """

    def __init__(self, *, is_remembered: bool) -> None:
        size = SLOTS if is_remembered else 0
        self._names, self._times, self._counts = (np.zeros(size, np.int64) for _ in range(3))

    def count(self, updates: pa.RecordBatch) -> int:
        """How many of these contradict what came before them."""
        said = updates.filter(pc.not_equal(updates.column("kind"), "DELTA"))
        if len(said) == 0:
            return 0
        pairs = zip(said.column("sku").to_pylist(), said.column("location_id").to_pylist(), strict=True)
        names = np.fromiter(map(hash, pairs), np.int64, len(said))
        times = said.column("observed_at").to_numpy()
        counts = pc.fill_null(said.column("quantity"), 0).to_numpy()
        order = np.lexsort((times, names))  # stable: what is said of the same stays in its order
        names, times, counts = names[order], times[order], counts[order]
        is_same = (names[1:] == names[:-1]) & (times[1:] == times[:-1])
        within = int(np.count_nonzero(is_same & (counts[1:] != counts[:-1])))
        return within + self._compare(names, times, counts, is_same)

    def _compare(self, names: Numbers, times: Numbers, counts: Numbers, is_same: npt.NDArray[np.bool_]) -> int:
        """The first of each SKU and time with what is remembered; the latest of each takes its place."""
        if len(self._names) == 0:
            return 0
        slots = names & (SLOTS - 1)
        is_first = np.concatenate(([True], ~is_same))
        is_known = (self._names[slots] == names) & (self._times[slots] == times) & is_first
        found = int(np.count_nonzero(is_known & (self._counts[slots] != counts)))
        self._names[slots], self._times[slots], self._counts[slots] = names, times, counts
        return found
