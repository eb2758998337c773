"""The database below one store: RocksDB in a folder of its own, and what all of a process's databases share.

Invariant: a write is whole or not at all, and writes reach the disk in their order, so what a kill leaves is the state
after some write: there is no write-ahead log, Kafka is that. A folder that RocksDB cannot read is deleted and begins
empty. Damage that shows later, in a block that a read or a write comes upon, is Fatal and leaves a mark: the restart
begins empty.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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

from schemas import keys
from state import open_files
from stockweave.errors import Fatal
from stockweave.world import SystemClock

log = structlog.get_logger(__name__)

MEMTABLE_BYTES = (
    16 << 20
)  # small: sorted batches into a small memtable cost least (measured), and little is left to re-read
NO_SPACE = "No space left on device"
"""In whatever RocksDB and the system say of a full disk."""
TOO_MANY_FILES = "Too many open files"
REBUILDABLE = ("Corruption:", "Invalid argument:", "IO error: No such file")
"""How RocksDB's messages begin when a folder cannot be used; rocksdict raises them all as plain Exception."""
BROKEN = "broken"
"""A file in the folder of a database that was found damaged while it was in use: the next start deletes it all."""


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
        self.clock = SystemClock()
        self._open_files_max = open_files.share(open_files.raise_limit(), partitions)
        self._cache = Cache(block_cache_bytes)
        self._budget = WriteBufferManager(write_buffer_bytes, False)

    def open(self, path: Path) -> RocksDatabase:
        """The database in a folder, made where there is none; raises as `RocksDatabase`."""
        return RocksDatabase(path, self.options())

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


class RocksDatabase:
    """One folder; satisfies `stockweave.world.Database`, where the methods are described.

    Args:
        path: the folder of this database alone.
        options: see `Resources.options`.

    Raises:
        Fatal: another process has it open, or the disk refuses; any method: the database is damaged.
    """

    def __init__(self, path: Path, options: Options) -> None:
        self.path = path
        self.broken: Fatal | None = None  # the damage that was met; any thread
        self._options = options
        self._no_wal = WriteOptions()
        # A property, whatever the stub says.
        self._no_wal.disable_wal = True  # type: ignore[assignment,method-assign]
        self._open()

    def get(self, key: bytes) -> bytes | None:
        """The value of one key."""
        with self._in_use():
            value: bytes | None = self._db.get(key)
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of many keys in one call."""
        with self._in_use():
            found: Any = self._db.get(list(keys))
        values: list[bytes | None] = found
        return values

    def write(self, changed: Mapping[bytes, bytes | None], local: bytes) -> None:
        """One WriteBatch."""
        batch = WriteBatch(raw_mode=True)
        for key in sorted(changed):  # sorted keys make the memtable's inserts 2.4 times cheaper
            value = changed[key]
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(keys.LOCAL, local)
        with self._in_use():
            self._db.write(batch, self._no_wal)

    def items(self, first: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Everything from a key on."""
        with self._in_use():
            last: Any = first
            for key, value in self._db.items(from_key=first):
                last = key
                yield key, value  # type: ignore[misc]  # bytes in raw mode, whatever the stub says
            self._check_end(last)

    def rows_estimate(self) -> int:
        """As RocksDB reckons."""
        return int(self._db.property_int_value("rocksdb.estimate-num-keys") or 0)

    def flush(self, *, wait: bool) -> None:
        """Send what is in memory to the disk."""
        with self._in_use():
            self._db.flush(wait=wait)

    def reset(self) -> None:
        """Delete the folder and open it anew."""
        try:
            self._db.close()
        except Exception as error:
            if not _is_damage(error):
                raise self._refused("cannot be closed", error, "see to the disk, and restart") from error
            log.warning("damaged_store_reset", path=str(self.path), why=str(error))
        shutil.rmtree(self.path)
        self.broken = None
        self._open()

    def close(self) -> None:
        """Let go of the folder."""
        with self._in_use():
            self._db.close()

    def _open(self) -> None:
        try:
            if (self.path / BROKEN).exists():
                self._delete((self.path / BROKEN).read_text())
            try:
                self._begin()
            except Exception as error:  # rocksdict raises nothing more precise; what cannot be mended becomes Fatal
                if not _is_damage(error):
                    raise
                self._delete(str(error))
                self._begin()
        except Exception as error:
            raise self._refused("cannot be opened", error, "is another process using it?") from error

    def _begin(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._db = Rdict(str(self.path), self._options)

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
            if not _is_damage(error):
                raise self._refused("failed", error, "see to the disk, and restart") from error
            self.broken = Fatal(f"the store {self.path} is damaged: {why}; restart, and it is deleted and read anew")
            try:
                (self.path / BROKEN).write_text(why)
            except OSError as unmarked:
                raise self._refused(f"is damaged ({why}), and cannot be marked so", unmarked, "delete it") from error
            raise self.broken from error

    def _refused(self, what: str, error: Exception, remedy: str) -> Fatal:
        if TOO_MANY_FILES in str(error):
            remedy = (
                f"this process may have {open_files.limit()} files open: raise the limit (ulimit -n; LimitNOFILE of a "
                "systemd unit, --ulimit nofile of a container)"
            )
        elif NO_SPACE in str(error):
            remedy = "free some space on its disk: it goes on with the next start, and nothing is lost"
        return Fatal(f"the store {self.path} {what}: {error}; {remedy}")

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


def _is_damage(error: Exception) -> bool:
    """Whether the folder itself is at fault: what the system lacks, RocksDB tells in the same words now and then."""
    why = str(error)
    return why.startswith(REBUILDABLE) and not (NO_SPACE in why or TOO_MANY_FILES in why)
