"""Files of Avro: a header with the schema, then blocks of records, packed or not; each field by JSONPath.

Invariant: nothing is read that is larger than its bounds, packed or unpacked, whatever the file says of itself. A row's
own bytes are its record's; the schema stands before them. Called by `reader`.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from connectors.formats.avro.records import ROWS_AT_ONCE, Decoder, Unread, decoder, rows
from connectors.formats.rows import Rows
from stockweave.errors import Rejected

MAGIC = b"Obj\x01"
SYNC_BYTES = 16
BLOCK_BYTES_MAX = 64 << 20  # as it is in the file, and unpacked
HEADER_BYTES_MAX = 4 << 20  # of one of its values
HEADER_ENTRIES_MAX = 1_000
CRC_BYTES = 4
XZ_BYTES_MAX = 256 << 20  # of its dictionary, which a few bytes may ask for


def read(blocks: Iterable[bytes], paths: Sequence[str]) -> Iterator[Rows]:
    """Rows of a file.

    Raises:
        Rejected: it is none, breaks off, or is packed in a way that is not known.
    """
    stream = _Stream(blocks)
    told = _header(stream)
    schema, codec = told.get("avro.schema", b""), told.get("avro.codec", b"null").decode("latin-1")
    if codec not in _UNPACK:
        raise _malformed(f"its codec {codec[:40]!r} is none of {', '.join(_UNPACK)}; ask for one of them")
    sync, reads = stream.take(SYNC_BYTES), decoder(schema)
    held: list[_Body] = []
    number = 0
    while not stream.is_at_end():
        count, size = stream.number(), stream.number()
        data = _unpacked(codec, stream.take(size, BLOCK_BYTES_MAX))
        if stream.take(SYNC_BYTES) != sync or not 0 <= count <= len(data):
            raise _malformed("a block is not what it says; fetch it again")
        held += _bodies(reads, data, count, number)
        number = max(number + count, held[-1].number + 1 if held else 0)  # what follows the last is a row, broken
        while len(held) >= ROWS_AT_ONCE:
            yield _batch(reads, schema, held[:ROWS_AT_ONCE], paths)
            held = held[ROWS_AT_ONCE:]
    if held:
        yield _batch(reads, schema, held, paths)


def read_again(head: bytes, original: bytes, paths: Sequence[str]) -> Iterator[Rows]:
    """A record by its schema; raises `Rejected` as `read`."""
    yield _batch(decoder(head), head, [_Body(0, original)], paths)


class _Body(NamedTuple):
    """Of a record. `number`: among all; `why`: it is no record."""

    number: int
    data: bytes
    why: Unread | None = None


def _batch(reads: Decoder, schema: bytes, held: Sequence[_Body], paths: Sequence[str]) -> Rows:
    decoded = iter(reads.decode([body.data for body in held if body.why is None]))
    found = [next(decoded) if body.why is None else body.why for body in held]
    numbers = [body.number for body in held]
    return rows(found, numbers, paths, lambda place: held[place].data)._replace(head=schema)


def _bodies(reads: Decoder, data: bytes, count: int, first: int) -> Iterator[_Body]:
    """Of a block. Where one does not fit, nobody knows where the next begins: the rest is one broken row."""
    number, done = first, 0
    try:
        for body in reads.cut(data, count):
            yield _Body(number, body)
            number, done = number + 1, done + len(body)
    except Rejected as why:
        yield _Body(number, data[done:], Unread(why))


class _Stream:
    """The bytes of a file, so many as are asked for."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._held = bytearray()

    def is_at_end(self) -> bool:
        return not self._has(1)

    def take(self, count: int, at_most: int = HEADER_BYTES_MAX) -> bytes:
        if not 0 <= count <= at_most:
            raise _malformed(f"a part of it says that it has {count} bytes; at most {at_most} are read")
        if not self._has(count):
            raise _malformed("it breaks off; fetch it again")
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken

    def number(self) -> int:
        """A long, zigzag."""
        found = shift = 0
        while (byte := self.take(1)[0]) >= 0x80:
            found |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise _malformed("a number in it has more than 10 bytes; fetch it again")
        found |= byte << shift
        return (found >> 1) ^ -(found & 1)

    def _has(self, count: int) -> bool:
        while len(self._held) < count:
            if (block := next(self._blocks, None)) is None:
                return False
            self._held += block
        return True


def _header(stream: _Stream) -> dict[str, bytes]:
    if stream.is_at_end() or stream.take(len(MAGIC)) != MAGIC:
        raise _malformed("it does not begin as a file of Avro does; is it one?")
    told: dict[str, bytes] = {}
    while count := stream.number():
        if count < 0:
            stream.number()  # the bytes of what follows
        if len(told) + abs(count) > HEADER_ENTRIES_MAX:
            raise _malformed("its header is too large; fetch it again")
        for _ in range(abs(count)):
            name = stream.take(stream.number())
            told[name.decode(errors="replace")] = stream.take(stream.number())
    return told


def _unpacked(codec: str, data: bytes) -> bytes:
    try:
        found = _UNPACK[codec](data)
    except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError) as error:
        raise _malformed(f"a block cannot be unpacked ({type(error).__name__}); fetch it again") from None
    if len(found) > BLOCK_BYTES_MAX:
        raise _malformed(f"a block is larger than {BLOCK_BYTES_MAX} bytes; ask for smaller ones")
    return found


def _snappy(data: bytes) -> bytes:
    """Its length stands at its beginning, a checksum at its end."""
    size = shift = 0
    for byte in data[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > BLOCK_BYTES_MAX:
        raise ValueError("too large")
    found = pa.Codec("snappy").decompress(data[:-CRC_BYTES], size, asbytes=True)
    if zlib.crc32(found) != int.from_bytes(data[-CRC_BYTES:], "big"):
        raise ValueError("checksum")
    return bytes(found)


def _zstandard(data: bytes) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        return bytes(stream.read(BLOCK_BYTES_MAX + 1))


_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "null": bytes,
    "deflate": lambda data: zlib.decompressobj(-15).decompress(data, BLOCK_BYTES_MAX + 1),
    "snappy": _snappy,
    "zstandard": _zstandard,
    "bzip2": lambda data: bz2.BZ2Decompressor().decompress(data, BLOCK_BYTES_MAX + 1),
    "xz": lambda data: lzma.LZMADecompressor(memlimit=XZ_BYTES_MAX).decompress(data, BLOCK_BYTES_MAX + 1),
}


def _malformed(detail: str) -> Rejected:
    return Rejected("malformed_avro", detail)
