"""One partition's log: records and transaction markers at offsets, and who may see what.

Invariant: an offset is given once. A record of a transaction is seen by a reader of committed data once the marker of
its commit is in this very partition and no transaction that began before it is open here: so below the last stable
offset, whatever the coordinator has decided meanwhile.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter


class Span:
    """What one transaction wrote to one partition. `committed`: None until its marker is in the log."""

    __slots__ = ("committed", "first", "producer")

    def __init__(self, producer: int, first: int) -> None:
        self.producer = producer
        self.first = first
        self.committed: bool | None = None


class Record:
    """A message in the log. `timestamp`: when it was appended, in ms."""

    __slots__ = ("headers", "key", "offset", "span", "timestamp", "value")

    def __init__(
        self,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None,
        timestamp: int,
        span: Span | None,
    ) -> None:
        self.offset = offset
        self.key = key
        self.value = value
        self.headers = headers
        self.timestamp = timestamp
        self.span = span

    @property
    def committed(self) -> bool:
        """Whether it is no part of a transaction that is open or was undone."""
        return self.span is None or self.span.committed is True


_offset = attrgetter("offset")


class Log:
    """A partition. `start`: the first offset that is kept; `end`: the next one to be given."""

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.number = number
        self.start = 0
        self.end = 0
        self.records: list[Record] = []
        self.open: dict[int, Span] = {}

    @property
    def stable_end(self) -> int:
        """The last stable offset: where the first open transaction begins, or the end."""
        return min(span.first for span in self.open.values()) if self.open else self.end

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None,
        timestamp: int,
        producer: int | None = None,
    ) -> int:
        """Add a record, within `producer`'s transaction unless that is None; returns its offset."""
        span = None
        if producer is not None:
            span = self.open.get(producer)
            if span is None:
                span = self.open[producer] = Span(producer, self.end)
        self.records.append(Record(self.end, key, value, headers, timestamp, span))
        self.end += 1
        return self.end - 1

    def mark(self, producer: int, *, commit: bool) -> None:
        """Write the marker that ends a transaction here; it takes an offset and is no record."""
        span = self.open.pop(producer, None)
        if span is not None:
            span.committed = commit
        self.end += 1

    def read(self, first: int, records_max: int, *, committed: bool) -> tuple[list[Record], int]:
        """What a fetch brings from `first` on, and the offset after the last that it looked at."""
        end = self.stable_end if committed else self.end
        found: list[Record] = []
        if first >= end:
            return found, first
        at = bisect_left(self.records, first, key=_offset)
        while at < len(self.records) and len(found) < records_max:
            record = self.records[at]
            if record.offset >= end:
                break
            if not committed or record.committed:
                found.append(record)
            at += 1
        if at < len(self.records) and self.records[at].offset < end:
            return found, self.records[at].offset  # there is more
        return found, max(first, end)

    def compact(self, upto: int, before_ms: int) -> int:
        """Remove what a later committed record of its key replaces, and what was undone; how many went.

        Of what lies below `upto`, and before the first record that is not older than `before_ms`.
        """
        young = (r.offset for r in self.records if r.timestamp >= before_ms)
        upto = min(upto, self.stable_end, next(young, self.end))
        latest = {r.key: r.offset for r in self.records if r.offset < upto and r.committed}
        kept = [r for r in self.records if r.offset >= upto or (r.committed and latest[r.key] == r.offset)]
        removed = len(self.records) - len(kept)
        self.records = kept
        return removed

    def trim(self, before: int) -> None:
        """Delete what lies below an offset."""
        self.start = max(self.start, min(before, self.stable_end))
        self.records = [r for r in self.records if r.offset >= self.start]
