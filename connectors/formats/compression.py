"""Bytes as they were before somebody packed them: gzip and zip, told by how they begin. Called before the formats."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain

from stockweave.errors import Rejected

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
OUT_BYTES = 1 << 20  # unpacked at a time, however well it was packed
IN_MEMORY_BYTES = 8 << 20


def plain(blocks: Iterable[bytes], *, unzip: bool = True) -> Iterator[bytes]:
    """The same, unpacked. `unzip`: a zip is not the document itself, as a workbook is.

    Raises:
        Rejected: it is packed, and breaks off or holds several files.
    """
    given = iter(blocks)
    first = next(given, b"")
    while len(first) < len(ZIP) and (more := next(given, None)) is not None:
        first += more
    whole = chain((first,), given)
    if first.startswith(GZIP):
        return _gunzipped(whole)
    return _unzipped(whole) if unzip and first.startswith(ZIP) else whole


def _gunzipped(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Of one member after the other."""
    member = zlib.decompressobj(wbits=31)
    is_inside = False
    try:
        for block in blocks:
            left = block
            while left:
                is_inside = True
                if out := member.decompress(left, OUT_BYTES):
                    yield out
                left = member.unconsumed_tail
                if member.eof:
                    left, member, is_inside = member.unused_data.lstrip(b"\0"), zlib.decompressobj(wbits=31), False
        while is_inside and (out := member.decompress(b"", OUT_BYTES)):  # what had no room beside the last of it
            yield out
            is_inside = not member.eof
    except zlib.error as error:
        raise Rejected("malformed_gzip", f"it is no gzip ({error}); fetch it again") from None
    if is_inside:
        raise Rejected("malformed_gzip", "the gzip breaks off; fetch it again")


def _unzipped(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Its only file; what a zip holds is told at its end, so it is kept until then, on the disk if it is large."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as packed:
        for block in blocks:
            packed.write(block)
        try:
            with zipfile.ZipFile(packed) as archive:
                names = [info for info in archive.infolist() if not info.is_dir()]
                if len(names) != 1:
                    raise Rejected("several_files", f"the zip holds {len(names)} files; send each by itself")
                with archive.open(names[0]) as file:
                    while block := file.read(OUT_BYTES):
                        yield block
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
            raise Rejected("malformed_zip", f"it cannot be unpacked ({error}); send it as gzip") from None
