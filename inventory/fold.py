"""Folds a batch of updates into the rows that they touch, whatever number of updates a row receives.

The events of a row are folded one by one, in log order, so that no result depends on the batch. The boundary is narrow
on purpose (columns and encoded rows in; encoded rows, tallies and refusals out), so that a compiled kernel can stand in
its place with this as its oracle. Called by `streams.batch`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import sub
from typing import NamedTuple

from inventory.stock import (
    APPLIED,
    COUNT,
    DELTA,
    DUPLICATE,
    FUTURE_MS_MAX,
    INCOMING_MAX,
    KINDS,
    QUANTITY_MAX,
    REPLACED,
    ROW_FULL,
    SUPERSEDED,
    WITHDRAWN,
    WRONG_PARTITION,
    Limits,
    apply,
    apply_count,
    apply_delta,
    describe,
    refusal,
)
from inventory.updates import Updates
from schemas.keys import SOURCE_SEPARATOR, id_problem, plain_ids
from schemas.rows import OUTCOMES, UNATTRIBUTED, Count, PackedRow, Source, decode_packed_row, decode_source, encode
from schemas.topics import MESSAGE_BYTES_MAX

APPLIED_AT, REJECTED_AT = OUTCOMES.index("applied"), OUTCOMES.index("rejected")
TALLIED_AT = {DUPLICATE: OUTCOMES.index("duplicate"), SUPERSEDED: OUTCOMES.index("superseded")}
"""Where what is neither applied nor rejected is counted."""

ROW_BYTES_MAX = MESSAGE_BYTES_MAX * 3 // 4
"""Of a row's sources and their keys, as encoded: what the rest of a row takes fits beside them into one message. What
would make a row grow beyond it is rejected, and what makes it smaller is always taken; so a row depends on the order of
its events alone, wherever the log is cut into batches."""
UPDATE_BYTES_MAX = 4_096  # the most that one update can add, with ids and receipts as long as `refusal` lets them be

Column = tuple[str, str, int, str, int, int, int]


class Folded(NamedTuple):
    """What became of a batch.

    `rows`: the changed ones, encoded, by key. `tallies`: events by supplier in the order of `OUTCOMES`; they add up to
    the batch. `refused`: the index in the batch and the reason of each rejected event.
    """

    rows: dict[bytes, bytes]
    tallies: dict[str, list[int]]
    refused: list[tuple[int, str]]


def fold(
    updates: Updates,
    keys: Sequence[bytes],
    offsets: Sequence[int],
    stored: Mapping[bytes, bytes | None],
    limits: Limits,
    is_here: Callable[[bytes], bool] | None = None,
) -> Folded:
    """Fold `updates` into the rows `stored`.

    Args:
        updates: decoded, of one partition, in log order.
        keys: of the row of each: its SKU in UTF-8.
        offsets: of each in its partition.
        stored: the present row under every key in `keys`, encoded; None where there is none yet.
        limits: of every source.
        is_here: whether a row belongs into this partition, where readers look for it; asked of new rows alone.
    """
    unusable = _unusable(updates)
    others = list(unusable.items())
    columns = list(
        zip(
            map(SOURCE_SEPARATOR.join, zip(updates.supplier_id, updates.location_id, strict=True)),
            updates.kind, updates.observed_at, updates.update_id, updates.quantity, updates.received_at, offsets,
            strict=True,
        )
    )  # fmt: skip
    rows: dict[bytes, bytes] = {}
    for key, places in _by_key(keys, unusable).items():
        before = stored[key]
        if before is None and is_here is not None and not is_here(key):
            others.extend((i, WRONG_PARTITION) for i in places)
            continue
        row = _fold_row(before, places, columns, updates, limits, others)
        if row is not None:
            rows[key] = row
    return Folded(
        rows,
        _tallied(_attributed(updates.supplier_id, unusable), others),
        sorted(r for r in others if r[1] not in TALLIED_AT),
    )


def _fold_row(
    stored: bytes | None,
    places: Sequence[int],
    columns: Sequence[Column],
    updates: Updates,
    limits: Limits,
    others: list[tuple[int, str]],
) -> bytes | None:
    """The next version of a row, None if it does not change; what is not applied goes to `others`.

    Only the sources that are touched are decoded: a sale of a SKU that hundreds of stores sell costs no more than one
    of a SKU that two sell.
    """
    row = PackedRow(updates.sku[places[0]], 0, 0, 0, {}) if stored is None else decode_packed_row(stored)
    packed = row.sources
    sources: dict[str, Source] = {}
    changed: dict[str, Source] = {}
    recount = False
    having_room: Iterable[int] = places
    if (0 if stored is None else len(stored)) + len(places) * UPDATE_BYTES_MAX > ROW_BYTES_MAX:
        having_room = chain.from_iterable(_within_room(places, columns, updates, limits, packed, changed, others))
    for i in having_room:
        key, kind, at, update_id, quantity, received_at, offset = columns[i]
        source = sources.get(key)
        if source is None:
            stored_source = packed.get(key)
            source = sources[key] = Source() if stored_source is None else decode_source(stored_source)
        if kind == DELTA:
            outcome = apply_delta(source, at, update_id, quantity, updates.order_ref[i], limits)
            if outcome is APPLIED:
                row.on_hand += quantity
            elif outcome is REPLACED:
                recount = True
            else:
                others.append((i, outcome))
                continue
        else:
            before = source.on_hand
            outcome = apply_count(source, Count(KINDS[kind], update_id, at, quantity), limits)
            if outcome is not APPLIED and outcome is not REPLACED:
                others.append((i, outcome))
                continue
            describe(source, updates.basis[i], updates.incoming[i], updates.stale_after_ms[i])
            row.on_hand += source.on_hand - before
        source.offset = offset
        source.received_at = row.changed_at = received_at
        changed[key] = source
    if not changed:
        return None
    for key, source in changed.items():
        packed[key] = encode(source)
    if recount:
        row.on_hand = sum(decode_source(source).on_hand for source in packed.values())
    row.version += 1
    return encode(row)


def _within_room(
    places: Sequence[int],
    columns: Sequence[Column],
    updates: Updates,
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
            key = columns[run[0]][0]
            grown = _tried(key, run[0], columns, updates, limits, changed.get(key), packed.get(key))
            growth = grown - sizes.get(key, 0)
            if growth > 0 and total + growth > ROW_BYTES_MAX:
                others.append((run[0], ROW_FULL))
                continue
        yield run
        for key in {columns[i][0] for i in run} & changed.keys():
            size = _size(key, changed[key])
            total += size - sizes.get(key, 0)
            sizes[key] = size


def _tried(
    key: str,
    i: int,
    columns: Sequence[Column],
    updates: Updates,
    limits: Limits,
    changed: Source | None,
    stored: bytes | None,
) -> int:
    """How large a source would be after the update at `i`, with its key; 0 if the update would leave it as it is."""
    encoded = stored if changed is None else encode(changed)
    source = Source() if encoded is None else decode_source(encoded)
    outcome = apply(source, updates.record(i), limits)
    if outcome is not APPLIED and outcome is not REPLACED:
        return 0
    source.offset = columns[i][-1]
    return _size(key, source)


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


def _by_key(keys: Sequence[bytes], unusable: Container[int]) -> dict[bytes, list[int]]:
    """The places of each row's usable updates."""
    places_of: dict[bytes, list[int]] = {}
    for i, key in enumerate(keys):
        if i in unusable:
            continue
        places = places_of.get(key)
        if places is None:
            places_of[key] = [i]
        else:
            places.append(i)
    return places_of


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


def _unusable(updates: Updates) -> dict[int, str]:
    """Why updates can never be used (`refusal`), by index; whole columns are looked at first, for most are clean."""
    if not updates.sku or _all_usable(updates):
        return {}
    found = ((i, refusal(updates.record(i))) for i in range(len(updates.sku)))
    return {i: why for i, why in found if why is not None}


def _all_usable(updates: Updates) -> bool:
    """Whether `refusal` would surely let every update pass; False may also mean that one has to look closer."""
    quantities = updates.quantity
    return (
        max(map(sub, updates.observed_at, updates.received_at)) <= FUTURE_MS_MAX
        and min(updates.observed_at) >= 0
        and max(quantities) <= QUANTITY_MAX
        and min(quantities) >= -QUANTITY_MAX
        and (not any(updates.incoming) or max(map(len, updates.incoming)) <= INCOMING_MAX)
        and all(
            USABLE[kind]([q for k, q in zip(updates.kind, quantities, strict=True) if k == kind])
            for kind in set(updates.kind)
        )
        and all(plain_ids(column) for column in (updates.sku, updates.update_id))
        and all(plain_ids(tuple(set(column))) for column in (updates.supplier_id, updates.location_id))
        and plain_ids([ref for ref in updates.order_ref if ref is not None])
    )


USABLE: dict[str, Callable[[list[int]], bool]] = {
    COUNT: lambda quantities: min(quantities) >= 0,
    DELTA: lambda quantities: 0 not in quantities,
    WITHDRAWN: lambda quantities: not any(quantities),
}
