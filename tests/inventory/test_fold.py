from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.fold import Folded, fold
from inventory.stock import Limits, StockUpdate, apply, refusal
from inventory.updates import Updates
from schemas.keys import source_key
from schemas.rows import OUTCOMES, Source, decode_row
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.inventory.test_stock import events

LIMITS = Limits(horizon_ms=20, entries_max=3)


def spread(event: Event, sku: int, supplier: int) -> StockUpdate:
    return update(event, sku=f"sku-{sku}", supplier_id=f"supplier-{supplier}")


updates = st.lists(st.builds(spread, events(30, "abcd"), st.integers(0, 3), st.integers(0, 2)), max_size=60)


def fold_in_batches(told: list[StockUpdate], cuts: list[int]) -> tuple[dict[str, bytes | None], list[Folded]]:
    stored: dict[str, bytes | None] = {u["sku"]: None for u in told}
    folded = []
    edges = [0, *sorted({c % (len(told) + 1) for c in cuts}), len(told)]
    for first, last in pairwise(edges):
        batch = told[first:last]
        folded.append(fold(Updates.of(batch), range(first, last), stored, LIMITS))
        stored |= {key.decode(): row for key, row in folded[-1].rows.items()}
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


@given(updates)
@settings(max_examples=300, deadline=None)
def test_a_rows_on_hand_is_the_sum_of_its_sources_below_zero_included(told: list[StockUpdate]) -> None:
    stored, _ = fold_in_batches(told, [7, 20])
    for row in stored.values():
        if row is not None:
            decoded = decode_row(row)
            assert decoded.on_hand == sum(source.on_hand for source in decoded.sources.values())


def test_a_source_that_was_only_refused_leaves_no_trace() -> None:
    told = [spread(Event("COUNT", "c", 10, 5), 0, 0), spread(Event("COUNT", "x", 10, -5), 0, 1)]
    folded = fold(Updates.of(told), [7, 8], {"sku-0": None}, LIMITS)
    row = decode_row(folded.rows[b"sku-0"])
    assert list(row.sources) == ["supplier-0\x1fdefault"]
    assert folded.refused == [(1, "invalid_update: quantity of a COUNT is -5; send zero or more")]
    assert row.sources["supplier-0\x1fdefault"].offset == 7


def test_a_batch_of_duplicates_changes_no_row() -> None:
    count = spread(Event("COUNT", "c", 10, 5), 0, 0)
    first = fold(Updates.of([count]), [0], {"sku-0": None}, LIMITS)
    again = fold(Updates.of([count, count]), [1, 2], {"sku-0": first.rows[b"sku-0"]}, LIMITS)
    assert again.rows == {}
    assert again.tallies == {"supplier-0": [0, 2, 0, 0]}


odd = st.fixed_dictionaries(
    {},
    optional={
        "quantity": st.sampled_from([0, -1, 3, 10**12, 10**12 + 1, -(10**12) - 1]),
        "observed_at": st.sampled_from([-1, 0, 10, 300_010, 300_011]),
        "sku": st.sampled_from(
            ["", " a", "a ", "a b", "a|b", "a| b", "é", "e\u0301", "x" * 128, "x" * 129, "\x00position"]
        ),
        "supplier_id": st.sampled_from(["", "a\tb", "a b", "| a"]),
        "update_id": st.sampled_from(["", "u" * 129, "u 1", "a\x1fb"]),
    },
)


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
    stored = {one["sku"]: b"no row" if one["sku"].startswith("\0") else None for one in batch}
    folded = fold(Updates.of(batch), range(len(batch)), stored, LIMITS)
    harmless = {"applied", "replaced", "duplicate", "superseded"}
    assert folded.refused == [(i, why) for i, why in enumerate(outcomes) if why not in harmless]
    sums = Counter({sku: 0 for sku, _ in sources})
    for (sku, _), source in sources.items():
        sums[sku] += source.on_hand
    assert all(decode_row(row).on_hand == sums[key.decode()] for key, row in folded.rows.items())
