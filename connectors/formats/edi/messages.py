"""One message of EDI while it comes: its bytes, and its items as rows, which count once its trailer says so.

Invariant: the bytes are those of the document from the header on; each item's are those from its LIN up to the next.
Used by `interchanges`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from connectors.formats.edi.fields import Elements
from connectors.formats.edi.segments import Marks, Segment, split
from stockweave.errors import Rejected

MESSAGE_BYTES_MAX = 32 << 20

RowsOf = Callable[[list[Elements], list[Elements], Marks], list[list[str | None]]]
"""An item's rows, of its segments and the header's."""


def parsed(segment: Segment, encoding: str, errors: str = "strict") -> Elements:
    """A segment as texts."""
    return split(segment.said.decode(encoding, errors), segment.marks.element, segment.marks.release)


class Found(NamedTuple):
    """A row, by its values, or what is wrong with it; and where its bytes are in its message's."""

    values: list[str | None]
    fault: str | None
    start: int
    end: int


class _Item:
    """One LIN with what belongs to it. `start`: in its message's bytes."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.segments: list[Elements] = []
        self.fault: str | None = None


class Message:
    """A message that is under way, or other segments that belong together.

    Args:
        number: of its header.
        fault: why none of it is used, where that is known.
        encoding: of its texts.
        tail: what ends its last item.
        rows_of: an item's rows, of its segments and the header's.
    """

    def __init__(
        self, number: str, fault: str | None, encoding: str, tail: Sequence[str],
        rows_of: RowsOf,
    ) -> None:  # fmt: skip
        self.number, self.fault = number, fault
        self.raw = bytearray()
        self.count = 0
        self.found: list[Found] = []
        self._encoding, self._tail, self._rows_of = encoding, tail, rows_of
        self._header: list[Elements] = []
        self._item: _Item | None = None

    def add(self, segment: Segment) -> None:
        """One more segment."""
        before = len(self.raw)
        start = before + (len(segment.lead) if before else 0)
        self.raw += (segment.lead if before else b"") + segment.data + segment.end
        if len(self.raw) > MESSAGE_BYTES_MAX:
            raise Rejected("too_large", f"a message is larger than {MESSAGE_BYTES_MAX} bytes; ask for several")
        if segment.data:
            self.count += 1
            if self.fault is None:
                self._read(segment, before, start)

    def end_item(self, at: int, marks: Marks) -> None:
        """The item that is open has ended there."""
        item, self._item = self._item, None
        if item is None:
            return
        if item.fault is not None:
            self.found.append(Found([], item.fault, item.start, at))
            return
        for values in self._rows_of(item.segments, self._header, marks):
            self.found.append(Found(values, None, item.start, at))

    def _read(self, segment: Segment, before: int, start: int) -> None:
        fault = None
        try:
            elements = parsed(segment, self._encoding)
        except UnicodeDecodeError as error:
            elements = [segment.tag]
            fault = f"a byte of {segment.tag[:3]} is not {self._encoding} ({error.reason}); name its encoding"
        if elements[0] == "LIN" or elements[0] in self._tail:
            self.end_item(before, segment.marks)
        if elements[0] == "LIN":
            self._item = _Item(start)
        if self._item is not None:
            self._item.segments.append(elements)
            self._item.fault = self._item.fault or fault
        else:
            self._header.append(elements)
            self.fault = fault
