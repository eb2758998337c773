"""The law of a batch's columns: whether they come from Arrow or from records, the fold reads the same."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory import updates
from inventory.stock import StockUpdate, refusal
from inventory.updates import Updates
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


def test_what_is_clean_is_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "refusal", None)
    wide = {"sku": "x" * 128, "order_ref": "o 1", "stale_after_ms": 5, "incoming": [{"expected_at": 9, "quantity": 1}]}
    records = [update(Event("COUNT", "c", 1, 0), **wide), update(Event("WITHDRAWN", "w", 2, 0))]
    records += [update(Event("DELTA", "~!", 3, -1), supplier_id="two words"), update(Event("DELTA", "d", 4, 10**12))]
    batch = Updates.of_batch(batch_of(records))
    assert batch.refusals == {}
    assert batch.source == ["acme\x1fdefault", "acme\x1fdefault", "two words\x1fdefault", "acme\x1fdefault"]
