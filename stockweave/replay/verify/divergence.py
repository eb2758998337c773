"""Finds where a live row and its replay part: which update is the first that the live row shows otherwise.

What is certain: the records of the SKU that the compacted topic still holds each tell the live row after some prefix of
the updates (the position record that follows says which), and the replay is compared at each. So the parting lies
after the last prefix at which both mean the same, and not after the next. Within these bounds the first update whose
trace differs is named: what the row holds of it, by its id, as its source's count or among the deltas. Called by verify
for the one SKU that it shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

import msgspec
from confluent_kafka import Message

from inventory.digest import digest
from inventory.stock import DELTA, StockUpdate
from schemas import keys
from schemas.codec import Codec
from schemas.rows import Position, Source, decode_position, decode_row
from schemas.topics import UPDATES
from state.store import PartitionStore
from stockweave.errors import Fatal, Rejected
from stockweave.replay.ends import log_ends
from stockweave.replay.facts import Facts
from stockweave.replay.verify.compare import without_reserved
from stockweave.replay.verify.report import iso
from streams.batch import Batch, Folder, Part

EVENTS_MAX = 50_000
NO_ROW = b""


@dataclass(frozen=True)
class Log:
    """Where to look: one partition of both topics, by their deployed names.

    `start`, `end`: the offsets of updates that were folded again; `stock_end`: where the live rows were taken.
    """

    bootstrap_servers: str
    updates: str
    stock: str
    partition: int
    start: int
    end: int
    stock_end: int


@dataclass(frozen=True)
class Parting:
    """Where the live row and its replay part.

    Attributes:
        equal_until: both mean the same after all updates below this offset.
        differ_at: and something else after all below this one.
        record: offset in the compacted topic of the live row that is the first known to differ; None when there is none
            (the row is missing, and so is every trace of it).
        candidates: updates of the SKU between the two; with one, `update` is certain.
        offset, update: the update that is named; None when the SKU never had one.
        how: what the live row shows of it.
    """

    equal_until: int
    differ_at: int
    record: int | None
    candidates: int
    offset: int | None
    update: StockUpdate | None
    how: str

    @property
    def certain(self) -> bool:
        """Whether no other update can be the one."""
        return self.candidates == 1 and self.offset is not None and self.equal_until <= self.offset < self.differ_at


@dataclass(frozen=True)
class Sight:
    """The live row of the SKU after all updates below `until`: the digest of its meaning, and the record's offset."""

    until: int
    digest: bytes
    record: int | None


def find_parting(
    log: Log, folder: Folder, codec: Codec, key: bytes, live: bytes | None, seed: bytes | None = None
) -> Parting:
    """Find it, for a row that differs.

    Args:
        log: where to look.
        folder: the workers' fold.
        codec: of StockUpdate.
        key: of the row.
        live: the row as it is at `log.stock_end`, None when missing.
        seed: the row that the replay began with, at `log.start`.

    Raises:
        Fatal: the log lacks updates.
        Retriable: Kafka or the registry does not answer.
    """
    sights, last_record = _sights(log, key)
    now = Sight(log.end, _digest(live), last_record)
    last_equal, differ, replayed = _walk(log, folder, key, seed, [*sights, now])
    shown = live
    if differ.record != last_record:
        try:
            shown = _record(log, differ.record or 0)
        except _Compacted:  # meanwhile: then only the present row is there to be looked at
            known = [sight for sight in sights if sight.until <= last_equal]
            last_equal, differ, replayed = _walk(log, folder, key, seed, [*known, now])
    found = _first_trace(log, codec, key, range(last_equal, differ.until), shown, replayed)
    candidates = found.candidates
    if not candidates:  # something else wrote the record; what it shows may still tell of an earlier update
        found = _first_trace(log, codec, key, range(log.start, differ.until), shown, replayed)
    return Parting(last_equal, differ.until, differ.record, candidates, found.offset, found.update, found.how)


def _sights(log: Log, key: bytes) -> tuple[list[Sight], int | None]:
    """Two sights of each surviving record of `key`: after the first position that follows it, and after the last.

    Compaction removes a key's records from the oldest on, so none is missing between two that are there; and what was
    there before the oldest is unknown.
    """
    low, _ = log_ends(log.bootstrap_servers, log.stock, [log.partition])[log.partition]
    sights: list[Sight] = []
    row: tuple[bytes, int] | None = None
    seen = 0  # of the present row
    for message in _messages(Facts(log.bootstrap_servers, log.stock, log.partition, low, log.stock_end)):
        if message.key() == key:
            row, seen = (_digest(message.value()), cast("int", message.offset())), 0
        elif row is not None and message.key() == keys.POSITION:
            until = decode_position(message.value() or b"").offsets.get(UPDATES.name, 0)
            if log.start <= until <= log.end:
                if seen == 2:
                    sights.pop()
                sights.append(Sight(until, *row))
                seen = min(seen + 1, 2)
    return sights, None if row is None else row[1]


def _walk(
    log: Log, folder: Folder, key: bytes, seed: bytes | None, sights: list[Sight]
) -> tuple[int, Sight, bytes | None]:
    """Fold the SKU's updates again from sight to sight.

    Returns:
        The last offset at which both meant the same, the first sight after it that differs, and the replayed row there.
    """
    one = _OneRow(key, seed)
    last_equal, differ, replayed = log.start, None, None
    updates = _messages(Facts(log.bootstrap_servers, log.updates, log.partition, log.start, log.end), key)
    message = next(updates, None)
    for sight in sorted(sights, key=lambda sight: sight.until):
        while message is not None and cast("int", message.offset()) < sight.until:
            one.fold(folder, log.partition, message)
            message = next(updates, None)
        if _digest(one.row) == sight.digest:
            last_equal, differ = sight.until, None
        elif differ is None:
            differ, replayed = sight, one.row
    if differ is None:
        raise Fatal(f"{key!r} folded alone is as the live row, and folded with all others it is not: a defect of ours")
    return last_equal, differ, replayed


class _OneRow:
    """A store of one row, folded update by update."""

    def __init__(self, key: bytes, row: bytes | None) -> None:
        self.row = row
        self._key = key
        self._position = Position({}, {})

    def get_many(self, row_keys: list[bytes]) -> list[bytes | None]:
        return [self.row if key == self._key else None for key in row_keys]

    def fold(self, folder: Folder, partition: int, message: Message) -> None:
        part = Part(partition, cast("PartitionStore", self), self._position, [message])
        [folded] = folder.fold(Batch([part], None))
        self._position = folded.position
        self.row = folded.rows.get(self._key, self.row)


@dataclass(frozen=True)
class _Found:
    """An update that is named. `candidates`: of the SKU in the offsets that were looked at."""

    candidates: int
    offset: int | None
    update: StockUpdate | None
    how: str


def _first_trace(
    log: Log, codec: Codec, key: bytes, offsets: range, live: bytes | None, replayed: bytes | None
) -> _Found:
    """The first update in `offsets` of which the two rows hold something else; else the latest that may be the one."""
    shown, due = _sources(live), _sources(replayed)
    suspects = {name for name in shown.keys() | due.keys() if shown.get(name) != due.get(name)}
    candidates = 0
    first: _Named | None = None
    latest: _Named | None = None
    doubled: dict[tuple[str, str], list[_Named]] = {}
    facts = Facts(log.bootstrap_servers, log.updates, log.partition, offsets.start, offsets.stop)
    for message in _messages(facts, key):
        candidates += 1
        offset = cast("int", message.offset())
        [decoded] = codec.decode([message.value()])
        update = None if isinstance(decoded, Rejected) else cast("StockUpdate", decoded)
        source = "" if update is None else keys.source_key(update["supplier_id"], update["location_id"])
        if latest is None or source in suspects or not suspects:
            latest = _Named(offset, update, "")
        if update is None or source not in suspects:
            continue
        left, right = _trace(shown.get(source), update), _trace(due.get(source), update)
        if left == right:
            continue
        named = _Named(offset, update, _how(left, right))
        if len(left) > len(right) > 0:
            doubled.setdefault((source, update["update_id"]), []).append(named)
        elif first is None:
            first = named
    # Of what a row holds too often, it is the repeat that should have had no effect, if there was one.
    firsts = [repeats[min(1, len(repeats) - 1)] for repeats in doubled.values()]
    best = min([*firsts, *([first] if first else [])], default=latest, key=_Named.at)
    return _Found(0, None, None, "") if best is None else _Found(candidates, *best)


class _Named(NamedTuple):
    offset: int
    update: StockUpdate | None
    how: str

    def at(self) -> int:
        return self.offset


def _sources(row: bytes | None) -> dict[str, Source]:
    """The sources of a row by key, without bookkeeping."""
    if row is None:
        return {}
    sources = decode_row(row).sources
    for source in sources.values():
        source.received_at = source.offset = 0
    return sources


def _trace(source: Source | None, update: StockUpdate) -> list[tuple[int, int, str]]:
    """What a source holds of an update, by its id: quantity, time, and all else that came with it."""
    if source is None:
        return []
    if update["kind"] == DELTA:
        held = [delta for delta in source.deltas if delta.id == update["update_id"]]
        return [(delta.quantity, delta.at, repr(delta.order_ref)) for delta in held]
    count = source.count
    if count is None or count.id != update["update_id"]:
        return []
    return [(count.quantity, count.at, repr((count.kind, source.basis, source.incoming, source.stale_after_ms)))]


def _how(live: list[tuple[int, int, str]], replayed: list[tuple[int, int, str]]) -> str:
    if not live:
        return "missing in the live row"
    if not replayed:
        return "in the live row, though by the rules it has no effect any more"
    if len(live) > len(replayed):
        return f"{len(live)} times in the live row"
    (quantity, at, rest), (quantity_due, at_due, _) = live[0], replayed[0]
    if quantity != quantity_due:
        return f"in the live row with quantity {quantity}"
    return f"in the live row as observed at {iso(at)}" if at != at_due else f"in the live row with {rest}"


class _Compacted(Exception):
    """A record is gone that was there a moment ago."""


def _record(log: Log, offset: int) -> bytes | None:
    facts = Facts(log.bootstrap_servers, log.stock, log.partition, offset, offset + 1)
    for message in _messages(facts):
        return message.value()
    raise _Compacted


def _messages(facts: Facts, key: bytes | None = None) -> Iterator[Message]:
    """All messages, or those of one key: by its raw bytes, before anything is decoded."""
    for messages in facts.batches(EVENTS_MAX):
        yield from messages if key is None else [message for message in messages if message.key() == key]


def _digest(row: bytes | None) -> bytes:
    """Of what a row means, reservations apart; one that cannot be decoded means nothing that another does."""
    if row is None:
        return NO_ROW
    try:
        return digest(without_reserved(row))
    except msgspec.DecodeError:
        return row
