"""EDI's segments: cut from blocks at the marks that each interchange names, none of their bytes lost or changed.

Invariant: the segments, one after the other, are the document's bytes; every byte is looked at a fixed number of times,
however the blocks are cut and whatever they hold. Used by `interchanges`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from stockweave.errors import Rejected

SEGMENT_BYTES_MAX = 1 << 20
HEAD_BYTES = 512  # of an interchange: its marks are among them
TAG_BYTES = 3

_GAP = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n\x00\x1a]*")  # after a terminator; the last one ends files of old systems


class Marks(NamedTuple):
    """What parts an interchange's segments, one character each. `release`: before one that is meant, "" if none is."""

    element: str
    component: str
    release: str
    terminator: str
    decimal: str = "."


class Segment(NamedTuple):
    """`lead`: what stands between it and the one before; `data`: without `end`, which is its terminator."""

    lead: bytes
    data: bytes
    end: bytes
    marks: Marks

    @property
    def said(self) -> bytes:
        """Without the line ends of those who break lines wherever they are full; no element may have any."""
        if b"\n" not in self.data and b"\r" not in self.data:
            return self.data
        return self.data.translate(None, bytes(set(b"\r\n") - set("".join(self.marks).encode("latin-1"))))

    @property
    def tag(self) -> str:
        """Its name."""
        return self.said.partition(self.marks.element.encode("latin-1"))[0].decode("latin-1")


def segments(
    blocks: Iterable[bytes], openings: Collection[bytes], marks_of: Callable[[bytes, Segment | None], Marks]
) -> Iterator[Segment]:
    """All segments of a document.

    Args:
        blocks: its bytes, in pieces of any size.
        openings: the tags that begin an interchange, each of three bytes.
        marks_of: the marks, of how an interchange begins and of the segment before.

    Raises:
        Rejected: it does not begin with an interchange, or a segment is too long.
    """
    held = bytearray()
    before: Segment | None = None
    marks: Marks | None = None
    searched = 0
    for block in chain(blocks, (None,)):
        held += block or b""
        at, is_last = 0, block is None
        while (start := _gap_end(held, at)) < len(held):
            is_opening = bytes(held[start : start + TAG_BYTES]) in openings
            if len(held) - start < (HEAD_BYTES if is_opening else TAG_BYTES) and not is_last:
                break
            if is_opening:
                marks = marks_of(bytes(held[start : start + HEAD_BYTES]), before)
            elif marks is None:
                raise not_edi(bytes(held[start : start + HEAD_BYTES]), openings)
            end = _end(held, start, max(start, searched), marks)
            if end < 0 and not is_last:
                searched = len(held)
                break
            end = end if end >= 0 else len(held)
            _check_length(end - start)
            before = Segment(bytes(held[at:start]), bytes(held[start:end]), bytes(held[end : end + 1]), marks)
            yield before
            at, searched = end + 1, 0
        _check_length(len(held) - at)
        del held[:at]
        searched = max(0, searched - at)


def _check_length(length: int) -> None:
    if length > SEGMENT_BYTES_MAX:
        detail = f"a segment is longer than {SEGMENT_BYTES_MAX} bytes; its terminator is missing, or another one"
        raise Rejected("segment_too_long", detail)


def not_edi(head: bytes, openings: Collection[bytes]) -> Rejected:
    """What is to be said of a document that is something else."""
    wanted = " or ".join(sorted(tag.decode() for tag in openings))
    shown = head[:20].decode("ascii", "backslashreplace")
    return Rejected("malformed_edi", f"it begins with {shown!r}, and not with {wanted}; mend format, or the file")


def checked(marks: Marks, head: bytes) -> Marks:
    """The marks; raises `Rejected` if they cannot be ones."""
    told = [mark for mark in marks[:4] if mark]
    if len(set(told)) != len(told) or any(mark.isalnum() or mark == " " for mark in told):
        shown = head[:9].decode("ascii", "backslashreplace")
        raise Rejected("malformed_edi", f"{shown!r} names {told} as marks, which cannot be; mend it at the supplier")
    return marks


def _gap_end(held: bytearray, at: int) -> int:
    found = _GAP.match(held, at)
    return at if found is None else found.end()


def _end(held: bytearray, start: int, at: int, marks: Marks) -> int:
    """Where the terminator is, from `at` on; below 0 if there is none. One after an odd run of releases is text."""
    terminator = marks.terminator.encode("latin-1")
    release = ord(marks.release) if marks.release else -1
    while (end := held.find(terminator, at)) >= 0:
        before, releases = end - 1, 0
        while before >= start and (held[before] == release or held[before] in b"\r\n"):
            releases += held[before] == release
            before -= 1
        if releases % 2 == 0:
            return end
        at = end + 1
    return -1


def split(text: str, mark: str, release: str) -> list[str]:
    """What the marks part; releases are left in it."""
    if not release or release not in text:
        return text.split(mark)
    parts: list[str] = []
    whole: list[str] = []
    for piece in text.split(mark):
        whole.append(piece)
        if (len(piece) - len(piece.rstrip(release))) % 2 == 0:
            parts.append(mark.join(whole))
            whole = []
    return [*parts, mark.join(whole)] if whole else parts


def released(text: str, release: str) -> str:
    """As it was meant."""
    if not release or release not in text:
        return text
    return re.sub(re.escape(release) + "(.)", r"\1", text, flags=re.DOTALL)
