from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import pairwise
from math import inf
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory import fold as folding
from inventory import stock
from inventory.alerts import Sure
from inventory.fold import Folded, fold
from inventory.stock import Limits, StockUpdate, apply, refusal
from inventory.updates import Updates
from schemas.keys import source_key
from schemas.rows import OUTCOMES, Source, decode_packed_row, decode_row, decode_source, encode
from tests.inventory.builders import odd, update
from tests.inventory.reference import Event
from tests.inventory.test_stock import events

LIMITS = Limits(horizon_ms=20, entries_max=3)


def spread(event: Event, sku: int, supplier: int) -> StockUpdate:
    return update(event, sku=f"sku-{sku}", supplier_id=f"supplier-{supplier}")


updates = st.lists(st.builds(spread, events(30, "abcd"), st.integers(0, 3), st.integers(0, 2)), max_size=60)


def fold_of(
    told: Sequence[StockUpdate],
    offsets: Sequence[int],
    stored: Mapping[bytes, bytes | None],
    limits: Limits = LIMITS,
    is_here: Callable[[bytes], bool] | None = None,
    sure: Sure | None = None,
) -> Folded:
    keys = [one["sku"].encode() for one in told]
    return fold(Updates.of(told), keys, offsets, lambda asked: [stored[key] for key in asked], limits, is_here, sure)


def fold_in_batches(
    told: list[StockUpdate], cuts: list[int], limits: Sequence[Limits] = (LIMITS,), sure: Sure | None = None
) -> tuple[dict[bytes, bytes | None], list[Folded]]:
    """`limits`: of one batch after another, in turn."""
    stored: dict[bytes, bytes | None] = {u["sku"].encode(): None for u in told}
    folded: list[Folded] = []
    edges = [0, *sorted({c % (len(told) + 1) for c in cuts}), len(told)]
    for first, last in pairwise(edges):
        batch = told[first:last]
        folded.append(fold_of(batch, range(first, last), stored, limits[len(folded) % len(limits)], None, sure))
        stored |= folded[-1].rows
    return stored, folded


@given(updates, st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=500, deadline=None)
def test_no_result_depends_on_how_the_log_was_cut_into_batches(told: list[StockUpdate], cuts: list[int]) -> None:
    at_once, _ = fold_in_batches(told, [])
    in_parts, _ = fold_in_batches(told, cuts)
    for sku, row in at_once.items():
        other = in_parts[sku]
        if row is None or other is None:
            assert row is other
            continue
        one, two = decode_row(row), decode_row(other)
        assert (one.sources, one.on_hand) == (two.sources, two.on_hand)


@given(updates, st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=500, deadline=None)
def test_the_four_outcomes_of_each_supplier_add_up_to_its_events(told: list[StockUpdate], cuts: list[int]) -> None:
    _, folded = fold_in_batches(told, cuts)
    sums: Counter[str] = Counter()
    for part in folded:
        for supplier, tally in part.tallies.items():
            sums[supplier] += sum(tally)
        refused = sum(tally[OUTCOMES.index("rejected")] for tally in part.tallies.values())
        assert refused == len(part.refused)
    assert sums == Counter(u["supplier_id"] for u in told)


changing = st.lists(st.builds(Limits, st.sampled_from([5, 20]), st.integers(1, 4)), min_size=1, max_size=4)
"""Limits that a worker was started with, one time after another."""


@given(updates, st.lists(st.integers(0, 60), max_size=30), changing)
@settings(max_examples=1_000, deadline=None)
def test_a_rows_only_event_is_folded_to_the_very_bytes_that_many_are(
    told: list[StockUpdate], cuts: list[int], limits: list[Limits]
) -> None:
    for n, one in enumerate(told):
        one["stale_after_ms"] = 9 if n % 5 == 0 else None
    sure = Sure(3, {b"sku-0": 9})
    with_it, parts = fold_in_batches(told, cuts, limits, sure)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "_by_key", as_if_several)
        without, others = fold_in_batches(told, cuts, limits, sure)
    assert with_it == without
    for folded in (*parts, *others):
        folded.doubtful[:] = sorted(set(folded.doubtful))
    assert parts == others


def test_a_count_below_which_all_deltas_are_carried_at_once_adds_them_up() -> None:
    deltas = [update(Event("DELTA", f"d{n}", 100, -1), sku="s") for n in range(3)]
    stored = dict(fold_of(deltas, range(3), {b"s": None}, Limits(20, 256)).rows)
    count = update(Event("COUNT", "c", 50, 50), sku="s")
    row = decode_row(fold_of([count], [3], stored, Limits(20, 2)).rows[b"s"])  # restarted with a lower limit
    [source] = row.sources.values()
    assert (source.deltas, source.carried) == ([], -3)
    assert row.on_hand == source.on_hand == 47


def as_if_several(keys: Sequence[bytes], unusable: Container[int]) -> tuple[dict[bytes, int], dict[bytes, list[int]]]:
    places: dict[bytes, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        if i not in unusable:
            places[key].append(i)
    return {}, places


@given(updates, changing)
@settings(max_examples=300, deadline=None)
def test_a_rows_on_hand_is_the_sum_of_its_sources_below_zero_included(
    told: list[StockUpdate], limits: list[Limits]
) -> None:
    stored, _ = fold_in_batches(told, [7, 20], limits)
    for row in stored.values():
        if row is not None:
            decoded = decode_row(row)
            assert decoded.on_hand == sum(source.on_hand for source in decoded.sources.values())


def size_of(row: bytes) -> int:
    """As the limit counts it: keys and sources."""
    return sum(len(key.encode()) + len(source) for key, source in decode_packed_row(row).sources.items())


def bytes_of(sources: Mapping[str, Source]) -> int:
    return sum(len(key.encode()) + len(encode(source)) for key, source in sources.items())


def plainly(
    told: Sequence[StockUpdate], bytes_max: float
) -> tuple[dict[str, dict[str, Source]], list[tuple[int, str]], list[int]]:
    """The sources of each row, what was refused, and the size of the touched row after each: update by update."""
    rows: dict[str, dict[str, Source]] = defaultdict(dict)
    refused, sizes = [], []
    for i, one in enumerate(told):
        row = rows[one["sku"]]
        key = source_key(one["supplier_id"], one["location_id"])
        after = decode_source(encode(row[key])) if key in row else Source()
        outcome = apply(after, one, LIMITS)
        if outcome in (stock.APPLIED, stock.REPLACED):
            after.offset = i
            grown = row | {key: after}
            if bytes_of(row) < bytes_of(grown) > bytes_max:
                refused.append((i, stock.ROW_FULL))
            else:
                row[key] = after
        elif outcome not in (stock.DUPLICATE, stock.SUPERSEDED):
            refused.append((i, outcome))
        sizes.append(bytes_of(row))
    return rows, refused, sizes


@given(
    st.lists(st.builds(spread, events(30, "abcdefgh"), st.integers(0, 1), st.integers(0, 8)), min_size=20, max_size=40),
    st.lists(st.integers(0, 60), max_size=6),
    st.tuples(st.integers(0, 39), st.integers(-1, 1)),
    st.sampled_from([60, 100, 1_000]),
)
@settings(max_examples=100, deadline=None)
def test_a_full_row_takes_only_what_does_not_make_it_larger_however_the_log_was_cut(
    told: list[StockUpdate], cuts: list[int], limit: tuple[int, int], update_bytes: int
) -> None:
    sizes = plainly(told, inf)[2]
    bytes_max = sizes[limit[0] % len(sizes)] + limit[1]  # some update fills a row to the byte, or all but one
    wanted, refused, _ = plainly(told, bytes_max)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "ROW_BYTES_MAX", bytes_max)
        patch.setattr(folding, "UPDATE_BYTES_MAX", update_bytes)
        at_once, [whole] = fold_in_batches(told, [])
        in_parts, parts = fold_in_batches(told, cuts)
        one_by_one, alone = fold_in_batches(told, list(range(60)))
    assert whole.refused == refused
    for found in (parts, alone):
        assert [why for part in found for _, why in part.refused] == [why for _, why in refused]
    for stored in (at_once, in_parts, one_by_one):
        found_rows = {key.decode(): decode_row(row).sources for key, row in stored.items() if row is not None}
        assert found_rows == {sku: sources for sku, sources in wanted.items() if sources}


def test_a_row_that_is_full_refuses_a_new_source_and_takes_what_makes_it_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deltas = [spread(Event("DELTA", f"{i:0100d}", i, 1), 0, 0) for i in range(50)]
    told = [*deltas, spread(Event("COUNT", "other", 10, 7), 0, 1), spread(Event("COUNT", "c", 60, 5), 0, 0)]
    told.append(spread(Event("COUNT", "again", 11, 9), 0, 1))
    with_deltas = fold_of(deltas, range(50), {b"sku-0": None}, Limits()).rows[b"sku-0"]
    monkeypatch.setattr(folding, "ROW_BYTES_MAX", size_of(with_deltas) + 20)
    folded = fold_of(told, range(len(told)), {b"sku-0": None}, Limits())
    assert [reason for _, reason in folded.refused] == ["row_full"]
    assert folded.refused[0][0] == 50
    row = decode_row(folded.rows[b"sku-0"])
    assert row.on_hand == 5 + 9
    assert (row.version, len(row.sources)) == (1, 2)


@pytest.mark.parametrize(
    ("room", "quantity", "taken"), [(0, 127, True), (0, 128, False), (-1, 127, True), (1, 128, True)]
)
def test_a_full_row_takes_no_byte_more_also_not_in_the_place_of_what_it_has(
    monkeypatch: pytest.MonkeyPatch, room: int, quantity: int, taken: bool
) -> None:
    """127 takes one byte, 128 takes two. A limit may be lower than it was when the row was written."""
    stored = dict(fold_of([spread(Event("COUNT", "c", 10, 100), 0, 0)], [0], {b"sku-0": None}).rows)
    monkeypatch.setattr(folding, "ROW_BYTES_MAX", size_of(stored[b"sku-0"]) + room)
    for _ in range(2):  # the second is a duplicate, or refused again
        folded = fold_of([spread(Event("COUNT", "c", 11, quantity), 0, 0)], [1], stored)
        assert [why for _, why in folded.refused] == ([] if taken else ["row_full"])
        stored |= folded.rows
    assert decode_row(stored[b"sku-0"]).on_hand == (quantity if taken else 100)


def test_no_update_lets_a_row_grow_by_more_than_is_reckoned_with() -> None:
    wide, far = "\U0001f4e6" * 128, 2**63 - 1
    receipts = [{"expected_at": far, "quantity": far}] * stock.INCOMING_MAX
    ids = {"supplier_id": wide, "location_id": wide, "order_ref": wide, "received_at": far}
    count = update(Event("COUNT", wide, far, 10**12), **ids, incoming=receipts, stale_after_ms=far)
    delta = update(Event("DELTA", wide, far, 10**12), **ids)
    for one in (count, delta):
        assert stock.refusal(one) is None
        row = fold_of([one], [far], {b"sku-1": None}, Limits()).rows[b"sku-1"]
        assert size_of(row) < folding.UPDATE_BYTES_MAX


def test_what_has_no_valid_supplier_is_tallied_under_none() -> None:
    told = [
        spread(Event("COUNT", "c", 10, 5), 0, 0),
        {**spread(Event("COUNT", "c", 10, -5), 0, 0), "supplier_id": "x" * 900},
        {**spread(Event("COUNT", "c", 10, 5), 0, 0), "supplier_id": ""},
        spread(Event("COUNT", "c", 10, -5), 0, 0),
    ]
    folded = fold_of(cast("list[StockUpdate]", told), range(4), {b"sku-0": None})
    assert folded.tallies == {"supplier-0": [1, 0, 0, 1], "": [0, 0, 0, 2]}


def test_a_new_row_is_refused_where_nobody_would_look_for_it() -> None:
    told = [spread(Event("COUNT", "c", 10, 5), sku, 0) for sku in (0, 1, 2, 3)]
    row = fold_of(told[:1], [0], {b"sku-0": None}).rows[b"sku-0"]
    asked: list[bytes] = []

    def is_here(key: bytes) -> bool:
        asked.append(key)
        return key != b"sku-2"

    stored = {b"sku-0": row, b"sku-1": None, b"sku-2": None, b"sku-3": None}
    folded = fold_of(told, range(4), stored, LIMITS, is_here)
    assert folded.refused == [(2, "wrong_partition")]
    assert list(folded.rows) == [b"sku-1", b"sku-3"]
    assert asked == [b"sku-1", b"sku-2", b"sku-3"]  # a row that is there was asked for when it was made


def test_a_source_that_was_only_refused_leaves_no_trace() -> None:
    told = [spread(Event("COUNT", "c", 10, 5), 0, 0), spread(Event("COUNT", "x", 10, -5), 0, 1)]
    folded = fold_of(told, [7, 8], {b"sku-0": None})
    row = decode_row(folded.rows[b"sku-0"])
    assert list(row.sources) == ["supplier-0\x1fdefault"]
    assert folded.refused == [(1, "invalid_update: quantity of a COUNT is -5; send zero or more")]
    assert row.sources["supplier-0\x1fdefault"].offset == 7


def test_a_batch_of_duplicates_changes_no_row() -> None:
    count = spread(Event("COUNT", "c", 10, 5), 0, 0)
    first = fold_of([count], [0], {b"sku-0": None})
    again = fold_of([count, count], [1, 2], {b"sku-0": first.rows[b"sku-0"]})
    assert again.rows == {}
    assert again.tallies == {"supplier-0": [0, 2, 0, 0]}


@given(st.lists(st.tuples(st.builds(spread, events(30, "abcd"), st.just(0), st.just(0)), odd), max_size=8))
@settings(max_examples=1_000, deadline=None)
def test_a_batch_is_refused_and_applied_as_its_updates_are_one_by_one(
    told: list[tuple[StockUpdate, StockUpdate]],
) -> None:
    batch = [cast("StockUpdate", {**usual, **changes}) for usual, changes in told]
    sources: dict[tuple[str, str], Source] = defaultdict(Source)
    outcomes = []
    for one in batch:
        source = sources[one["sku"], source_key(one["supplier_id"], one["location_id"])]
        outcomes.append(refusal(one) or apply(source, one, LIMITS))
    stored = {one["sku"].encode(): b"no row" if one["sku"].startswith("\0") else None for one in batch}
    folded = fold_of(batch, range(len(batch)), stored)
    harmless = {"applied", "replaced", "duplicate", "superseded"}
    assert folded.refused == [(i, why) for i, why in enumerate(outcomes) if why not in harmless]
    sums = Counter({sku: 0 for sku, _ in sources})
    for (sku, _), source in sources.items():
        sums[sku] += source.on_hand
    assert all(decode_row(row).on_hand == sums[key.decode()] for key, row in folded.rows.items())
