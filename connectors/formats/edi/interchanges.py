"""EDI's envelopes: their messages one after the other, each whole or broken, in memory that one message bounds.

Invariant: a message's rows are used when its trailer has come and says what came, and only then. Every other message,
segment and trailer that does not fit is told as broken, with its bytes. Used by `x12` and `edifact`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import pyarrow as pa

from connectors.formats.edi.fields import Elements, Field, Place, element, first
from connectors.formats.edi.messages import Found, Message, RowsOf, parsed
from connectors.formats.edi.segments import Marks, Segment, segments
from connectors.formats.edi.standard import Config, Standard
from connectors.formats.rows import Broken, Rows
from stockweave.errors import Rejected

ROWS_AT_ONCE = 4_096
BYTES_AT_ONCE = 8 << 20  # of messages, however few rows they have


def read(blocks: Iterable[bytes], standard: Standard, config: Config, fields: Mapping[str, Field]) -> Iterator[Rows]:
    """Rows of a document.

    Args:
        blocks: its bytes, in pieces of any size.
        standard: X12 or EDIFACT.
        config: which quantities are rows, and whether tests are read.
        fields: what to find in each row, by path.

    Raises:
        Rejected: it is of another standard, or a segment or a message has no end.
    """
    reader = _Reader(standard, config, fields)
    try:
        for segment in segments(blocks, standard.openings, standard.marks_of):
            reader.take(segment)
            if len(reader.entries) >= ROWS_AT_ONCE or reader.held_bytes >= BYTES_AT_ONCE:
                yield from reader.rows()
    except Rejected:
        reader.end()
        yield from reader.rows()  # what came before it
        raise
    reader.end()
    yield from reader.rows()


class _Entry(NamedTuple):
    """What was found, and the bytes that it was found in."""

    found: Found
    raw: bytes


class _Envelope:
    """An interchange or a group that is open, and how much has come in it."""

    def __init__(self, header: Segment, elements: Elements, number: str) -> None:
        self.header = header
        self.elements = elements
        self.number = number
        self.groups = 0
        self.messages = 0


class _Reader:
    """What has come of a document, and what is open of it."""

    def __init__(self, standard: Standard, config: Config, fields: Mapping[str, Field]) -> None:
        self.entries: list[_Entry] = []
        self.held_bytes = 0
        self._number = 0
        self._standard, self._config, self._fields = standard, config, fields
        self._interchange: _Envelope | None = None
        self._group: _Envelope | None = None
        self._message: Message | None = None
        self._encoding = "latin-1"
        each = standard
        self._framing = {
            each.interchange.opens: self._open_interchange,
            each.group.opens: self._open_group,
            each.message.opens: self._open_message,
            each.message.closes: self._close_message,
            each.group.closes: self._close_group,
            each.interchange.closes: self._close_interchange,
        }

    def take(self, segment: Segment) -> None:
        """The next segment."""
        is_advice = segment.data[:3] == b"UNA" and b"UNA" in self._standard.openings
        act = None if is_advice else self._framing.get(segment.tag)
        if act is None and not is_advice:
            if self._message is None and segment.data:
                self._begin_stray()
            if self._message is not None:
                self._message.add(segment)
            return
        closes = self._standard.message.closes
        if self._message is not None and segment.tag != closes:
            self._give_up(f"the message breaks off: there is no {closes}; fetch it again")
        if act is not None:
            act(segment, parsed(segment, self._encoding, "replace"))

    def end(self) -> None:
        """The document has ended."""
        if self._message is not None:
            self._give_up(f"the message breaks off: there is no {self._standard.message.closes}; fetch it again")
        self._end_group()
        self._end_interchange()

    def rows(self) -> Iterator[Rows]:
        """What has come, some at a time."""
        entries, self.entries, self.held_bytes = self.entries, [], 0
        for first_of in range(0, len(entries), ROWS_AT_ONCE):
            yield self._rows(entries[first_of : first_of + ROWS_AT_ONCE])

    def _rows(self, entries: Sequence[_Entry]) -> Rows:
        numbered = list(enumerate(entries, self._number))
        self._number += len(entries)
        good = [(number, entry) for number, entry in numbered if entry.found.fault is None]
        broken = [
            Broken(number, _original(entry), entry.found.fault)
            for number, entry in numbered
            if entry.found.fault is not None
        ]
        columns = {
            path: pa.array([entry.found.values[at] for _, entry in good], pa.string())
            for at, path in enumerate(self._fields)
        }
        numbers = pa.array([number for number, _ in good], pa.int64())
        return Rows(columns, numbers, lambda place: _original(good[place][1]), broken)

    def _broken(self, raw: bytes, fault: str) -> None:
        self._give([Found([], fault, 0, len(raw))], raw)

    def _give(self, found: Sequence[Found], raw: bytes) -> None:
        self.entries += [_Entry(each, raw) for each in found]
        self.held_bytes += len(raw)

    def _give_up(self, why: str) -> None:
        """What is open has no end of its own."""
        message, self._message = self._message, None
        if message is not None:
            self._broken(bytes(message.raw), message.fault or why)

    def _begin_stray(self) -> None:
        name = self._standard.message
        why = f"segments stand outside of {name.opens} and {name.closes}; mend it at the supplier"
        self._message = Message("", why, self._encoding, (), self._items_rows([]))

    def _open_interchange(self, segment: Segment, elements: Elements) -> None:
        self._end_group()
        self._end_interchange()
        self._encoding = self._standard.encoding_of(elements, segment.marks)
        self._interchange = _Envelope(segment, elements, element(elements, self._standard.interchange.number))

    def _open_group(self, segment: Segment, elements: Elements) -> None:
        self._end_group()
        self._group = _Envelope(segment, elements, element(elements, self._standard.group.number))
        if self._interchange is not None:
            self._interchange.groups += 1

    def _open_message(self, segment: Segment, elements: Elements) -> None:
        above = [envelope for envelope in (self._group, self._interchange) if envelope is not None]
        for envelope in above:
            envelope.messages += 1
        told = self._standard.type_of(elements, segment.marks)
        fault = None
        if told != self._standard.type:
            fault = (
                f"the message is of type {told[:10]!r}, and {self._standard.type} alone is read; send others elsewhere"
            )
        elif self._interchange is None:
            fault = f"the message stands outside of an interchange; send {self._standard.interchange.opens} before it"
        elif self._standard.is_test(self._interchange.elements) and not self._config.tests:
            fault = f"the message is a test, by its {self._standard.interchange.opens}; set tests: true to read such"
        rows_of = self._items_rows([elements, *(envelope.elements for envelope in above)])
        number = element(elements, self._standard.message.number)
        self._message = Message(number, fault, self._encoding, self._standard.tail, rows_of)
        self._message.add(segment)

    def _close_message(self, segment: Segment, elements: Elements) -> None:
        message = self._message
        if message is None:
            self._broken(segment.data, f"{elements[0]} ends no message; mend it at the supplier")
            return
        message.end_item(len(message.raw), segment.marks)
        message.fault = message.fault or _mismatch(elements, message.count + 1, "segments", message.number)
        message.add(segment)
        if message.fault is not None:
            self._give_up("")
            return
        self._message = None
        self._give(message.found, bytes(message.raw))

    def _close_group(self, segment: Segment, elements: Elements) -> None:
        group, self._group = self._group, None
        if group is None:
            self._broken(segment.data, f"{elements[0]} ends no group; mend it at the supplier")
        elif fault := _mismatch(elements, group.messages, "messages", group.number):
            self._broken(segment.data, fault)

    def _close_interchange(self, segment: Segment, elements: Elements) -> None:
        self._end_group()
        interchange, self._interchange = self._interchange, None
        if interchange is None:
            self._broken(segment.data, f"{elements[0]} ends no interchange; mend it at the supplier")
            return
        count, what = (interchange.groups, "groups") if interchange.groups else (interchange.messages, "messages")
        if fault := _mismatch(elements, count, what, interchange.number):
            self._broken(segment.data, fault)

    def _end_group(self) -> None:
        if self._group is not None:
            why = f"the group breaks off: there is no {self._standard.group.closes}; fetch it again"
            self._broken(self._group.header.data, why)
            self._group = None

    def _end_interchange(self) -> None:
        if self._interchange is not None:
            why = f"the interchange breaks off: there is no {self._standard.interchange.closes}; fetch it again"
            self._broken(self._interchange.header.data, why)
            self._interchange = None

    def _items_rows(self, envelope: list[Elements]) -> RowsOf:
        return partial(self._item_rows, envelope)

    def _item_rows(
        self, envelope: list[Elements], item: list[Elements], header: list[Elements], marks: Marks
    ) -> list[list[str | None]]:
        """One for each quantity that counts; one without, where none does."""
        shared, quantities = self._standard.parts(item)
        wanted, qualifier = self._config.quantities, self._standard.qualifier
        counted = [part for part in quantities if not wanted or first(part, "QTY", qualifier, marks) in wanted]
        places = [Place([part, shared, header, envelope], quantities, marks) for part in counted or [[]]]
        return [[find(place) for find in self._fields.values()] for place in places]


def _original(entry: _Entry) -> bytes:
    return entry.raw[entry.found.start : entry.found.end]


def _mismatch(trailer: Elements, count: int, what: str, number: str) -> str | None:
    """Why a trailer is not that of what came before it; None if it is."""
    told, told_number = element(trailer, 1).strip(), element(trailer, 2).strip()
    if not told.isascii() or not told.isdecimal() or int(told[:18]) != count:
        return f"{trailer[0]} says {told[:20]!r} {what}, and {count} came; fetch it again, or mend it at the supplier"
    if told_number.lstrip("0") != number.strip().lstrip("0"):
        return f"{trailer[0]} has the number {told_number[:20]!r}, and its header {number[:20]!r}; fetch it again"
    return None
