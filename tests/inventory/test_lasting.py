"""The law of what lasts: folding it alone ends with the rows that folding everything ends with."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.digest import meaning
from inventory.fold import fold
from inventory.lasting import lasting
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
