"""The rows, holds and position of one partition, in RocksDB.

Invariant: rows and the position that they stand for move in one WriteBatch of one column family, so a store is at one
position, whatever died. There is no write-ahead log: after a kill the store is at an earlier position and the topic has
the rest. So a store with a row cache writes back: what is written waits there, and goes to RocksDB together, a row that
changed ten times once. Workers write it after their commit, followers as they read; one thread writes, any may read,
unless there is a row cache: then that thread alone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import structlog
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from schemas import keys, rows
from state import open_files
from state.row_cache import RowCache, row_bytes
from stockweave.errors import Fatal

log = structlog.get_logger(__name__)

MEMTABLE_BYTES = (
    16 << 20
)  # small: sorted batches into a small memtable cost least (measured), and little is left to re-read
UNSETTLED_BYTES_MAX = 128 << 20  # written to one store and not yet on its way to the disk: read again after a kill
SETTLE_BYTES = 4 << 20  # less is read again at once, and not worth a file
REBUILDABLE = ("Corruption:", "Invalid argument:", "IO error: No such file")
"""How RocksDB's messages begin when a folder cannot be used; rocksdict raises them all as plain Exception."""
BROKEN = "broken"
"""A file in the folder of a store that turned out to be damaged while it was in use: the next start deletes it all."""


class Resources:
    """What all partitions of a process share: one block cache and one write budget, in bytes, and its open files.

    Args:
        block_cache_bytes: RocksDB's.
        write_buffer_bytes: RocksDB's.
        row_cache_bytes: of each store's `RowCache`; with none, a store writes to RocksDB at once.
        partitions: how many stores of one generation there may be.
    """

    def __init__(
        self, block_cache_bytes: int, write_buffer_bytes: int, row_cache_bytes: int = 0, partitions: int = 1
    ) -> None:
        self.row_cache_bytes = row_cache_bytes
        self._open_files_max = open_files.share(open_files.raise_limit(), partitions)
        self._cache = Cache(block_cache_bytes)
        self._budget = WriteBufferManager(write_buffer_bytes, False)

    def options(self) -> Options:
        """Options of one partition's database."""
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_cache_index_and_filter_blocks(True)
        table.set_bloom_filter(10, False)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(table)
        options.set_write_buffer_manager(self._budget)
        options.set_write_buffer_size(MEMTABLE_BYTES)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_max_background_jobs(2)
        options.set_keep_log_file_num(2)
        options.set_max_open_files(self._open_files_max)
        return options


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

    A folder that belongs to another generation or that RocksDB cannot read is deleted and begins empty. Damage that
    shows later, in a block that a read or a write comes upon, is Fatal and leaves a mark: the restart begins empty.

    Args:
        path: the folder of this store alone.
        resources: shared by all stores of the process.
        generation: of the topic that it follows.

    Raises:
        Fatal: another process has it open, or the disk refuses; any method: the store is damaged.
    """

    def __init__(self, path: Path, resources: Resources, generation: str) -> None:
        self.path = path
        self._resources = resources
        self._generation = generation
        self.broken: Fatal | None = None  # the damage that was met; any thread
        self._row_cache = RowCache(resources.row_cache_bytes)
        self._unsettled_bytes = 0  # a row as often as it was written
        self._no_wal = WriteOptions()
        # A property, whatever the stub says.
        self._no_wal.disable_wal = True  # type: ignore[assignment,method-assign]
        self._open()
        if self.mark.generation != generation:
            log.info("store_of_another_generation_deleted", path=str(path), was=self.mark.generation, now=generation)
            self.reset()

    def _open(self) -> None:
        try:
            if (self.path / BROKEN).exists():
                self._delete((self.path / BROKEN).read_text())
            try:
                self._begin()
            except Exception as error:  # rocksdict raises nothing more precise; what cannot be mended becomes Fatal
                if not (isinstance(error, msgspec.DecodeError) or str(error).startswith(REBUILDABLE)):
                    raise
                self._delete(str(error))
                self._begin()
        except Exception as error:
            raise self._refused("cannot be opened", error, "is another process using it?") from error

    def _begin(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        db = Rdict(str(self.path), self._resources.options())
        try:
            mark, position = db.get(keys.LOCAL), db.get(keys.POSITION)
            self.mark = Mark(self._generation) if mark is None else msgspec.msgpack.decode(mark, type=Mark)
            self.position_bytes: bytes | None = position
            self.position: rows.Position | None = None if position is None else rows.decode_position(position)
        except Exception:
            db.close()
            raise
        self._db = db

    def _delete(self, why: str) -> None:
        log.warning("unreadable_store_deleted", path=str(self.path), why=why)
        shutil.rmtree(self.path)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Class what RocksDB raises within the block."""
        try:
            yield
        except Exception as error:
            if type(error) is not Exception:  # rocksdict's own are plain; a defect is none of them
                raise
            why = str(error)
            if not why.startswith(REBUILDABLE):
                raise self._refused("failed", error, "see to the disk, and restart") from error
            self.broken = Fatal(f"the store {self.path} is damaged: {why}; restart, and it is deleted and read anew")
            (self.path / BROKEN).write_text(why)
            raise self.broken from error

    def _refused(self, what: str, error: Exception, remedy: str) -> Fatal:
        if "Too many open files" in str(error):
            remedy = (
                f"this process may have {open_files.limit()} files open: raise the limit (ulimit -n; LimitNOFILE of a "
                "systemd unit, --ulimit nofile of a container)"
            )
        return Fatal(f"the store {self.path} {what}: {error}; {remedy}")

    def get_many(self, row_keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of many keys in one call, None where there is none."""
        return self._row_cache.get_many(row_keys, self._load_many)

    def get(self, key: bytes) -> bytes | None:
        """The value of one key."""
        return self._row_cache.get(key, self._load)

    def _load_many(self, row_keys: Sequence[bytes]) -> list[bytes | None]:
        with self._in_use():
            found: Any = self._db.get(list(row_keys))
        return cast("list[bytes | None]", found)

    def _load(self, key: bytes) -> bytes | None:
        with self._in_use():
            value: bytes | None = self._db.get(key)
        return value

    def write(self, changed: Mapping[bytes, bytes | None], next_offset: int, anchor: int | None = None) -> None:
        """Take rows (None: remove), the position among them, and where the store now stands.

        Args:
            changed: by key; the value of `keys.POSITION` becomes `position`.
            next_offset: of the topic; everything below is now in the store.
            anchor: offset of the position record in `changed`; None keeps the last.
        """
        mark = Mark(self._generation, next_offset, self.mark.anchor if anchor is None else anchor, _now_ms())
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
        with self._in_use():
            self._db.flush(wait=False)
        self._unsettled_bytes = 0

    def _write_back(self) -> None:
        self._put(self._row_cache.waiting, self.mark)
        self._row_cache.given()

    def _put(self, changed: Mapping[bytes, bytes | None], mark: Mark) -> None:
        batch = WriteBatch(raw_mode=True)
        for key in sorted(changed):  # sorted keys make the memtable's inserts 2.4 times cheaper
            value = changed[key]
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(keys.LOCAL, msgspec.msgpack.encode(mark))
        with self._in_use():
            self._db.write(batch, self._no_wal)

    def rows(self, first: bytes = keys.ROW_FIRST) -> Iterator[tuple[bytes, bytes]]:
        """Rows in the order of their keys, from `first` on, as they stand now."""
        return self._items(max(first, keys.ROW_FIRST))

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """All that a topic holds but the position: what is under reserved keys, such as holds, then the rows."""
        return self._items(keys.HOLD_PREFIX)

    def _items(self, last: bytes) -> Iterator[tuple[bytes, bytes]]:
        if self._row_cache.waiting:
            self._write_back()
        with self._in_use():
            for key, value in cast("Iterator[tuple[bytes, bytes]]", self._db.items(from_key=last)):
                last = key
                yield key, value
            self._check_end(last)

    def _check_end(self, last: bytes) -> None:
        """Raise what ended an iteration at `last`: rocksdict ends it at a damaged block as after the last row."""
        iterator = self._db.iter()
        iterator.seek(last)
        if iterator.valid():
            iterator.next()
        try:
            iterator.status()
        finally:
            del iterator  # no folder is opened anew while one lives, and a traceback would keep it

    def reset(self) -> None:
        """Delete everything and begin empty."""
        try:
            self._db.close()
        except Exception as error:
            if not str(error).startswith(REBUILDABLE):
                raise self._refused("cannot be closed", error, "see to the disk, and restart") from error
            log.warning("damaged_store_reset", path=str(self.path), why=str(error))
        self._row_cache.clear()
        self._unsettled_bytes = 0
        shutil.rmtree(self.path)
        self.broken = None
        self._open()

    def close(self) -> None:
        """Flush to the disk, with the time until which the store was kept, and let go of the folder."""
        try:
            self.write({}, self.mark.next_offset)
            self._write_back()
            with self._in_use():
                self._db.flush()
        finally:
            with self._in_use():
                self._db.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
