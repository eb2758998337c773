"""What can be sold of a row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.availability import availability
from inventory.policies import Policies
from inventory.stock import observed_at
from schemas.keys import source_key
from schemas.rows import Count, Delta, Source, StockRow

NOW = 1_700_000_000_000
PLAIN = Policies().rules("sku-1")


def counted(quantity: int, at: int = NOW, *, stale_after_ms: int | None = None, carried: int = 0) -> Source:
    return Source(Count(0, "c", at, quantity), stale_after_ms=stale_after_ms, carried=carried)


def row(**sources: Source) -> StockRow:
    """Sources by `supplier__location`."""
    keyed = {source_key(*name.split("__")): source for name, source in sources.items()}
    return StockRow("sku-1", 1, sum(s.on_hand for s in sources.values()), NOW, keyed)


def test_each_source_is_clamped_before_it_is_summed() -> None:
    answer = availability(row(acme__a=counted(5), acme__b=counted(-3), best__a=counted(2)), PLAIN, NOW)

    assert answer.available == 7
    assert answer.by_supplier == {"acme": 2, "best": 2}
    assert answer.by_location == {"a": 7, "b": 0}


def test_deltas_and_what_was_carried_are_in_the_number() -> None:
    source = counted(10, carried=-2)
    source.deltas = [Delta(NOW + 1, "d1", -3), Delta(NOW + 2, "d2", 1)]

    assert availability(row(acme__a=source), PLAIN, NOW).available == 6


def test_a_source_without_a_count_counts_by_its_deltas_alone() -> None:
    assert availability(row(acme__a=Source(deltas=[Delta(NOW, "d", 4)])), PLAIN, NOW).available == 4


@pytest.mark.parametrize(("age_ms", "stale"), [(999, False), (1_000, False), (1_001, True)])
def test_a_source_is_stale_once_past_its_own_limit(age_ms: int, stale: bool) -> None:
    answer = availability(row(acme__a=counted(5, NOW - age_ms, stale_after_ms=1_000), best__b=counted(1)), PLAIN, NOW)

    assert answer.available == (1 if stale else 6)
    assert answer.stale == ([("acme", "a")] if stale else [])
    assert answer.by_supplier == {"acme": 5, "best": 1}, "what a supplier says stays as it said it"
    assert answer.oldest_observed_at == (NOW if stale else NOW - age_ms)


def stale(source: Source) -> bool:
    return availability(row(acme__a=source), PLAIN, NOW).stale == [("acme", "a")]


def test_a_source_without_a_limit_is_never_stale() -> None:
    assert not stale(counted(5, 0))


def test_a_delta_is_a_statement_and_renews_the_source() -> None:
    source = counted(5, NOW - 5_000, stale_after_ms=1_000)
    assert stale(source)
    source.deltas = [Delta(NOW - 500, "d", -1)]
    assert not stale(source)
    assert observed_at(source) == NOW - 500


times = st.none() | st.integers(0, 50)


@given(times, times, st.lists(st.integers(51, 99), max_size=3, unique=True))
def test_a_source_s_latest_statement_is_its_last_delta_or_else_its_count_or_what_was_carried(
    count_at: int | None, floor_at: int | None, delta_at: list[int]
) -> None:
    source = Source(None if count_at is None else Count(0, "c", count_at, 5), floor_at=floor_at)
    source.deltas = [Delta(at, "d", 1) for at in sorted(delta_at)]

    assert observed_at(source) == max([0, *delta_at, *(at for at in (count_at, floor_at) if at is not None)])


def test_when_every_source_is_stale_nothing_is_left_and_no_age_is_told() -> None:
    answer = availability(row(acme__a=counted(5, 0, stale_after_ms=1)), PLAIN, NOW)

    assert (answer.available, answer.oldest_observed_at) == (0, None)


quantities = st.integers(-50, 50)
sources = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")),
    st.tuples(quantities, st.integers(0, 100), st.none() | st.integers(0, 100)),
)


@given(sources)
def test_the_parts_add_up_by_an_independent_computation(
    parts: dict[tuple[str, str], tuple[int, int, int | None]],
) -> None:
    made = {
        source_key(*name): Source(count=Count(0, "c", NOW - age, n), stale_after_ms=limit)
        for name, (n, age, limit) in parts.items()
    }
    fresh = {name: n for name, (n, age, limit) in parts.items() if limit is None or age <= limit}

    answer = availability(StockRow("s", 1, 0, NOW, made), PLAIN, NOW)

    assert answer.available == sum(n for n in fresh.values() if n > 0) == sum(answer.by_location.values())
    assert sum(answer.by_supplier.values()) == sum(n for n, _, _ in parts.values())
    assert answer.oldest_observed_at == min((NOW - parts[name][1] for name in fresh), default=None)
    assert set(answer.stale) == set(parts) - set(fresh)


@given(sources, st.integers(0, 200))
def test_the_number_of_stale_sources_names_the_set_of_them(
    parts: dict[tuple[str, str], tuple[int, int, int | None]], later: int
) -> None:
    # An entity tag relies on it: at two times with equally many stale sources, the same ones are stale.
    made = {
        source_key(*name): Source(count=Count(0, "c", NOW - age, n), stale_after_ms=limit)
        for name, (n, age, limit) in parts.items()
    }
    whole = StockRow("s", 1, 0, NOW, made)
    first, second = availability(whole, PLAIN, NOW), availability(whole, PLAIN, NOW + later)

    assert set(first.stale) <= set(second.stale)
    assert (len(first.stale) == len(second.stale)) == (
        first.available == second.available and first.stale == second.stale
    )
