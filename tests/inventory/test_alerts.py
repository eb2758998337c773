"""Alert states and the crossings between them; and which rows need not be looked at, which no result may depend on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.alerts import (
    IN_STOCK,
    LEVEL,
    LOW,
    OUT_OF_STOCK,
    TIMED,
    UNITS_MAX,
    UNKNOWN,
    WITH_OVERSOLD,
    Crossing,
    State,
    evaluate,
    level,
    never_looked_at,
    state_of,
    sure,
    time_matters,
)
from inventory.fold import fold
from inventory.policies import Policies
from inventory.stock import Limits, StockUpdate
from inventory.updates import Updates
from schemas.alerts import KINDS
from schemas.keys import source_key
from schemas.policies import MIN, Policy
from schemas.rows import Count, Open, Source, StockRow, decode_packed_row, decode_row, encode, encode_row, unpacked
from tests.inventory.builders import update
from tests.inventory.reference import Event

NOW = 1_700_000_000_000
SKU = "sku-1"
ACME, BOLT = source_key("acme", "default"), source_key("bolt", "default")


def policies(scope: str = "default", **fields: Any) -> Policies:
    return Policies({scope: Policy(scope, 1, **fields)}, 1)


def row(reserved: int = 0, **units: int) -> StockRow:
    """Counts by supplier; `reserved`: held of the first."""
    sources = {source_key(name, "default"): Source(Count(0, "c", NOW, n)) for name, n in units.items()}
    held = {next(iter(sources)): [Open(reserved, "default")]} if reserved else {}
    return StockRow(SKU, 1, sum(units.values()), NOW, sources, held)


def told(steps: Sequence[StockRow], by: Policies = Policies(), now_ms: int = NOW) -> list[Crossing]:  # noqa: B008
    """The crossings of a row through these versions of it, the first of which is in stock."""
    state, crossings = evaluate(steps[0], by.rules(SKU), now_ms, State())
    assert not crossings
    for each in steps[1:]:
        state, some = evaluate(each, by.rules(SKU), now_ms, state)
        crossings += some
    return crossings


def kinds(crossings: Sequence[Crossing]) -> list[str]:
    return [crossing.kind for crossing in crossings]


@pytest.mark.parametrize(
    ("available", "after_unknown", "after_in_stock", "after_low", "after_out"),
    [
        (0, OUT_OF_STOCK, OUT_OF_STOCK, OUT_OF_STOCK, OUT_OF_STOCK),
        (1, LOW, LOW, LOW, LOW),
        (5, LOW, LOW, LOW, LOW),
        (6, IN_STOCK, IN_STOCK, LOW, LOW),
        (7, IN_STOCK, IN_STOCK, LOW, LOW),
        (8, IN_STOCK, IN_STOCK, IN_STOCK, IN_STOCK),
        (9, IN_STOCK, IN_STOCK, IN_STOCK, IN_STOCK),
    ],
)
def test_low_is_entered_at_one_number_and_left_upwards_at_another(
    available: int, after_unknown: int, after_in_stock: int, after_low: int, after_out: int
) -> None:
    rules = policies(low_stock_units=5, low_stock_cleared_units=8).rules(SKU)
    found = [level(available, rules, before) for before in (UNKNOWN, IN_STOCK, LOW, OUT_OF_STOCK)]
    assert found == [after_unknown, after_in_stock, after_low, after_out]


def test_without_a_limit_there_is_only_out_of_stock_and_back() -> None:
    for by in (Policies(), policies(low_stock_units=0), policies("sku:other", low_stock_units=5)):
        assert kinds(told([row(acme=9), row(acme=1), row(acme=0), row(acme=1)], by)) == ["STOCKOUT", "BACK_IN_STOCK"]


def test_each_crossing_is_told_once_and_begins_where_the_one_before_ended() -> None:
    by = policies(low_stock_units=5, low_stock_cleared_units=8)
    numbers = (9, 6, 5, 4, 6, 7, 8, 7, 6, 3, 0, 0, 4, 7, 8, 0, 20)
    crossings = told([row(acme=n) for n in numbers], by)
    assert [(c.kind, c.available) for c in crossings] == [
        ("LOW_STOCK", 5),
        ("LOW_STOCK_CLEARED", 8),
        ("LOW_STOCK", 3),
        ("STOCKOUT", 0),
        ("BACK_IN_STOCK", 4),
        ("LOW_STOCK_CLEARED", 8),
        ("STOCKOUT", 0),
        ("BACK_IN_STOCK", 20),
    ]
    assert [c.previous for c in crossings[1:]] == [c.state for c in crossings[:-1]]
    assert [c.state for c in crossings[3:6]] == ["OUT_OF_STOCK", "LOW", "IN_STOCK"]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.integers(0, 6), st.integers(1, 5))
def test_a_number_that_stays_within_the_band_tells_nothing(numbers: list[int], low: int, width: int) -> None:
    by = policies(low_stock_units=low, low_stock_cleared_units=low + width)
    crossings = told([row(acme=n) for n in numbers], by)
    band = [n for n in numbers if low < n < low + width]
    assert [c.previous for c in crossings[1:]] == [c.state for c in crossings[:-1]]
    assert not [c for c in crossings if c.available in band and c.kind != "BACK_IN_STOCK"]


def test_what_is_counted_is_what_can_be_sold_in_the_default_channel() -> None:
    assert kinds(told([row(acme=9), row(reserved=9, acme=9), row(acme=9)])) == ["STOCKOUT", "BACK_IN_STOCK"]
    assert kinds(told([row(acme=9), row(acme=2)], policies(safety_units=2))) == ["STOCKOUT"]
    assert kinds(told([row(acme=9), row(acme=0)], policies("channel:web", low_stock_units=None))) == ["STOCKOUT"]
    assert not told([row(acme=9), row(acme=2)], policies("channel:web", safety_units=2))
    assert kinds(told([row(acme=1), row(acme=0)], policies(backorder_units_max=9))) == ["STOCKOUT"]


def test_a_row_that_was_never_looked_at_gets_its_state_in_silence() -> None:
    by = policies(low_stock_units=5).rules(SKU)
    for units, expected in ((9, IN_STOCK), (5, LOW), (0, OUT_OF_STOCK)):
        assert evaluate(row(acme=units), by, NOW, State()) == (State(expected), [])
    state, crossings = evaluate(row(reserved=3, acme=2), by, NOW, State())
    assert (state, crossings) == (State(OUT_OF_STOCK | WITH_OVERSOLD, (ACME,)), [])


def test_a_row_of_which_no_supplier_has_said_a_word_stays_unknown() -> None:
    waiting = StockRow(SKU, 1, 0, NOW, {}, {ACME: [Open(1, "default")]})
    assert evaluate(waiting, Policies().rules(SKU), NOW, State()) == (State(), [])


def test_a_source_that_has_less_than_is_held_of_it_is_told_once_and_once_when_that_is_mended() -> None:
    steps = [row(acme=9, bolt=9), row(5, acme=4, bolt=9), row(5, acme=3, bolt=9), row(5, acme=5, bolt=9)]
    assert told(steps) == [
        Crossing("OVERSOLD_RISK", "OVERSOLD", "COVERED", 9, ACME, 4, 5),
        Crossing("OVERSOLD_RISK_CLEARED", "COVERED", "OVERSOLD", 14 - 5, ACME, 5, 5),
    ]
    assert kinds(told([steps[0], steps[1], row(acme=4, bolt=9)])) == ["OVERSOLD_RISK", "OVERSOLD_RISK_CLEARED"]
    assert not told([row(acme=9), row(1, acme=9, bolt=-3)]), "nothing is held there"


def test_sources_are_told_of_one_by_one() -> None:
    first, both = row(acme=1, bolt=1), row(acme=1, bolt=1)
    first.reserved = {ACME: [Open(2, "default")]}
    both.reserved = {ACME: [Open(2, "default")], BOLT: [Open(3, "web")]}
    sources = [(c.kind, c.source) for c in told([row(acme=1, bolt=1), first, both, first])]
    assert sources == [
        ("OVERSOLD_RISK", ACME),
        ("STOCKOUT", None),
        ("OVERSOLD_RISK", BOLT),
        ("BACK_IN_STOCK", None),
        ("OVERSOLD_RISK_CLEARED", BOLT),
    ]


def test_time_alone_takes_a_sku_out_of_stock() -> None:
    by = policies(stale_after_ms=100)
    state, _ = evaluate(row(acme=9), by.rules(SKU), NOW, State())
    assert evaluate(row(acme=9), by.rules(SKU), NOW + 100, state) == (state, [])
    _, crossings = evaluate(row(acme=9), by.rules(SKU), NOW + 101, state)
    assert kinds(crossings) == ["STOCKOUT"]
    assert time_matters(by)
    assert time_matters(policies("supplier:acme", stale_after_ms=9))
    assert not time_matters(policies(safety_units=1))


def test_a_row_says_that_a_source_of_it_has_a_limit_of_its_own() -> None:
    limited = row(acme=9)
    limited.sources[ACME].stale_after_ms = 100
    state, _ = evaluate(limited, Policies().rules(SKU), NOW, State(IN_STOCK))
    assert state == State(IN_STOCK | TIMED)
    assert evaluate(row(acme=9), Policies().rules(SKU), NOW, state) == (State(IN_STOCK), [])


def test_every_kind_of_alert_is_made() -> None:
    by = policies(low_stock_units=5)
    steps = [row(acme=9), row(acme=5), row(acme=9), row(acme=0), row(acme=9), row(2, acme=1), row(acme=9)]
    assert set(kinds(told(steps, by))) == set(KINDS)


def test_what_was_told_is_not_taken_over_into_another_generation() -> None:
    known = row(acme=1)
    plain = encode_row(known)
    known.alert, known.oversold = OUT_OF_STOCK | WITH_OVERSOLD, [ACME]
    assert never_looked_at(encode_row(known)) == never_looked_at(plain) == plain


# -- which rows need not be looked at

units = st.integers(0, 12)
sources = st.dictionaries(
    st.sampled_from([ACME, BOLT, source_key("acme", "north")]),
    st.builds(
        lambda n, age, limit: Source(Count(0, "c", NOW - age, n), stale_after_ms=limit),
        st.integers(-3, 12),
        st.integers(0, 300),
        st.none() | st.just(100),
    ),
    min_size=1,
)
some = st.none() | units
fields: dict[str, st.SearchStrategy[Any]] = {
    "safety_units": some,
    "low_stock_units": some,
    "safety_percent": st.none() | st.just(20),
    "stale_after_ms": st.none() | st.just(150),
    "strategy": st.sampled_from([None, None, None, MIN]),
    "excluded": st.sampled_from([None, None, None, ("supplier:acme",)]),
}
drawn = st.dictionaries(st.sampled_from([*fields]), st.none(), max_size=2).flatmap(
    lambda names: st.fixed_dictionaries({name: fields[name] for name in names})
)
of_source = st.sampled_from([{}, {"enabled": False}, {"safety_units": 4}, {"stale_after_ms": 50}])
of_sku = st.sampled_from([{"low_stock_units": 9}, {"safety_units": 6}, {"stale_after_ms": 50}])
decided = st.fixed_dictionaries(
    {}, optional={"default": drawn, f"sku:{SKU}": drawn | of_sku, "supplier:acme": of_source, "sku:other": of_sku}
)


def made(by_scope: dict[str, dict[str, Any]]) -> Policies:
    return Policies({scope: Policy(scope, 1, **of_scope) for scope, of_scope in by_scope.items()}, 1)


@pytest.mark.parametrize(
    ("scope", "fields", "above"),
    [
        ("default", {}, 0),
        ("default", {"low_stock_units": 5, "low_stock_cleared_units": 9, "safety_units": 2}, 7),
        ("default", {"backorder_units_max": 9, "stale_floor_units": 9}, 0),
        ("default", {"safety_percent": 1}, UNITS_MAX),
        ("default", {"excluded": ("supplier:x",)}, UNITS_MAX),
        ("default", {"strategy": MIN}, UNITS_MAX),
        ("default", {"stale_after_ms": 1}, UNITS_MAX),
        ("channel:default", {"safety_units": 2}, 2),
        ("channel:default", {"channel_share_percent": 99}, UNITS_MAX),
        ("channel:web", {"safety_percent": 50}, 0),
        ("supplier:acme", {"enabled": True}, UNITS_MAX),
        ("location:north", {}, 0),
    ],
)
def test_nothing_is_sure_where_a_policy_may_make_less_of_a_row(scope: str, fields: dict[str, Any], above: int) -> None:
    assert sure(policies(scope, **fields)) == (above, {})


@pytest.mark.parametrize(
    ("fields", "above"),
    [({"strategy": MIN}, UNITS_MAX), ({"low_stock_units": 4}, 7), ({"safety_units": 899}, 902), ({}, 3)],
)
@pytest.mark.parametrize("count", [1, 2])
def test_a_sku_may_have_limits_of_its_own(fields: dict[str, Any], above: int, count: int) -> None:
    by = policies(safety_units=3).changed(Policy(f"sku:{SKU}", 1, **fields), revision=2)
    assert sure(by) == (3, {SKU.encode(): above} if fields else {})
    for left in (above + 1, above) if above < UNITS_MAX else (10**12,):
        known = row(acme=left + count)
        known.alert = IN_STOCK
        sold = [update(Event("DELTA", f"d{n}", NOW + 1 + n, -1)) for n in range(count)]
        keys, stored = [SKU.encode()] * count, {SKU.encode(): encode_row(known)}
        folded = fold(Updates.of(sold), keys, range(count), partial(_of, stored), Limits(), None, sure(by))
        assert set(folded.doubtful) == (set() if left > above else {SKU.encode()})


@given(sources, decided, st.booleans())
@settings(max_examples=1_000, deadline=None)
def test_a_row_that_is_surely_in_stock_is(
    of: dict[str, Source], by_scope: dict[str, dict[str, Any]], reserved: bool
) -> None:
    by = made(by_scope)
    held = {ACME: [Open(1, "default")]} if reserved and ACME in of else {}
    whole = StockRow(SKU, 1, sum(source.on_hand for source in of.values()), NOW, of, held)
    timed = any(source.stale_after_ms is not None for source in of.values())
    whole.alert = IN_STOCK | (TIMED if timed else 0)  # as it was
    if sure(by).holds(SKU.encode(), decode_packed_row(encode_row(whole))):
        assert evaluate(whole, by.rules(SKU), NOW, State(IN_STOCK)) == (State(IN_STOCK), [])


def _of(stored: dict[bytes, bytes], keys: list[bytes]) -> list[bytes | None]:
    return [stored.get(key) for key in keys]


events = st.builds(
    lambda kind, n, quantity, at, supplier, sku, limit: update(
        Event(kind, f"u{n}", NOW + at, quantity if kind == "COUNT" else quantity - 6 or 1),
        sku=f"sku-{sku}", supplier_id=supplier, stale_after_ms=limit, received_at=NOW + at,
    ),
    st.sampled_from(["COUNT", "DELTA", "DELTA"]), st.integers(0, 30), units, st.integers(0, 30),
    st.sampled_from(["acme", "bolt"]), st.integers(1, 3), st.sampled_from([None, None, None, 5]),
)  # fmt: skip


@given(st.lists(st.lists(events, max_size=8), min_size=1, max_size=6), decided)
@settings(max_examples=600, deadline=None)
def test_what_is_folded_and_not_doubtful_is_in_the_state_that_it_says(
    batches: list[list[StockUpdate]], by_scope: dict[str, dict[str, Any]]
) -> None:
    """As a worker does it: after each batch the doubtful rows are evaluated, and no others."""
    by, now_ms = made(by_scope), NOW + 40
    before, _ = evaluate(row(3, acme=9), by.rules(SKU), now_ms, State())
    held = StockRow(SKU, 1, 9, NOW, row(acme=9).sources, {ACME: [Open(3, "default")]}, before.alert)
    stored = {SKU.encode(): encode_row(held)}
    for batch in batches:
        known = set(stored)
        now_ms += 10
        keys = [one["sku"].encode() for one in batch]
        offsets = range(len(batch))
        folded = fold(Updates.of(batch), keys, offsets, partial(_of, stored), Limits(), None, sure(by))
        stored |= folded.rows
        for key in set(folded.doubtful):
            looked = decode_packed_row(stored[key])
            after, crossings = evaluate(unpacked(looked), by.rules(looked.sku), now_ms, state_of(looked))
            assert key in known or not crossings, "what is new is not told of"
            looked.alert, looked.oversold = after.alert, list(after.oversold)
            stored[key] = encode(looked)
        for changed in folded.rows:
            found = decode_row(stored[changed])
            assert found.alert & LEVEL
            assert evaluate(found, by.rules(found.sku), now_ms, state_of(found)) == (state_of(found), [])


def test_where_nobody_asks_nothing_is_doubtful_and_no_state_is_given() -> None:
    told_of = [update(Event("COUNT", "c", NOW, 9)), update(Event("DELTA", "d", NOW + 1, -1), sku="sku-2")]
    stored = {b"sku-1": encode_row(row(acme=9))}
    keys = [one["sku"].encode() for one in told_of]
    folded = fold(Updates.of(told_of), keys, range(2), partial(_of, stored), Limits())
    assert folded.doubtful == []
    assert {decode_row(value).alert for value in folded.rows.values()} == {UNKNOWN}
