"""Packed bytes, as they were."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator

import pytest

from connectors.formats.compression import OUT_BYTES, plain
from stockweave.errors import Rejected

TEXT = b"".join(b"sku-%d;%d\n" % (n, n * 7_919 % 1_000) for n in range(50_000))


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize("size", [1, 3, 1_000, 1 << 20])
@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(TEXT[:9_000]),
        gzip.compress(TEXT[:4_000]) + gzip.compress(TEXT[4_000:9_000]),
        zipped(a=TEXT[:9_000]),
    ],
)
def test_it_is_what_was_packed_however_it_comes(packed: bytes, size: int) -> None:
    assert b"".join(plain(pieces(packed, size))) == TEXT[:9_000]


@pytest.mark.parametrize("data", [b"", b"P", b"PK", TEXT, b"\x1f", b"\x00\x01"])
def test_what_is_not_packed_stays_as_it_is(data: bytes) -> None:
    assert b"".join(plain(pieces(data, 5))) == data


def test_a_workbook_is_a_zip_and_stays_one() -> None:
    packed = zipped(a=TEXT)
    assert b"".join(plain(pieces(packed, 1_000), unzip=False)) == packed


@pytest.mark.parametrize("cut", [5, 100, -1, -9])
def test_a_gzip_that_breaks_off_is_refused(cut: int) -> None:
    with pytest.raises(Rejected, match="breaks off; fetch it again"):
        list(plain([gzip.compress(TEXT)[:cut]]))


@pytest.mark.parametrize(
    "packed", [gzip.compress(TEXT)[:50] + b"xxxx" * 50, zipped(a=TEXT)[:2_000], zipped(a=b"", b=b"")]
)
def test_what_cannot_be_unpacked_is_refused(packed: bytes) -> None:
    with pytest.raises(Rejected, match=r"; (fetch it again|send it as gzip|send each by itself)"):
        list(plain([packed]))


def test_what_swells_does_so_a_little_at_a_time() -> None:
    swollen = zlib.compressobj(wbits=31)
    data = b"".join(swollen.compress(bytes(1 << 20)) for _ in range(300)) + swollen.flush()
    out = [len(block) for block in plain([data])]
    assert (sum(out), max(out)) == (300 << 20, OUT_BYTES)
