"""The rows, holds and position of one partition, on a disk.

Invariant: rows and the position that they stand for move in one write, so a store is at one position, whatever died.
After a kill it is at an earlier position, and the topic has the rest. So a store with a row cache writes back: what is
written waits there, and goes to the database together, a row that changed ten times once. Workers write it after their
commit, followers as they read; one thread writes, any may read, unless there is a row cache: then that thread alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import msgspec
import structlog

from schemas import keys, rows
from state.row_cache import RowCache, row_bytes
from stockweave.errors import Fatal
from stockweave.world import Disk

log = structlog.get_logger(__name__)

UNSETTLED_BYTES_MAX = 128 << 20  # written to one store and not yet on its way to the disk: read again after a kill
SETTLE_BYTES = 4 << 20  # less is read again at once, and not worth a file


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """Where a store stands in its topic.

    `generation`: of the topic, as `schemas.admin.Deployed`; `next_offset`: everything below is in the store; `anchor`:
    offset of the stored position record, -1 before the first; `saved_at`: ms since the epoch.
    """

    generation: str
    next_offset: int = 0
    anchor: int = -1
    saved_at: int = 0


class PartitionStore:
    """Opens, or creates, the store of one partition.

    One that belongs to another generation, or that cannot be read, begins empty. Damage that shows later is Fatal: the
    restart begins empty.

    Args:
        path: the folder of this store alone.
        disk: shared by all stores of the process: `state.database.Resources`.
        generation: of the topic that it follows.

    Raises:
        Fatal: another process has it open, or the disk refuses; any method: the store is damaged.
    """

    def __init__(self, path: Path, disk: Disk, generation: str) -> None:
        self.path = path
        self._generation = generation
        self._clock = disk.clock
        self._row_cache = RowCache(disk.row_cache_bytes)
        self._unsettled_bytes = 0  # a row as often as it was written
        self._database = disk.open(path)
        self._begin()
        if self.mark.generation != generation:
            log.info("store_of_another_generation_deleted", path=str(path), was=self.mark.generation, now=generation)
            self.reset()

    def _begin(self) -> None:
        try:
            self._find_position()
        except (Fatal, msgspec.DecodeError) as error:
            if isinstance(error, Fatal) and self.broken is None:
                raise
            log.warning("unreadable_store_deleted", path=str(self.path), why=str(error))
            self._database.reset()
            self._find_position()

    def _find_position(self) -> None:
        mark, position = self._database.get_many([keys.LOCAL, keys.POSITION])
        self.mark = Mark(self._generation) if mark is None else msgspec.msgpack.decode(mark, type=Mark)
        self.position_bytes: bytes | None = position
        self.position: rows.Position | None = None if position is None else rows.decode_position(position)

    @property
    def broken(self) -> Fatal | None:
        """The damage that a use of the store has met; from any thread."""
        return self._database.broken

    def get_many(self, row_keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of many keys in one call, None where there is none."""
        return self._row_cache.get_many(row_keys, self._database.get_many)

    def get(self, key: bytes) -> bytes | None:
        """The value of one key."""
        return self._row_cache.get(key, self._database.get)

    def write(self, changed: Mapping[bytes, bytes | None], next_offset: int, anchor: int | None = None) -> None:
        """Take rows (None: remove), the position among them, and where the store now stands.

        Args:
            changed: by key; the value of `keys.POSITION` becomes `position`.
            next_offset: of the topic; everything below is now in the store.
            anchor: offset of the position record in `changed`; None keeps the last.
        """
        mark = Mark(self._generation, next_offset, self.mark.anchor if anchor is None else anchor, self._clock.now_ms())
        if self._row_cache.bytes_max == 0:
            self._put(changed, mark)
        else:
            size = row_bytes(changed.values())
            self._unsettled_bytes += size
            self._row_cache.write(changed, size)
        position = changed.get(keys.POSITION)
        if position is not None:
            self.position_bytes, self.position = position, rows.decode_position(position)
        self.mark = mark
        if self._unsettled_bytes > UNSETTLED_BYTES_MAX or self._row_cache.is_full():
            self._settle()

    def settle(self) -> None:
        """Let what waits go to the disk; to be called when there is little to do, for stores with a row cache.

        The next start after a kill then reads little again; nobody waits for the disk.
        """
        if self._unsettled_bytes >= SETTLE_BYTES:
            self._settle()

    def _settle(self) -> None:
        self._write_back()
        self._database.flush(wait=False)
        self._unsettled_bytes = 0

    def _write_back(self) -> None:
        self._put(self._row_cache.waiting, self.mark)
        self._row_cache.given()

    def _put(self, changed: Mapping[bytes, bytes | None], mark: Mark) -> None:
        self._database.write(changed, msgspec.msgpack.encode(mark))

    def rows(self, first: bytes = keys.ROW_FIRST) -> Iterator[tuple[bytes, bytes]]:
        """Rows in the order of their keys, from `first` on, as they stand now."""
        return self._items(max(first, keys.ROW_FIRST))

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """All that a topic holds but the position: what is under reserved keys, such as holds, then the rows."""
        return self._items(keys.HOLD_PREFIX)

    def holds(self) -> Iterator[tuple[bytes, bytes]]:
        """Holds in the order of their keys, as they stand now."""
        return self.beginning_with(keys.HOLD_PREFIX)

    def some_holds(self, after: bytes | None, holds_max: int) -> list[tuple[bytes, bytes]]:
        """Up to `holds_max` holds in the order of their keys, those after a key, for a long way through all of them.

        It begins with None: what waits goes to the database then. Each further step looks there alone, which costs
        nothing but itself: it may miss what was written since, or show what was removed.
        """
        if after is None and self._row_cache.waiting:
            self._write_back()
        items: Any = self._database.items(keys.HOLD_PREFIX if after is None else after + b"\0")
        with closing(items):
            found = islice(items, holds_max)
            return list(takewhile(lambda item: item[0].startswith(keys.HOLD_PREFIX), found))

    def beginning_with(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """What lies under reserved keys that begin with `prefix`, in the order of the keys."""
        for key, value in self._items(prefix):
            if not key.startswith(prefix):
                return
            yield key, value

    def order_keys(self, prefixes: Sequence[bytes]) -> list[list[bytes]]:
        """The keys of orders' records that begin with each of some prefixes, in their order.

        For a worker in the midst of a batch: unlike `beginning_with`, it leaves what waits where it is.
        """
        waits = {key: value for key, value in self._row_cache.waiting.items() if key.startswith(keys.ORDER_PREFIX)}
        in_order = sorted(waits)
        found = []
        for prefix in prefixes:
            stored = takewhile(partial(_begins_with, prefix), self._database.items(prefix))
            there = {key for key, _ in stored if key not in waits}
            for key in islice(in_order, bisect_left(in_order, prefix), None):
                if not key.startswith(prefix):
                    break
                if waits[key] is not None:
                    there.add(key)
            found.append(sorted(there))
        return found

    def write_back(self) -> None:
        """Give the database what waits for it, so that it has all rows in their order."""
        if self._row_cache.waiting:
            self._write_back()

    def some_rows(self, first: bytes, rows_max: int, bytes_max: int) -> list[tuple[bytes, bytes]]:
        """The next rows from `first` on, as they stand now: so many, or as many as have so many bytes, one at least.

        One that was written first since the last `write_back` may be left out: it waits, and is in no order yet.
        """
        found: list[tuple[bytes, bytes]] = []
        waiting, size = self._row_cache.waiting, 0
        for key, stored in self._database.items(max(first, keys.ROW_FIRST)):
            value = waiting.get(key, stored)
            if value is not None:
                found.append((key, value))
                size += len(value)
            if len(found) >= rows_max or size >= bytes_max:
                break
        return found

    def rows_estimate(self) -> int:
        """How many rows there are, as the database reckons: too many by what was changed lately."""
        return self._database.rows_estimate()

    def _items(self, first: bytes) -> Iterator[tuple[bytes, bytes]]:
        self.write_back()
        yield from self._database.items(first)

    def reset(self) -> None:
        """Delete everything and begin empty."""
        self._row_cache.clear()
        self._unsettled_bytes = 0
        self._database.reset()
        self._find_position()

    def close(self) -> None:
        """Flush to the disk, with the time until which the store was kept, and let go of the folder."""
        try:
            self.write({}, self.mark.next_offset)
            self._write_back()
            self._database.flush(wait=True)
        finally:
            self._database.close()


def _begins_with(prefix: bytes, item: tuple[bytes, bytes]) -> bool:
    return item[0].startswith(prefix)
