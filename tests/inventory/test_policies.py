"""Policies: which scope decides, and what each decision does to a number, by an independent computation."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.availability import COUNTED, EXCLUDED, PASSED_OVER, STALE, Availability, availability, held_back
from inventory.policies import Policies
from schemas.keys import source_key
from schemas.policies import MAX, MIN, PRIORITY, STRATEGIES, SUM, Policy
from schemas.rows import Count, Delta, Source, StockRow

NOW = 1_700_000_000_000
SKU = "sku-1"


def policies(**by_scope: dict[str, Any]) -> Policies:
    """By scope, its colon written as two underscores."""
    scopes = {name.replace("__", ":", 1): fields for name, fields in by_scope.items()}
    return Policies({scope: Policy(scope, 1, **fields) for scope, fields in scopes.items()}, 1)


def row(**quantities: int) -> StockRow:
    """Counts by `supplier__location`, or by supplier."""
    sources = {}
    for name, quantity in quantities.items():
        supplier, _, location = name.partition("__")
        sources[source_key(supplier, location or "here")] = Source(Count(0, "c", NOW, quantity))
    return StockRow(SKU, 1, sum(quantities.values()), NOW, sources)


def answer(of: StockRow, by: Policies, channel: str = "default", later_ms: int = 0) -> Availability:
    return availability(of, by.rules(SKU, channel), NOW + later_ms)


def standings(found: Availability) -> dict[str, str]:
    return {part.supplier: part.standing for part in found.parts}


@pytest.mark.parametrize(
    ("scopes", "units"),
    [
        (("sku__sku-1", "channel__web", "default"), 3),
        (("channel__web", "default"), 2),
        (("default",), 1),
        (("sku__other", "channel__shop"), 0),
    ],
)
def test_the_most_specific_scope_decides_a_number_field_by_field(scopes: tuple[str, ...], units: int) -> None:
    all_units = {"sku__sku-1": 3, "channel__web": 2, "default": 1, "sku__other": 9, "channel__shop": 9}
    by = policies(**{scope: {"safety_units": all_units[scope]} for scope in scopes}, location__x={"enabled": True})
    assert by.rules(SKU, "web").safety_units == units
    assert by.rules(SKU, "web").backorder_units_max == 0


@pytest.mark.parametrize(
    ("scopes", "after_ms"),
    [
        (("sku__sku-1", "supplier__acme", "location__here", "default"), 4),
        (("supplier__acme", "location__here", "default"), 3),
        (("location__here", "default"), 2),
        (("default",), 1),
        (("supplier__other", "location__there"), None),
    ],
)
def test_the_most_specific_scope_decides_when_a_source_is_stale(scopes: tuple[str, ...], after_ms: int | None) -> None:
    limits = {"sku__sku-1": 4, "supplier__acme": 3, "location__here": 2, "default": 1}
    by = policies(**{scope: {"stale_after_ms": limits.get(scope, 9)} for scope in scopes})
    source = by.rules(SKU).source(source_key("acme", "here"))
    assert source.stale_after_ms == after_ms
    assert (source.supplier, source.location) == ("acme", "here")


@pytest.mark.parametrize("scope", ["sku__sku-1", "supplier__acme", "location__here", "default"])
def test_how_slow_a_source_is_belongs_to_the_source_in_every_channel(scope: str) -> None:
    by = policies(channel__web={"safety_units": 1}, **{scope: {"netting_delay_ms": 7}})
    for channel in ("default", "web"):
        assert by.rules(SKU, channel).source(source_key("acme", "here")).netting_delay_ms == 7
    other = 7 if scope == "default" else 0
    assert by.rules("other").source(source_key("best", "there")).netting_delay_ms == other


def test_what_a_source_says_of_its_age_goes_before_any_policy() -> None:
    of = row(acme=5)
    of.sources[source_key("acme", "here")].stale_after_ms = 100
    by = policies(**{"sku__sku-1": {"stale_after_ms": 10}})
    assert [answer(of, by, later_ms=ms).available for ms in (11, 100, 101)] == [5, 5, 0]


def test_a_stale_source_counts_as_its_floor_and_never_as_more_than_it_has() -> None:
    by = policies(default={"stale_after_ms": 10, "stale_floor_units": 3})
    late = answer(row(acme=5, best=2), by, later_ms=11)
    assert [part.units for part in late.parts] == [3, 2]
    assert (late.certain, late.available, late.hoped_for) == (0, 5, 7)
    assert standings(late) == {"acme": STALE, "best": STALE}


def test_excluded_sources_count_nowhere_and_scopes_add_up() -> None:
    by = policies(
        default={"excluded": ("supplier:acme",)},
        channel__web={"excluded": ("location:attic",)},
        supplier__gone={"enabled": False},
        location__closed={"enabled": False},
        location__here={"enabled": True},
    )
    of = row(acme=1, best=2, best__attic=4, gone=8, best__closed=16)
    assert answer(of, by).available == 6
    found = answer(of, by, "web")
    assert (found.available, found.hoped_for) == (2, 2)
    assert [part.standing for part in found.parts] == [EXCLUDED, COUNTED, EXCLUDED, EXCLUDED, EXCLUDED]
    assert found.by_supplier == {"acme": 1, "best": 22, "gone": 8}, "what is on hand is told all the same"


def test_safety_stock_is_the_larger_of_units_and_percent_rounded_up() -> None:
    assert [held_back(n, 0, 10) for n in (0, 1, 10, 11, 20)] == [0, 0, 9, 9, 18]
    assert [held_back(n, 2, 10) for n in (1, 2, 3, 30, 31)] == [0, 0, 1, 27, 27]


def test_safety_stock_of_a_source_comes_off_that_source_alone() -> None:
    by = policies(location__here={"safety_units": 3}, supplier__best={"safety_units": 1})
    found = answer(row(acme=2, acme__shop=5, best=5), by)
    assert [part.units for part in found.parts] == [0, 5, 4]
    assert found.available == 9


def test_a_channel_may_sell_its_share_rounded_down_of_what_is_beside_safety_stock() -> None:
    by = policies(default={"safety_units": 1}, channel__web={"channel_share_percent": 50})
    assert answer(row(acme=6), by, "web").available == 2
    assert answer(row(acme=6), by).available == 5


def test_a_channel_whose_policy_was_taken_back_is_as_the_default_one_again() -> None:
    by = policies(channel__default={"safety_units": 6}, channel__web={"channel_share_percent": 50})
    taken_back = by.changed(Policy("channel:web", 2), revision=2)
    assert [each.rules(SKU, "web").safety_units for each in (by, taken_back)] == [0, 6]


@pytest.mark.parametrize(
    ("scopes", "limits"),
    [
        ({}, (0, 1)),
        ({"default": {"low_stock_units": 5}}, (5, 6)),
        ({"default": {"low_stock_units": 5, "low_stock_cleared_units": 9}}, (5, 9)),
        (
            {"default": {"low_stock_units": 5, "low_stock_cleared_units": 9}, "sku__sku-1": {"low_stock_units": 3}},
            (3, 4),
        ),
        ({"default": {"low_stock_units": 5}, "sku__sku-1": {"low_stock_units": 0}}, (0, 1)),
        ({"sku__other": {"low_stock_units": 5}}, (0, 1)),
    ],
)
def test_low_stock_and_when_it_is_cleared_come_from_one_scope(
    scopes: dict[str, dict[str, int]], limits: tuple[int, int]
) -> None:
    rules = policies(**scopes).rules(SKU)
    assert (rules.low_stock_units, rules.low_stock_cleared_units) == limits


def test_backorders_are_told_beside_the_number() -> None:
    found = answer(row(acme=6), policies(default={"backorder_units_max": 4}))
    assert (found.available, found.backorderable) == (6, 4)


def test_priority_takes_the_first_fresh_supplier_that_offers_the_sku_whatever_it_has() -> None:
    by = policies(default={"strategy": PRIORITY, "priority": ("acme", "best", "cheap"), "stale_after_ms": 10})
    of = row(acme=0, best=7, best__shop=2, cheap=9, unnamed=50)
    assert answer(of, by).available == 0
    of.sources[source_key("acme", "here")].count = Count(1, "w", NOW, 0)  # withdrawn
    found = answer(of, by)
    assert (found.available, found.hoped_for) == (9, 9)
    assert standings(found) == {"acme": PASSED_OVER, "best": COUNTED, "cheap": PASSED_OVER, "unnamed": PASSED_OVER}
    of.sources[source_key("cheap", "here")].deltas = [Delta(NOW + 20, "d", 1)]  # and now it alone is fresh
    assert answer(of, by, later_ms=11).available == 10
    assert answer(of, by, later_ms=40).available == 0


def test_a_strategy_and_its_priority_come_from_one_scope() -> None:
    by = policies(default={"strategy": PRIORITY, "priority": ("acme",)}, **{"sku__sku-1": {"strategy": MAX}})
    assert answer(row(acme=1, best=7), by).available == 7


def test_a_source_without_a_count_is_not_certain() -> None:
    of = row(acme=5)
    of.sources[source_key("best", "here")] = Source(deltas=[Delta(NOW, "d", 4)])
    found = answer(of, Policies())
    assert (found.certain, found.available, found.hoped_for) == (5, 9, 9)


def test_the_age_is_that_of_what_counts() -> None:
    by = policies(default={"strategy": MAX})
    of = row(acme=5, best=7)
    of.sources[source_key("acme", "here")].count = Count(0, "c", NOW - 500, 5)
    assert answer(of, by).oldest_observed_at == NOW
    assert answer(of, Policies()).oldest_observed_at == NOW - 500


def test_policies_that_came_later_take_the_place_of_their_scope_alone() -> None:
    first = policies(default={"safety_units": 1}, channel__web={"safety_units": 2})
    assert first.rules(SKU, "web").safety_units == 2
    second = first.changed(Policy("channel:web", 2), Policy("sku:sku-1", 1, safety_percent=5), revision=7)
    rules = second.rules(SKU, "web")
    assert (rules.safety_units, rules.safety_percent, second.revision) == (1, 5, 7)
    assert first.rules(SKU, "web").safety_units == 2, "what was read from before is as it was"


suppliers = st.sampled_from(["a", "b", "c"])
parts = st.dictionaries(
    st.tuples(suppliers, st.sampled_from(["x", "y"])),
    st.tuples(st.integers(-5, 30), st.integers(0, 20), st.booleans()),  # on hand, age, withdrawn
)


@given(
    parts,
    st.sampled_from(STRATEGIES),
    st.permutations(["a", "b", "c"]).flatmap(lambda names: st.integers(1, 3).map(lambda n: tuple(names[:n]))),
    st.integers(0, 8),
    st.integers(0, 100),
    st.integers(0, 100),
    st.none() | st.integers(0, 6),
)
def test_a_number_is_what_a_plain_reading_of_the_policies_gives(
    given: dict[tuple[str, str], tuple[int, int, bool]],
    strategy: str,
    order: tuple[str, ...],
    safety: int,
    percent: int,
    share: int,
    stale_floor: int | None,
) -> None:
    by = policies(
        default={
            "strategy": strategy,
            "priority": order if strategy == PRIORITY else None,
            "safety_units": safety,
            "safety_percent": percent,
            "stale_after_ms": 10,
            "stale_floor_units": stale_floor,
        },
        channel__web={"channel_share_percent": share},
    )
    sources = {
        source_key(*name): Source(Count(int(withdrawn), "c", NOW - age, n))
        for name, (n, age, withdrawn) in given.items()
    }
    found = answer(StockRow(SKU, 1, 0, NOW, sources), by, "web")

    counts = {name: max(0, n) if age <= 10 else min(max(0, n), stale_floor or 0) for name, (n, age, _) in given.items()}
    healthy = {s for (s, _), (_, age, withdrawn) in given.items() if not withdrawn and (age <= 10 or stale_floor)}
    of = {s: sum(n for (supplier, _), n in counts.items() if supplier == s) for s in "abc"}
    whole = {
        SUM: sum(counts.values()),
        PRIORITY: next((of[s] for s in order if s in healthy), 0),
        MIN: min((of[s] for s in healthy), default=0),
        MAX: max((of[s] for s in healthy), default=0),
    }[strategy]
    left = max(0, whole - max(safety, ceil(Fraction(whole * percent, 100))))
    assert found.available == floor(Fraction(left * share, 100))
    assert sum(found.by_location.values()) == sum(part.units for part in found.parts) == whole
    assert found.certain <= found.available <= found.hoped_for


@given(parts, st.none() | st.integers(1, 15), st.none() | st.integers(0, 6), st.none() | st.just(("supplier:a",)))
def test_a_policy_of_a_sku_holds_whether_or_not_others_were_asked_for_before(
    given: dict[tuple[str, str], tuple[int, int, bool]],
    stale_after_ms: int | None,
    floor: int | None,
    excluded: tuple[str, ...] | None,
) -> None:
    own = {"stale_after_ms": stale_after_ms, "stale_floor_units": floor, "excluded": excluded, "safety_units": 1}
    sources = {source_key(*name): Source(Count(0, "c", NOW - age, n)) for name, (n, age, _) in given.items()}
    of = StockRow(SKU, 1, 0, NOW, sources)
    asked, fresh = (policies(default={"stale_after_ms": 5}, **{"sku__sku-1": own}) for _ in range(2))
    for sku in ("other", SKU, "another"):
        availability(StockRow(sku, 1, 0, NOW, sources), asked.rules(sku), NOW)
    assert answer(of, asked) == answer(of, fresh)


def test_of_changes_that_are_heard_the_later_ones_hold_and_the_rest_stays() -> None:
    before = policies(default={"safety_units": 1}, channel__web={"safety_units": 2})
    assert before.heard([]) is before
    assert before.heard([(1, Policy("default", 9, safety_units=9))]) is before, "it is known already"
    after = before.heard(
        [
            (1, Policy("channel:web", 9, safety_units=9)),
            (3, Policy("default", 2, safety_units=3)),
            (4, Policy("sku:s", 1, safety_units=4)),
        ]
    )
    assert (after.revision, before.revision) == (4, 1)
    assert {scope: policy.safety_units for scope, policy in after.by_scope.items()} == {
        "default": 3, "channel:web": 2, "sku:s": 4,
    }  # fmt: skip
