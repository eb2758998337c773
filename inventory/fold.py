"""Folds a batch of updates into the rows that they touch, whatever number of updates a row receives.

The events of a row are folded one by one, in log order, so that no result depends on the batch. The boundary is narrow
on purpose (columns and encoded rows in; encoded rows, tallies and refusals out), so that a compiled kernel can stand in
its place with this as its oracle. Which rows may have crossed into another alert state is found out here, where they
are decoded anyway. Called by `streams.batch`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from inventory.alerts import IN_STOCK, UNITS_MAX, Sure
from inventory.reservations.reserved import forget
from inventory.stock import (
    APPLIED,
    DELTA,
    DUPLICATE,
    KINDS,
    REPLACED,
    ROW_FULL,
    SUPERSEDED,
    WRONG_PARTITION,
    Event,
    Limits,
    apply_count,
    apply_delta,
    apply_event,
    describe,
)
from inventory.updates import Updates
from schemas.keys import id_problem
from schemas.rows import (
    OUTCOMES,
    UNATTRIBUTED,
    Count,
    PackedRow,
    Source,
    decode_packed_row,
    decode_packed_rows,
    decode_source,
    encode,
    encode_into,
)
from schemas.topics import MESSAGE_BYTES_MAX

APPLIED_AT, REJECTED_AT = OUTCOMES.index("applied"), OUTCOMES.index("rejected")
TALLIED_AT = {DUPLICATE: OUTCOMES.index("duplicate"), SUPERSEDED: OUTCOMES.index("superseded")}
"""Where what is neither applied nor rejected is counted."""

ROW_BYTES_MAX = MESSAGE_BYTES_MAX * 3 // 4
"""Of a row's sources and their keys, as encoded: what the rest of a row takes fits beside them into one message. What
would make a row grow beyond it is rejected, and what makes it smaller is always taken; so a row depends on the order of
its events alone, wherever the log is cut into batches."""
RUN = 32  # rows that are decoded together
UPDATE_BYTES_MAX = 4_096  # the most that one update can add, with ids and receipts as long as `refusal` lets them be


class Folded(NamedTuple):
    """What became of a batch.

    `rows`: the changed ones, encoded, by key. `tallies`: events by supplier in the order of `OUTCOMES`; they add up to
    the batch. `refused`: the index in the batch and the reason of each rejected event. `others`: outcome, or reason,
    of each that was not applied, by its index. `doubtful`: keys of changed rows that are not surely in the alert state
    that they say; some may be there twice.
    """

    rows: dict[bytes, bytes]
    tallies: dict[str, list[int]]
    refused: list[tuple[int, str]]
    others: dict[int, str]
    doubtful: list[bytes]


class _Doubts:
    """Which changed rows are to be looked at for alerts; none where nobody asks, as in a replay."""

    def __init__(self, sure: Sure | None) -> None:
        self.keys: list[bytes] = []
        self.above, self.by_key = sure or Sure(UNITS_MAX, {})

    def begin(self, key: bytes, row: PackedRow, timed: bool) -> None:
        """A row that was just made: the state that it is surely in is its first, and is told nobody."""
        if not timed and not row.reserved and row.on_hand > self.by_key.get(key, self.above):
            row.alert = IN_STOCK

    def look(self, key: bytes, row: PackedRow, timed: bool) -> None:
        """A row has changed. `timed`: a source of it may have got a limit to its age."""
        above = self.by_key.get(key, self.above)
        if timed or row.alert != IN_STOCK or row.reserved or row.on_hand <= above:
            self.keys.append(key)


def fold(
    updates: Updates,
    keys: Sequence[bytes],
    offsets: Sequence[int],
    load: Callable[[list[bytes]], Sequence[bytes | None]],
    limits: Limits,
    is_here: Callable[[bytes], bool] | None = None,
    sure: Sure | None = None,
) -> Folded:
    """Fold `updates` into the rows that `load` gives.

    Args:
        updates: decoded, of one partition, in log order.
        keys: of the row of each: its SKU in UTF-8.
        offsets: of each in its partition.
        load: gives the present row of each of some keys, encoded; None where there is none yet.
        limits: of every source.
        is_here: whether a row belongs into this partition, where readers look for it; asked of new rows alone.
        sure: which rows are surely in stock; None: nobody asks for alerts.
    """
    doubts = _Doubts(sure)
    others = list(updates.refusals.items())
    single, several = _by_key(keys, updates.refusals)
    stored_rows = load([*single, *several])
    of_single, of_several = stored_rows[: len(single)], list(stored_rows[len(single) :])
    having_room = _with_room(single, of_single, several, of_several)
    rows = _fold_single(*having_room, updates, offsets, limits, others, doubts)
    events = _events([i for places in several.values() for i in places], updates, offsets)
    for (key, places), stored in zip(several.items(), of_several, strict=True):
        if stored is None and is_here is not None and not is_here(key):
            others.extend((i, WRONG_PARTITION) for i in places)
            continue
        row = _fold_row(key, stored, places, events, limits, others, doubts)
        if row is not None:
            rows[key] = row
    return Folded(
        rows,
        _tallied(_attributed(updates.supplier_id, updates.refusals), others),
        sorted(r for r in others if r[1] not in TALLIED_AT),
        dict(others),
        [] if sure is None else doubts.keys,
    )


def _by_key(keys: Sequence[bytes], unusable: Container[int]) -> tuple[dict[bytes, int], dict[bytes, list[int]]]:
    """The place of each row's only usable update, and the places of each row's several."""
    places: Iterable[int] = range(len(keys))
    if unusable:
        places = [i for i in places if i not in unusable]
        keys = [keys[i] for i in places]
    last = dict(zip(keys, places, strict=True))
    several: dict[bytes, list[int]] = {}
    if len(last) < len(keys):
        for i, key in zip(places, keys, strict=True):
            if last[key] != i:
                several.setdefault(key, []).append(i)
        for key, earlier in several.items():
            earlier.append(last.pop(key))
    return last, several


def _events(places: Sequence[int], updates: Updates, offsets: Sequence[int]) -> dict[int, Event]:
    """The updates at `places`."""
    columns = (
        updates.source, updates.kind, updates.observed_at, updates.update_id, updates.quantity, updates.received_at,
        offsets, updates.order_ref, updates.basis, updates.incoming, updates.stale_after_ms,
    )  # fmt: skip
    return dict(zip(places, zip(*(map(column.__getitem__, places) for column in columns), strict=True), strict=True))


def _with_room(
    single: Mapping[bytes, int],
    stored_rows: Sequence[bytes | None],
    several: dict[bytes, list[int]],
    of_several: list[bytes | None],
) -> tuple[list[bytes], list[int], Sequence[bytes]]:
    """The keys, places and rows of those with one event that surely finds room; the rest go to the other two."""
    if all(stored_rows):
        rows: Sequence[Any] = stored_rows
        if max(map(len, rows), default=0) + UPDATE_BYTES_MAX <= ROW_BYTES_MAX:
            return list(single), list(single.values()), rows
    keys, places, having_room = [], [], []
    for (key, i), stored in zip(single.items(), stored_rows, strict=True):
        if stored is None or len(stored) + UPDATE_BYTES_MAX > ROW_BYTES_MAX:
            several[key] = [i]
            of_several.append(stored)
        else:
            keys.append(key)
            places.append(i)
            having_room.append(stored)
    return keys, places, having_room


def _fold_single(
    keys: Sequence[bytes],
    places: Sequence[int],
    stored_rows: Sequence[bytes],
    updates: Updates,
    offsets: Sequence[int],
    limits: Limits,
    others: list[tuple[int, str]],
    doubts: _Doubts,
) -> dict[bytes, bytes]:
    """The changed rows of those with one event, as most have: `_fold_row` without its bookkeeping.

    `apply_event` is written out here, and columns are read where they are needed: a call and a tuple for each event
    take a tenth of the fold. So is `_Doubts.look`.
    """
    rows: dict[bytes, bytes] = {}
    doubt, above, above_of = doubts.keys.append, doubts.above, doubts.by_key.get
    buffer = bytearray()  # what is copied from there has its exact size, while an encoder makes room for more first
    kinds, times, update_ids, quantities = updates.kind, updates.observed_at, updates.update_id, updates.quantity
    received_at, order_refs, bases, incoming, stale_after_ms, source_keys, _ = updates[5:]
    runs = (decode_packed_rows(stored_rows[at : at + RUN]) for at in range(0, len(keys), RUN))
    for key, i, row in zip(keys, places, chain.from_iterable(runs), strict=True):
        sources, of_source = row.sources, source_keys[i]
        packed = sources.get(of_source)
        source = Source() if packed is None else decode_source(packed)
        quantity = quantities[i]
        if kinds[i] == DELTA:
            outcome = apply_delta(source, times[i], update_ids[i], quantity, order_refs[i], limits)
            if outcome is APPLIED:
                row.on_hand += quantity
            elif outcome is REPLACED:
                row.on_hand += source.on_hand - (0 if packed is None else decode_source(packed).on_hand)
            else:
                others.append((i, outcome))
                continue
        else:
            before = source.on_hand
            outcome = apply_count(source, Count(KINDS[kinds[i]], update_ids[i], times[i], quantity), limits)
            if outcome is not APPLIED and outcome is not REPLACED:
                others.append((i, outcome))
                continue
            describe(source, bases[i], incoming[i], stale_after_ms[i])
            row.on_hand += source.on_hand - before
            if row.reserved:
                _forget(row, of_source, source)
            if stale_after_ms[i] is not None:
                doubt(key)
        source.received_at = row.changed_at = received_at[i]
        source.offset = offsets[i]
        sources[of_source] = encode(source)
        row.version += 1
        if row.alert != IN_STOCK or row.reserved or row.on_hand <= above_of(key, above):
            doubt(key)
        encode_into(row, buffer)
        rows[key] = bytes(buffer)
    return rows


def _fold_row(
    key: bytes,
    stored: bytes | None,
    places: Sequence[int],
    events: Mapping[int, Event],
    limits: Limits,
    others: list[tuple[int, str]],
    doubts: _Doubts,
) -> bytes | None:
    """The next version of a row, None if it does not change; what is not applied goes to `others`.

    Only the sources that are touched are decoded: a sale of a SKU that hundreds of stores sell costs no more than one
    of a SKU that two sell.
    """
    row = PackedRow(key.decode(), 0, 0, 0, {}) if stored is None else decode_packed_row(stored)
    packed = row.sources
    sources: dict[str, Source] = {}
    changed: dict[str, Source] = {}
    recount = timed = False
    having_room: Iterable[int] = places
    if (0 if stored is None else len(stored)) + len(places) * UPDATE_BYTES_MAX > ROW_BYTES_MAX:
        having_room = chain.from_iterable(_within_room(places, events, limits, packed, changed, others))
    for i in having_room:
        event = events[i]
        of_source = event[0]
        source = sources.get(of_source)
        if source is None:
            stored_source = packed.get(of_source)
            source = sources[of_source] = Source() if stored_source is None else decode_source(stored_source)
        before = 0 if event[1] == DELTA else source.on_hand
        outcome = apply_event(source, event, limits)
        if outcome is not APPLIED and outcome is not REPLACED:
            others.append((i, outcome))
            continue
        if event[1] != DELTA:
            row.on_hand += source.on_hand - before
            timed = timed or event[10] is not None
        elif outcome is APPLIED:
            row.on_hand += event[4]
        else:
            recount = True
        row.changed_at = source.received_at
        changed[of_source] = source
    if not changed:
        return None
    for of_source, source in changed.items():
        packed[of_source] = encode(source)
        if row.reserved:
            _forget(row, of_source, source)
    if recount:
        row.on_hand = sum(decode_source(source).on_hand for source in packed.values())
    row.version += 1
    if stored is None:
        doubts.begin(key, row, timed)
    doubts.look(key, row, timed)
    return encode(row)


def _forget(row: PackedRow, of_source: str, source: Source) -> None:
    """Leave out what the source's new count knows of."""
    entries = row.reserved.get(of_source)
    if entries is not None:
        left = forget(entries, source.count)
        if left:
            row.reserved[of_source] = left
        else:
            del row.reserved[of_source]


def _within_room(
    places: Sequence[int],
    events: Mapping[int, Event],
    limits: Limits,
    packed: Mapping[str, bytes],
    changed: Mapping[str, Source],
    others: list[tuple[int, str]],
) -> Iterator[Sequence[int]]:
    """Those of `places` that a row, which may become full, has room for; the rest go to `others`.

    Each run is folded before the next is asked for: as many as surely find room, and where that is none, one that was
    tried on a copy.
    """
    sizes = {key: len(key.encode()) + len(source) for key, source in packed.items()}
    total, at = sum(sizes.values()), 0
    while at < len(places):
        run = places[at : at + max(1, (ROW_BYTES_MAX - total) // UPDATE_BYTES_MAX)]
        at += len(run)
        if total + UPDATE_BYTES_MAX > ROW_BYTES_MAX:
            key = events[run[0]][0]
            grown = _tried(key, events[run[0]], limits, changed.get(key), packed.get(key))
            growth = grown - sizes.get(key, 0)
            if growth > 0 and total + growth > ROW_BYTES_MAX:
                others.append((run[0], ROW_FULL))
                continue
        yield run
        for key in {events[i][0] for i in run} & changed.keys():
            size = _size(key, changed[key])
            total += size - sizes.get(key, 0)
            sizes[key] = size


def _tried(key: str, event: Event, limits: Limits, changed: Source | None, stored: bytes | None) -> int:
    """How large a source would be after an event, with its key; 0 if the event would leave it as it is."""
    encoded = stored if changed is None else encode(changed)
    source = Source() if encoded is None else decode_source(encoded)
    outcome = apply_event(source, event, limits)
    return _size(key, source) if outcome is APPLIED or outcome is REPLACED else 0


def _size(key: str, source: Source) -> int:
    return len(key.encode()) + len(encode(source))


def _attributed(suppliers: Sequence[str], unusable: Iterable[int]) -> Sequence[str]:
    """Whom each event is tallied under: what is no supplier's id must not become a name in every position record."""
    nameless = [i for i in unusable if id_problem(suppliers[i])]
    if not nameless:
        return suppliers
    attributed = list(suppliers)
    for i in nameless:
        attributed[i] = UNATTRIBUTED
    return attributed


def _tallied(suppliers: Sequence[str], others: Sequence[tuple[int, str]]) -> dict[str, list[int]]:
    """Events by supplier and outcome; `others`: index and outcome of each that was not applied."""
    tallies = {supplier: [0] * len(OUTCOMES) for supplier in set(suppliers)}
    for supplier, events in Counter(suppliers).items():
        tallies[supplier][APPLIED_AT] = events
    for i, outcome in others:
        tally = tallies[suppliers[i]]
        tally[APPLIED_AT] -= 1
        tally[TALLIED_AT.get(outcome, REJECTED_AT)] += 1
    return tallies
