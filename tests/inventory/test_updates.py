"""The law of a batch's columns: whether they come from Arrow or from records, the fold reads the same."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory import updates
from inventory.stock import StockUpdate, refusal
from inventory.updates import Updates
from schemas.keys import plain_ids
from tests.inventory.builders import batch_of, odd, update
from tests.inventory.reference import Event
from tests.inventory.test_stock import events

told = st.lists(st.tuples(st.builds(update, events(30, "abcd")), st.just({}) | odd), max_size=8)


def changed(pairs: list[tuple[StockUpdate, Any]]) -> list[StockUpdate]:
    return [cast("StockUpdate", {**usual, **changes}) for usual, changes in pairs]


@given(told)
@settings(max_examples=1_000, deadline=None)
def test_arrow_and_records_give_the_same_columns_and_refusals(pairs: list[tuple[StockUpdate, Any]]) -> None:
    records = changed(pairs)
    batch = batch_of([update(Event("COUNT", "before", 1, 1)), *records]).slice(1)  # as a part of a larger one
    assert Updates.of_batch(batch) == Updates.of(records)
    found = {i: why for i, record in enumerate(records) if (why := refusal(record)) is not None}
    assert Updates.of(records).refusals == found


@given(told)
@settings(max_examples=500, deadline=None)
def test_of_plain_ids_a_batch_is_looked_at_one_by_one_only_if_one_is_refused(
    pairs: list[tuple[StockUpdate, Any]],
) -> None:
    records = changed(pairs)
    ids = [value for record in records for name in updates.IDS if (value := record[name]) is not None]  # type: ignore[literal-required]
    usable = updates._all_usable(batch_of(records))
    refused = any(refusal(record) for record in records)
    assert usable == (not refused) if plain_ids(ids) else not (usable and refused)


EXTREMES: list[tuple[Event, dict[str, Any]]] = [
    (Event("COUNT", "c", 0, 0), {"received_at": 0}),
    (Event("COUNT", "c", 300_000, 10**12), {"received_at": 0}),
    (Event("DELTA", "d", 1, -(10**12)), {}),
    (Event("DELTA", "d", 1, 10**12), {"sku": " ".join("~" * 64) + "!"}),
    (Event("WITHDRAWN", "w", 1, 0), {"incoming": [{"expected_at": 9, "quantity": 1}] * 100}),
]


@pytest.mark.parametrize("extreme", EXTREMES)
def test_the_last_value_that_is_allowed_is_clean(
    monkeypatch: pytest.MonkeyPatch, extreme: tuple[Event, dict[str, Any]]
) -> None:
    monkeypatch.setattr(updates, "refusal", None)
    event, fields = extreme
    assert Updates.of_batch(batch_of([update(event, **fields)])).observed_at == [event.at]


def test_what_is_clean_is_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "refusal", None)
    wide = {"sku": "x" * 128, "order_ref": "o 1", "stale_after_ms": 5, "incoming": [{"expected_at": 9, "quantity": 1}]}
    records = [update(Event("COUNT", "c", 1, 0), **wide), update(Event("WITHDRAWN", "w", 2, 0))]
    records += [update(Event("DELTA", "~!", 3, -1), supplier_id="two words"), update(Event("DELTA", "d", 4, 10**12))]
    batch = Updates.of_batch(batch_of(records))
    assert batch.refusals == {}
    assert batch.source == ["acme\x1fdefault", "acme\x1fdefault", "two words\x1fdefault", "acme\x1fdefault"]
    assert batch.incoming == [wide["incoming"], [], [], []]
    for column in (batch.source, batch.supplier_id, batch.kind):
        assert len({id(value) for value in column}) == len(set(column)), "each is one string, however often it is there"
