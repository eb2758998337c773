from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory import stock
from inventory.stock import Limits
from schemas.rows import Source, encode
from tests.inventory.builders import row_of, update
from tests.inventory.reference import Event, LogOrder, meaning

VECTORS = json.loads((Path(__file__).parent / "stock_vectors.json").read_text())
DEFAULT = Limits()


def apply_all(events: list[Event], limits: Limits = DEFAULT) -> tuple[Source, list[str]]:
    source = Source()
    return source, [stock.apply(source, update(e), limits) for e in events]


def spoken(outcome: str) -> str:
    """An outcome as the golden vectors write it."""
    return f"rejected:{outcome}" if outcome in (stock.CONFLICT, stock.TOO_OLD) else outcome


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_every_golden_vector_is_reproduced(vector: dict[str, Any]) -> None:
    limits = Limits(entries_max=vector.get("entries_max", 256))
    source, outcomes = apply_all([Event(*u) for u in vector["updates"]], limits)
    assert [spoken(o) for o in outcomes] == vector["outcomes"]
    assert row_of(source) == vector["row"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_the_tests_own_reference_reproduces_them_too(vector: dict[str, Any]) -> None:
    reference = LogOrder(7 * 86_400_000, vector.get("entries_max", 256))
    assert [spoken(reference.see(Event(*u))) for u in vector["updates"]] == vector["outcomes"]
    assert reference.row() == vector["row"]


def events(times: int, ids: str = "abc") -> st.SearchStrategy[Event]:
    counts = st.builds(Event, st.just("COUNT"), st.sampled_from(ids), st.integers(0, times), st.integers(0, 3))
    deltas = st.builds(
        Event, st.just("DELTA"), st.sampled_from(ids), st.integers(0, times), st.sampled_from([-2, -1, 1])
    )
    withdrawn = st.builds(Event, st.just("WITHDRAWN"), st.sampled_from(ids), st.integers(0, times), st.just(0))
    return st.one_of(deltas, counts, withdrawn)


@given(st.lists(events(4), max_size=9), st.randoms(use_true_random=False))
@settings(max_examples=2000, deadline=None)
def test_within_the_horizon_any_order_and_any_repetition_gives_one_row(chosen: list[Event], rng: random.Random) -> None:
    wanted = meaning(chosen)
    for _ in range(5):
        told = chosen + rng.choices(chosen, k=len(chosen) // 2) if chosen else []
        rng.shuffle(told)
        source, _ = apply_all(told)
        assert row_of(source) == wanted


@given(st.lists(events(30, "abcdefgh"), max_size=60), st.integers(1, 20), st.integers(1, 6))
@settings(max_examples=2000, deadline=None)
def test_in_log_order_it_agrees_with_the_reference_at_the_horizon_and_the_entry_limit(
    told: list[Event], horizon_ms: int, entries_max: int
) -> None:
    source, reference = Source(), LogOrder(horizon_ms, entries_max)
    for event in told:
        outcome = stock.apply(source, update(event), Limits(horizon_ms, entries_max))
        assert outcome == reference.see(event), event
        assert row_of(source) == reference.row(), event
        assert len(source.deltas) <= entries_max


@given(st.lists(events(4), max_size=12))
def test_an_event_that_was_not_applied_changes_nothing(told: list[Event]) -> None:
    source = Source()
    for event in told:
        before = row_of(source)
        if stock.apply(source, update(event), Limits()) not in (stock.APPLIED, stock.REPLACED):
            assert row_of(source) == before


def test_a_count_carries_basis_incoming_and_staleness_and_a_delta_leaves_them() -> None:
    source = Source()
    count = update(Event("COUNT", "c", 1, 5), basis="AVAILABLE", incoming=[{"expected_at": 9, "quantity": 2}])
    stock.apply(source, {**count, "stale_after_ms": 60_000}, Limits())
    stock.apply(source, update(Event("DELTA", "d", 2, -1), order_ref="order-7"), Limits())
    assert (source.basis, source.stale_after_ms, source.incoming[0].quantity) == (1, 60_000, 2)
    assert source.deltas[0].order_ref == "order-7"
    assert source.on_hand == 4


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"kind": "COUNT", "quantity": -1}, stock.INVALID, "quantity"),
        ({"kind": "DELTA", "quantity": 0}, stock.INVALID, "quantity"),
        ({"kind": "WITHDRAWN", "quantity": 3}, stock.INVALID, "quantity"),
        ({"quantity": stock.QUANTITY_MAX + 1}, stock.INVALID, "quantity"),
        ({"observed_at": -1, "received_at": 0}, stock.INVALID, "observed_at"),
        ({"sku": ""}, stock.INVALID, "sku"),
        ({"sku": "a\x00b"}, stock.INVALID, "sku"),
        ({"sku": "e\u0301"}, stock.INVALID, "sku"),
        ({"supplier_id": "x" * 129}, stock.INVALID, "supplier_id"),
        ({"location_id": " a"}, stock.INVALID, "location_id"),
        ({"update_id": ""}, stock.INVALID, "update_id"),
        ({"order_ref": "x" * 129}, stock.INVALID, "order_ref"),
        ({"order_ref": ""}, stock.INVALID, "order_ref"),
        ({"incoming": [{"expected_at": 9, "quantity": 2}] * 101}, stock.INVALID, "incoming"),
        ({"observed_at": 300_001, "received_at": 0}, stock.FROM_FUTURE, "observed_at"),
    ],
)
def test_an_update_that_breaks_the_rules_is_refused_with_its_field(
    changes: dict[str, Any], reason: str, field: str
) -> None:
    why = stock.refusal(update(Event("COUNT", "c", 1, 5), **changes))
    assert why is not None
    code, _, text = why.partition(": ")
    assert code == reason
    assert text.split()[0] == field


def test_five_minutes_ahead_of_the_receiver_is_not_yet_the_future() -> None:
    assert stock.refusal(update(Event("COUNT", "c", 300_000, 5), received_at=0)) is None


@pytest.mark.parametrize("quantity", [-stock.QUANTITY_MAX, stock.QUANTITY_MAX])
def test_the_largest_change_is_taken(quantity: int) -> None:
    assert stock.refusal(update(Event("DELTA", "d", 1, quantity))) is None


def test_a_sum_beyond_all_stock_is_refused_until_a_count_and_every_sum_before_it_fits_a_row() -> None:
    source, limits = Source(), Limits(entries_max=1)
    outcomes = []
    for i in range(1_100):
        outcomes.append(stock.apply(source, update(Event("DELTA", f"d{i}", i, stock.QUANTITY_MAX)), limits))
        encode(source)
    first_refused = stock.CARRIED_MAX // stock.QUANTITY_MAX + 2  # one above the most, and one that is not carried yet
    assert outcomes == [stock.APPLIED] * first_refused + [stock.OUT_OF_RANGE] * (1_100 - first_refused)
    assert stock.apply(source, update(Event("COUNT", "c", 2_000, 5)), limits) == stock.APPLIED
    assert stock.apply(source, update(Event("DELTA", "again", 2_001, -1)), limits) == stock.APPLIED
    assert source.on_hand == 4
