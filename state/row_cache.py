"""Rows of a store, as they are stored, kept in memory from one batch to the next: half the time of asking RocksDB.

Invariant: a cached value is the stored one. The store writes through; what is not asked for is not kept, so that a
restore does not push out what is in use. One thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

ENTRY_BYTES = 160  # of a cached row beside its value: key, headers, places in the dict

Load = Callable[[Sequence[bytes]], list[bytes | None]]


class RowCache:
    """The most recently asked for rows of one store; the others are let go, half of them at a time.

    Args:
        bytes_max: of memory, about, values that grow as they are written included; at least the rows of the latest
            call are kept. 0: nothing is.
    """

    def __init__(self, bytes_max: int) -> None:
        self._young_bytes_max = bytes_max // 2
        self._young: dict[bytes, bytes | None] = {}
        self._old: dict[bytes, bytes | None] = {}
        self._young_bytes = 0  # at the most: a row that was written anew is counted twice, until all are counted anew

    def get_many(self, row_keys: Sequence[bytes], load: Load) -> list[bytes | None]:
        """The values of `row_keys`, None where there is none; `load` is asked for those that are not cached."""
        if self._young_bytes_max == 0:
            return load(row_keys)
        self._make_room()
        young, old = self._young, self._old
        values = list(map(young.get, row_keys))
        if all(values):  # no row is empty
            return values  # all are in use: the common case, in one pass
        missing = [key for key in row_keys if key not in young]
        unknown = [key for key in missing if key not in old]
        young.update((key, old.pop(key)) for key in missing if key in old)
        young.update(zip(unknown, load(unknown), strict=True) if unknown else ())
        if missing:
            self._young_bytes += sum(ENTRY_BYTES + len(young[key] or b"") for key in missing)
            values = list(map(young.get, row_keys))
        return values

    def write(self, changed: Mapping[bytes, bytes | None], size: int) -> None:
        """Take over what was written to the store; a batch writes what it has asked for, so that is in the cache.

        Args:
            changed: the rows.
            size: `row_bytes` of their values.
        """
        if not self._young and not self._old:
            return
        self._make_room()
        young = self._young
        rows = len(young)
        young.update(changed)
        self._young_bytes += size + ENTRY_BYTES * (len(young) - rows)

    def clear(self) -> None:
        """Forget every row."""
        self._young, self._old, self._young_bytes = {}, {}, 0

    def _make_room(self) -> None:
        if self._young_bytes <= self._young_bytes_max:
            return
        self._young_bytes = row_bytes(self._young.values()) + ENTRY_BYTES * len(self._young)
        if self._young_bytes > self._young_bytes_max * 3 // 4:  # or what is counted anew grows too little to pay for it
            self._old, self._young, self._young_bytes = self._young, {}, 0


def row_bytes(values: Iterable[bytes | None]) -> int:
    """How many bytes values have together; in C throughout, for this runs for every row of every commit."""
    return sum(map(len, filter(None, values)))
