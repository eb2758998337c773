"""Rows that contradict what was said for the same time."""

from __future__ import annotations

import pyarrow as pa

from connectors.runner.corrections import SLOTS, Corrections

T = 1_790_000_000_000


def said(*rows: tuple[str, int, int | None, str]) -> pa.RecordBatch:
    """Each a SKU, a time, a quantity and a kind."""
    skus, times, quantities, kinds = zip(*rows, strict=True)
    columns = {
        "sku": pa.array(skus),
        "location_id": pa.repeat("default", len(rows)),
        "observed_at": pa.array(times, pa.int64()),
        "quantity": pa.array(quantities, pa.int64()),
        "kind": pa.array(kinds),
    }
    return pa.RecordBatch.from_pydict(columns)


def count(sku: str, time: int, quantity: int) -> tuple[str, int, int, str]:
    return sku, T + time, quantity, "COUNT"


def test_another_count_for_the_same_time_is_a_correction_within_a_document_and_between_documents() -> None:
    corrections = Corrections(is_remembered=True)
    assert corrections.count(said(count("a", 0, 5), count("b", 0, 1), count("a", 0, 7))) == 1
    assert corrections.count(said(count("a", 0, 7), count("b", 0, 2))) == 1, "a says what it said last"
    assert corrections.count(said(("b", T, None, "WITHDRAWN"))) == 1, "which it is not any more"


def test_the_same_again_and_another_time_are_none_and_neither_are_changes() -> None:
    corrections = Corrections(is_remembered=True)
    first = said(count("a", 0, 5), count("a", 1, 7), count("b", 0, 5))
    assert [corrections.count(first) for _ in range(2)] == [0, 0]
    assert corrections.count(said(("c", T, 1, "DELTA"), ("c", T, 2, "DELTA"))) == 0


def test_without_times_of_their_own_documents_are_not_compared() -> None:
    corrections = Corrections(is_remembered=False)
    assert corrections.count(said(count("a", 0, 5))) == 0
    assert corrections.count(said(count("a", 0, 7))) == 0
    assert corrections.count(said(count("a", 0, 5), count("a", 0, 7))) == 1


def test_what_is_not_a_correction_is_never_counted_however_many_skus_there_are() -> None:
    corrections = Corrections(is_remembered=True)
    for time in range(3):
        rows = [count(f"s{n}", time, n) for n in range(3 * SLOTS)]
        assert corrections.count(said(*rows)) == 0


def test_each_row_is_counted_once_by_what_stood_before_it_and_skus_are_not_taken_for_one_another() -> None:
    corrections = Corrections(is_remembered=True)
    assert corrections.count(said(count("a", 0, 5))) == 0
    assert corrections.count(said(count("a", 0, 7), count("a", 0, 8))) == 2
    for offers in range(2):
        rows = [count(f"s{offers}-{n}", 0, offers) for n in range(3 * SLOTS)]
        assert corrections.count(said(*rows)) == 0
