"""Folds a batch of updates into the rows that they touch, whatever number of updates a row receives.

The events of a row are folded one by one, in log order, so that no result depends on the batch. The boundary is narrow
on purpose (columns and encoded rows in; encoded rows, tallies and refusals out), so that a compiled kernel can stand in
its place with this as its oracle. Called by `streams.batch`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from operator import sub
from typing import NamedTuple

import msgspec

from inventory.stock import (
    APPLIED,
    COUNT,
    DELTA,
    DUPLICATE,
    FUTURE_MS_MAX,
    KINDS,
    QUANTITY_MAX,
    REPLACED,
    SUPERSEDED,
    WITHDRAWN,
    Limits,
    apply_count,
    apply_delta,
    describe,
    refusal,
)
from inventory.updates import Updates
from schemas.keys import SOURCE_SEPARATOR, plain_ids
from schemas.rows import OUTCOMES, Count, PackedRow, Source, decode_packed_row, decode_source, encode

APPLIED_AT, REJECTED_AT = OUTCOMES.index("applied"), OUTCOMES.index("rejected")
TALLIED_AT = {DUPLICATE: OUTCOMES.index("duplicate"), SUPERSEDED: OUTCOMES.index("superseded")}
"""Where what is neither applied nor rejected is counted."""


class Folded(NamedTuple):
    """What became of a batch.

    `rows`: the changed ones, encoded, by key. `tallies`: events by supplier in the order of `OUTCOMES`; they add up to
    the batch. `refused`: the index in the batch and the reason of each rejected event.
    """

    rows: dict[bytes, bytes]
    tallies: dict[str, list[int]]
    refused: list[tuple[int, str]]


def fold(updates: Updates, offsets: Sequence[int], stored: Mapping[str, bytes | None], limits: Limits) -> Folded:
    """Fold `updates` into the rows `stored`.

    Args:
        updates: decoded, of one partition, in log order.
        offsets: of each in its partition.
        stored: the present row of every SKU in `updates`, encoded; None where there is none yet.
        limits: of every source.
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
    for sku, places in _by_sku(updates.sku, unusable):
        row = _fold_row(sku, stored[sku], places, columns, updates, limits, others)
        if row is not None:
            rows[sku.encode()] = row
    return Folded(rows, _tallied(updates.supplier_id, others), sorted(r for r in others if r[1] not in TALLIED_AT))


def _fold_row(
    sku: str,
    stored: bytes | None,
    places: Sequence[int],
    columns: Sequence[tuple[str, str, int, str, int, int, int]],
    updates: Updates,
    limits: Limits,
    others: list[tuple[int, str]],
) -> bytes | None:
    """The next version of a row, None if it does not change; what is not applied goes to `others`.

    Only the sources that are touched are decoded: a sale of a SKU that hundreds of stores sell costs no more than one
    of a SKU that two sell.
    """
    row = PackedRow(sku, 0, 0, 0, {}) if stored is None else decode_packed_row(stored)
    packed = row.sources
    sources: dict[str, Source] = {}
    changed: dict[str, Source] = {}
    for i in places:
        key, kind, at, update_id, quantity, received_at, offset = columns[i]
        source = sources.get(key)
        if source is None:
            stored_source = packed.get(key)
            source = sources[key] = Source() if stored_source is None else decode_source(stored_source)
        before = source.on_hand
        if kind == DELTA:
            outcome = apply_delta(source, at, update_id, quantity, updates.order_ref[i], limits)
        else:
            outcome = apply_count(source, Count(KINDS[kind], update_id, at, quantity), limits)
            if outcome is APPLIED or outcome is REPLACED:
                describe(source, updates.basis[i], updates.incoming[i], updates.stale_after_ms[i])
        if outcome is APPLIED or outcome is REPLACED:
            source.offset = offset
            source.received_at = row.changed_at = received_at
            row.on_hand += source.on_hand - before
            changed[key] = source
        else:
            others.append((i, outcome))
    if not changed:
        return None
    for key, source in changed.items():
        packed[key] = msgspec.Raw(encode(source))
    row.version += 1
    return encode(row)


def _by_sku(skus: Sequence[str], unusable: Container[int]) -> list[tuple[str, list[int]]]:
    """The places of each SKU's usable updates, in the order of the SKUs: sorted rows are cheaper to write."""
    places_of: dict[str, list[int]] = {}
    for i, sku in enumerate(skus):
        if i in unusable:
            continue
        places = places_of.get(sku)
        if places is None:
            places_of[sku] = [i]
        else:
            places.append(i)
    return [(sku, places_of[sku]) for sku in sorted(places_of)]


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
        and all(
            USABLE[kind]([q for k, q in zip(updates.kind, quantities, strict=True) if k == kind])
            for kind in set(updates.kind)
        )
        and all(plain_ids(column) for column in (updates.sku, updates.update_id))
        and all(plain_ids(tuple(set(column))) for column in (updates.supplier_id, updates.location_id))
    )


USABLE: dict[str, Callable[[list[int]], bool]] = {
    COUNT: lambda quantities: min(quantities) >= 0,
    DELTA: lambda quantities: 0 not in quantities,
    WITHDRAWN: lambda quantities: not any(quantities),
}
