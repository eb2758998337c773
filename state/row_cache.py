"""Rows of a store in memory, as they are stored: those in use, which it is given later, and those that it has already.

A row that is asked for is about to change, so it moves to those in use, and what is written goes there as well: one
place to look at for most rows, and nothing else to keep up to date. Once the store has been given them they are clean,
the latest last, and the first are let go of when there are too many. One thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

ENTRY_BYTES = 160  # of a row beside its value: key, headers, places in the dict

Load = Callable[[Sequence[bytes]], list[bytes | None]]


class RowCache:
    """The rows of one store that were in use lately.

    `waiting`: what the store is to be given, by key; None: removed. Some may be as it has them already.

    Args:
        bytes_max: of memory, about, half of it for rows in use; those of the latest call may be more. 0: nothing is
            kept.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.waiting: dict[bytes, bytes | None] = {}
        self._waiting_bytes = 0  # at the most: a row that was written anew is counted twice, until all are counted anew
        self._clean: dict[bytes, bytes | None] = {}
        self._clean_bytes = 0

    def get_many(self, row_keys: Sequence[bytes], load: Load) -> list[bytes | None]:
        """The values of `row_keys`, None where there is none; `load` is asked for those that are not here."""
        if self.bytes_max == 0:
            return load(row_keys)
        values = list(map(self.waiting.get, row_keys))
        if all(values):  # no row is empty
            return values  # the common case, in one pass
        self._use(dict.fromkeys(key for key in row_keys if key not in self.waiting), load)
        return list(map(self.waiting.get, row_keys))

    def get(self, key: bytes, load: Callable[[bytes], bytes | None]) -> bytes | None:
        """The value of one key; it stays where it is."""
        if key in self.waiting:
            return self.waiting[key]
        return self._clean[key] if key in self._clean else load(key)

    def write(self, changed: Mapping[bytes, bytes | None], size: int) -> None:
        """Take what changed.

        Args:
            changed: by key; None: removed.
            size: `row_bytes` of its values.
        """
        rows = len(self.waiting)
        self.waiting.update(changed)
        self._waiting_bytes += size + ENTRY_BYTES * (len(self.waiting) - rows)

    def is_full(self) -> bool:
        """Whether the rows in use take all the memory that they may."""
        if self._waiting_bytes <= self.bytes_max // 2:
            return False
        self._waiting_bytes = _memory_bytes(self.waiting)
        return self._waiting_bytes > self.bytes_max * 3 // 8  # or they would be counted again too soon

    def given(self) -> None:
        """The store has been given what waited."""
        for key in self._clean.keys() & self.waiting.keys():  # few: written, but not asked for
            self._take_clean(key)
        self._clean.update(self.waiting)
        self._clean_bytes += _memory_bytes(self.waiting)
        self.waiting, self._waiting_bytes = {}, 0
        excess = self._clean_bytes - self.bytes_max // 2
        first = []
        for key, row in self._clean.items():
            if excess <= 0:
                break
            first.append(key)
            excess -= ENTRY_BYTES + len(row or b"")
        for key in first:
            self._take_clean(key)

    def clear(self) -> None:
        """Forget every row."""
        self.waiting, self._waiting_bytes, self._clean, self._clean_bytes = {}, 0, {}, 0

    def _use(self, row_keys: Iterable[bytes], load: Load) -> None:
        """Let rows wait; what is not there is not noted, for it would be removed."""
        unknown = [key for key in row_keys if key not in self._clean]
        found = dict(zip(unknown, load(unknown), strict=True)) if unknown else {}
        for key in row_keys:
            row = found[key] if key in found else self._take_clean(key)
            if row is not None:
                self.waiting[key] = row
                self._waiting_bytes += ENTRY_BYTES + len(row)

    def _take_clean(self, key: bytes) -> bytes | None:
        row = self._clean.pop(key)
        self._clean_bytes -= ENTRY_BYTES + len(row or b"")
        return row


def row_bytes(values: Iterable[bytes | None]) -> int:
    """How many bytes values have together; in C throughout, for this runs for every row of every commit."""
    return sum(map(len, filter(None, values)))


def _memory_bytes(rows: Mapping[bytes, bytes | None]) -> int:
    return row_bytes(rows.values()) + ENTRY_BYTES * len(rows)
