"""The Parquet file of one partition of a checkpoint: written in the order of the keys, read back with all verified.

Invariant: no row leaves a file unless its digest is right, and nobody is told that all were read unless the file's
checksum, the number of its rows and their digest are those of the manifest. Memory is that of one row group. Any tool
that reads Parquet reads these files.
"""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from inventory.digest import DIGEST_BYTES, PartitionDigest, digest
from schemas.keys import ROW_FIRST
from schemas.rows import decode_packed_row
from stockweave.errors import Fatal
from stockweave.replay.checkpoint.manifest import PartitionFile

SCHEMA = pa.schema(
    [
        pa.field("key", pa.binary(), nullable=False),
        pa.field("sku", pa.string()),
        pa.field("on_hand", pa.int64()),
        pa.field("version", pa.int64()),
        pa.field("changed_at", pa.timestamp("ms", tz="UTC")),
        pa.field("row", pa.binary(), nullable=False),
        pa.field("digest", pa.binary(DIGEST_BYTES), nullable=False),
    ]
)
"""`key` and `row` as they are stored; what is between them is null for what is under a reserved key, such as a hold."""
GROUP_ROWS_MAX = 20_000
GROUP_BYTES_MAX = 16 << 20  # of rows and keys
BLOCK_BYTES = 1 << 20
REMEDY = "use another copy of it, or another checkpoint"

Entry = tuple[bytes, bytes]


class Written(NamedTuple):
    """What a file holds; see `PartitionFile`."""

    bytes: int
    sha256: str
    rows: int
    others: int
    digest: str


def write(out: IO[bytes], entries: Iterable[Entry]) -> Written:
    """Write keys and values, which come in the order of their keys.

    Raises:
        Fatal: a row is no row.
        ValueError: they come in another order.
    """
    hashed = _Hashed(out)
    total = _Total()
    with pq.ParquetWriter(
        hashed, SCHEMA, compression="zstd", use_dictionary=False, write_statistics=["key"], write_page_checksum=True
    ) as writer:
        for group in _groups(entries):
            cells = zip(*(_cells(key, value, total) for key, value in group), strict=True)
            writer.write_batch(pa.record_batch(list(map(list, cells)), schema=SCHEMA), row_group_size=len(group))
    return Written(hashed.tell(), hashed.hexdigest(), total.digest.rows, total.others, total.digest.hexdigest())


def read(file: IO[bytes], known: PartitionFile, where: str) -> Iterator[list[Entry]]:
    """All keys and values, in order, a row group at a time.

    Args:
        file: can be sought in.
        known: what the manifest says of it.
        where: its address, for messages.

    Raises:
        Fatal: it is damaged; the groups that came before are right even so.
    """
    check_bytes(file, known, where)
    total = _Total()
    parquet = opened(file, where)
    for number in range(parquet.num_row_groups):
        group = _read_group(parquet, number, where)
        for key, value, known_digest in group:
            try:
                _check(total.add(key, value), known_digest, key, where)
            except (ValueError, msgspec.DecodeError) as error:
                raise Fatal(f"{where} is damaged: at key {key!r}: {error}; {REMEDY}") from error
        yield [(key, value) for key, value, _ in group]
    found = (total.digest.rows, total.others, total.digest.hexdigest())
    if found != (known.rows, known.others, known.digest):
        raise Fatal(
            f"{where} is damaged: it has {found[0]:,} rows with digest {found[2]} and {found[1]:,} others, and the "
            f"manifest says {known.rows:,} with digest {known.digest} and {known.others:,}; {REMEDY}"
        )


def check_bytes(file: IO[bytes], known: PartitionFile, where: str) -> None:
    """Compare length and checksum of a file with what the manifest says; leaves it at its beginning.

    Raises:
        Fatal: they differ.
    """
    sha256, count = hashlib.sha256(), 0
    while block := file.read(BLOCK_BYTES):
        sha256.update(block)
        count += len(block)
    file.seek(0)
    if count != known.bytes:
        raise Fatal(f"{where} is damaged: it has {count:,} bytes, and the manifest says {known.bytes:,}; {REMEDY}")
    if sha256.hexdigest() != known.sha256:
        raise Fatal(f"{where} is damaged: its SHA-256 is {sha256.hexdigest()}, not {known.sha256}; {REMEDY}")


def opened(file: IO[bytes], where: str) -> pq.ParquetFile:
    """The file as Parquet.

    Raises:
        Fatal: it is none, or has other columns.
    """
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise Fatal(f"{where} is damaged: {error}; {REMEDY}") from error
    if not parquet.schema_arrow.equals(SCHEMA):
        raise Fatal(f"{where} has other columns than a checkpoint; {REMEDY}")
    return parquet


class Finder:
    """Finds single rows in a file without reading the rest; what it finds is checked by page checksum and digest.

    Args:
        file: can be sought in, and stays open.
        where: its address, for messages.
    """

    def __init__(self, file: IO[bytes], where: str) -> None:
        self._where = where
        self._parquet = opened(file, where)
        metadata = self._parquet.metadata
        self._firsts: list[bytes] = [
            metadata.row_group(i).column(0).statistics.min for i in range(metadata.num_row_groups)
        ]
        self._held: tuple[int, dict[bytes, tuple[bytes, bytes]]] = (-1, {})

    def find(self, key: bytes) -> bytes | None:
        """The value of a key, None where there is none.

        Raises:
            Fatal: it is damaged.
        """
        number = bisect_right(self._firsts, key) - 1
        if number < 0:
            return None
        if self._held[0] != number:
            group = _read_group(self._parquet, number, self._where)
            self._held = number, {found: (value, known) for found, value, known in group}
        found = self._held[1].get(key)
        if found is None:
            return None
        value, known = found
        _check(_digest_of(key, value), known, key, self._where)
        return value


def _check(found: bytes, known: bytes, key: bytes, where: str) -> None:
    if found != known:
        raise Fatal(f"{where} is damaged: the digest of {key!r} is not that of its row; {REMEDY}")


def _read_group(parquet: pq.ParquetFile, number: int, where: str) -> list[tuple[bytes, bytes, bytes]]:
    try:
        table = parquet.read_row_group(number, columns=["key", "row", "digest"])
    except (pa.ArrowException, OSError) as error:
        raise Fatal(f"{where} is damaged: {error}; {REMEDY}") from error
    return list(zip(*(table.column(name).to_pylist() for name in ("key", "row", "digest")), strict=True))


class _Total:
    """What was written or read so far."""

    def __init__(self) -> None:
        self.digest = PartitionDigest()
        self.others = 0

    def add(self, key: bytes, value: bytes) -> bytes:
        """Add the next; returns its own digest."""
        if key >= ROW_FIRST:
            return self.digest.add(key, value)
        self.others += 1
        return _digest_of(key, value)


def _digest_of(key: bytes, value: bytes) -> bytes:
    """Of a row, what it means; of what is under a reserved key, all its bytes."""
    return digest(value) if key >= ROW_FIRST else hashlib.blake2b(value, digest_size=DIGEST_BYTES).digest()


def _cells(key: bytes, value: bytes, total: _Total) -> tuple[Any, ...]:
    try:
        own = total.add(key, value)
        row = decode_packed_row(value) if key >= ROW_FIRST else None
    except msgspec.DecodeError as error:
        raise Fatal(f"the live row under {key!r} is no row ({error}); `stockweave rebuild` makes all anew") from error
    if row is None:
        return key, None, None, None, None, value, own
    return key, row.sku, row.on_hand, row.version, row.changed_at, value, own


def _groups(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    group: list[Entry] = []
    size = 0
    for entry in entries:
        group.append(entry)
        size += len(entry[0]) + len(entry[1])
        if len(group) >= GROUP_ROWS_MAX or size >= GROUP_BYTES_MAX:
            yield group
            group, size = [], 0
    if group:
        yield group


class _Hashed(io.RawIOBase):
    """A file to write to that knows its checksum."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._sha256 = hashlib.sha256()
        self._count = 0

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:  # noqa: ANN401 - whatever has bytes
        view = bytes(block)
        self._sha256.update(view)
        self._count += len(view)
        self._out.write(view)
        return len(view)

    def tell(self) -> int:
        return self._count

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()
