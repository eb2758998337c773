"""The law of what lasts: folding it alone ends with the rows that folding everything ends with."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.digest import meaning
from inventory.fold import fold
from inventory.lasting import UNITS_MAX, lasting
from inventory.stock import CONFLICT, QUANTITY_MAX, Limits, StockUpdate
from inventory.updates import Updates
from tests.inventory.builders import batch_of, update
from tests.inventory.reference import Event

LIMITS = Limits(horizon_ms=20, entries_max=3)


def told(kind: str, update_id: str, at: int, quantity: int, supplier: int, **fields: Any) -> StockUpdate:
    return update(Event(kind, update_id, at, quantity), supplier_id=f"supplier-{supplier}", **fields)


events = st.builds(
    told,
    st.sampled_from(["COUNT", "COUNT", "DELTA", "DELTA", "DELTA", "WITHDRAWN"]),
    st.sampled_from("abcdefgh"),
    st.integers(0, 60),
    st.integers(0, 4).map(lambda n: n - 1),
    st.integers(0, 1),
)


def fold_all(batch: list[StockUpdate], row: bytes | None) -> tuple[bytes | None, list[tuple[int, str]]]:
    folded = fold(
        Updates.of(batch), [b"sku-1"] * len(batch), range(len(batch)), lambda asked: [row] * len(asked), LIMITS
    )
    return folded.rows.get(b"sku-1", row), folded.refused


def fold_lasting(batch: list[StockUpdate], row: bytes | None) -> bytes | None:
    """As the replay does it."""
    chosen = lasting(batch_of(batch))
    after, refused = fold_all([batch[i] for i in chosen.places], row)
    rejected = {int(chosen.places[i]) for i, reason in refused if reason != CONFLICT}
    return after if rejected.isdisjoint(chosen.rests_on.tolist()) else fold_all(batch, row)[0]


@given(st.lists(st.lists(events, min_size=1, max_size=25), min_size=1, max_size=4))
@settings(max_examples=1_500, deadline=None)
def test_what_lasts_ends_with_the_rows_of_all_stretch_by_stretch(stretches: list[list[StockUpdate]]) -> None:
    every: bytes | None = None
    some: bytes | None = None
    for stretch in stretches:
        every, some = fold_all(stretch, every)[0], fold_lasting(stretch, some)
        assert (every and meaning(every)) == (some and meaning(some))


def test_what_a_later_count_replaces_does_not_last() -> None:
    batch = [told("COUNT", f"c{i}", i, 5, 0) for i in range(50)] + [told("DELTA", f"d{i}", i, 1, 0) for i in range(50)]
    assert lasting(batch_of(batch)).places.tolist() == [49, 99]


@pytest.mark.parametrize(
    "count",
    [
        told("COUNT", "c", 0, 5, 0),
        told("COUNT", "c", 300_000, 5, 0, received_at=0),
        told("COUNT", "c", 9, 0, 0),
        told("COUNT", "c", 9, QUANTITY_MAX, 0),
        told("WITHDRAWN", "c", 9, 0, 0),
    ],
)
def test_every_count_that_can_be_used_makes_what_was_observed_before_it_superfluous(count: StockUpdate) -> None:
    at = count["observed_at"]
    batch = [told("DELTA", "before", at - 1, 1, 0), count, told("DELTA", "then", at, 1, 0), told("DELTA", "x", 0, 1, 1)]
    assert lasting(batch_of(batch)).places.tolist() == [1, 2, 3]
    assert lasting(batch_of(batch)).rests_on.tolist() == [1]


def test_sources_are_those_of_one_supplier_at_one_location_for_one_sku() -> None:
    names = [("sku", f"sku-{n}", "location_id", f"at-{m}") for n in range(3) for m in range(2)]
    batch = [
        told(kind, "u", at, 1, supplier, **{a: b, c: d})
        for kind, at in (("DELTA", 5), ("COUNT", 6))
        for a, b, c, d in names
        for supplier in range(2)
    ]
    everyone = len(batch) // 2
    for dropped in range(everyone):
        chosen = lasting(batch_of(batch[: everyone + dropped] + batch[everyone + dropped + 1 :]))
        assert chosen.places.tolist() == [dropped, *range(everyone, len(batch) - 1)]


def test_where_sums_could_refuse_what_lasts_everything_is_folded() -> None:
    batch = [told("DELTA", f"d{n}", n, (-1) ** n * QUANTITY_MAX, 0) for n in range(99)]
    batch.append(told("COUNT", "c", 200, QUANTITY_MAX, 0))
    assert UNITS_MAX == 100 * QUANTITY_MAX
    assert lasting(batch_of(batch)).places.tolist() == [99]
    batch.append(told("DELTA", "d", 300, -1, 0))
    chosen = lasting(batch_of(batch))
    assert (chosen.places.tolist(), chosen.rests_on.tolist()) == (list(range(101)), [])


def test_of_nothing_nothing_lasts() -> None:
    chosen = lasting(batch_of([]))
    assert (chosen.places.tolist(), chosen.rests_on.tolist()) == ([], [])


def test_a_count_that_cannot_be_used_makes_nothing_superfluous() -> None:
    spoilt: list[dict[str, Any]] = [
        {"received_at": -300_000},
        {"quantity": -1},
        {"quantity": QUANTITY_MAX + 1},
        {"quantity": 1, "kind": "WITHDRAWN"},
    ]
    for fields in spoilt:
        batch = [told("DELTA", "d", 1, 1, 0), cast("StockUpdate", {**told("COUNT", "c", 9, 5, 0), **fields})]
        assert lasting(batch_of(batch)).rests_on.tolist() == []
        assert len(lasting(batch_of(batch)).places) == 2


def test_a_rejected_count_is_told_among_those_that_others_rest_on() -> None:
    batch = [told("DELTA", f"d{i}", 10 + i, 1, 0) for i in range(9)] + [told("COUNT", "c", 12, 5, 0)]
    chosen = lasting(batch_of(batch))
    assert 9 in chosen.rests_on
    assert fold_lasting(batch, None) == fold_all(batch, None)[0]
