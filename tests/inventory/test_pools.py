"""Pools: sources that describe one stock count once, by examples and by a second reading of what a pool is."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.alerts import IN_STOCK, Crossing, State, evaluate, sure
from inventory.availability import (
    COUNTED,
    EXCLUDED,
    PASSED_OVER,
    SAME_STOCK,
    STALE,
    Availability,
    Part,
    availability,
)
from inventory.policies import Policies
from inventory.pools import as_one
from schemas.alerts import OVERSOLD_RISK, OVERSOLD_RISK_CLEARED
from schemas.keys import source_key
from schemas.policies import MAX, MIN, PRIORITY, STRATEGIES, SUM, Policy
from schemas.rows import Count, Delta, Open, Source, StockRow
from tests.inventory.test_whole_answers import Decided, number

NOW = 1_700_000_000_000
ERP, WMS, SHOP = source_key("erp", "berlin"), source_key("wms", "berlin"), source_key("shop", "paris")
KNOWN = {"committed_at": NOW - 60, "fulfilled_at": NOW - 50}


def policies(**by_scope: dict[str, Any]) -> Policies:
    """By scope, its colon written as two underscores; erp and wms count one warehouse."""
    of_both: dict[str, dict[str, Any]] = {"supplier__erp": {"pool": "main"}, "supplier__wms": {"pool": "main"}}
    for name, fields in by_scope.items():
        of_both[name] = of_both.get(name, {}) | fields
    scopes = {name.replace("__", ":", 1): fields for name, fields in of_both.items()}
    return Policies({scope: Policy(scope, 1, **fields) for scope, fields in scopes.items()}, 1)


def counted(units: int, age_ms: int, *deltas: tuple[int, int], basis: int = 0, order: str | None = None) -> Source:
    """`deltas`: age and units of each; `order`: that they name."""
    changes = [Delta(NOW - age, f"d{age}", n, order) for age, n in deltas]
    return Source(Count(0, f"c{age_ms}", NOW - age_ms, units), changes, basis=basis)


def row(held: dict[str, list[Open]] | None = None, **sources: Source) -> StockRow:
    keyed = {{"erp": ERP, "wms": WMS, "shop": SHOP}[name]: source for name, source in sources.items()}
    return StockRow("s", 1, sum(s.on_hand for s in sources.values()), NOW, keyed, held or {})


def answer(of: StockRow, by: Policies | None = None, **more: Any) -> Availability:
    return availability(of, (by or policies()).rules("s"), NOW, **more)


def standings(found: Availability) -> dict[str, tuple[int, str]]:
    return {part.supplier: (part.units, part.standing) for part in found.parts}


def test_two_views_of_one_stock_count_once_by_the_newest_statement() -> None:
    found = answer(row(erp=counted(10, 20), wms=counted(8, 10), shop=counted(3, 5)))
    assert (found.certain, found.available, found.hoped_for) == (11, 11, 11)
    assert standings(found) == {"erp": (0, SAME_STOCK), "wms": (8, COUNTED), "shop": (3, COUNTED)}
    assert found.by_supplier == {"erp": 10, "wms": 8, "shop": 3}, "what each says is told all the same"
    assert found.by_location == {"berlin": 8, "paris": 3}
    assert found.oldest_observed_at == NOW - 10, "the age is that of what counts"


def test_of_two_statements_of_one_time_the_larger_key_speaks() -> None:
    for of in (row(wms=counted(8, 10), erp=counted(10, 10)), row(erp=counted(10, 10), wms=counted(8, 10))):
        assert standings(answer(of)) == {"wms": (8, COUNTED), "erp": (0, SAME_STOCK)}


def test_a_supplier_s_pool_goes_before_its_location_s_and_one_pool_may_be_of_both() -> None:
    by = policies(location__berlin={"pool": "other"}, location__paris={"pool": "main"})
    assert [by.rules("s").source(key).pool for key in (ERP, WMS, SHOP)] == ["main"] * 3
    assert by.rules("s").source(source_key("else", "berlin")).pool == "other"
    assert answer(row(erp=counted(10, 20), wms=counted(8, 10), shop=counted(3, 5)), by).available == 3


def test_a_stale_view_speaks_only_if_all_are_and_then_for_its_floor() -> None:
    of = row(erp=counted(4, 20), wms=counted(8, 10))
    by = policies(supplier__wms={"stale_after_ms": 5})
    found = answer(of, by)
    assert standings(found) == {"erp": (4, COUNTED), "wms": (0, STALE)}
    assert (found.certain, found.available, found.hoped_for) == (4, 4, 8)
    assert found.stale == [("wms", "berlin")]
    of.sources[WMS].stale_after_ms = 5
    assert answer(of).available == 4, "by a limit of its own likewise"
    of.sources[WMS].stale_after_ms = 10
    assert answer(of, by).available == 8, "and that goes before any policy"
    of.sources[WMS].stale_after_ms = None
    of_all = policies(default={"stale_after_ms": 5, "stale_floor_units": 3})
    found = answer(of, of_all)
    assert standings(found) == {"erp": (0, STALE), "wms": (3, STALE)}
    assert (found.certain, found.available, found.hoped_for, found.oldest_observed_at) == (0, 3, 8, None)


def test_an_excluded_view_is_no_word_of_the_pool_and_its_units_come_off_it_all_the_same() -> None:
    of = row({WMS: [Open(2, "default")]}, erp=counted(10, 20), wms=counted(1, 10))
    found = answer(of, policies(supplier__wms={"enabled": False}))
    assert standings(found) == {"erp": (8, COUNTED), "wms": (0, EXCLUDED)}
    assert (found.available, found.reserved) == (8, 2)


def test_a_view_that_was_never_counted_does_not_speak_beside_one_that_was() -> None:
    changes = Source(deltas=[Delta(NOW - 1, "d", -3)])
    assert standings(answer(row(erp=counted(10, 20), wms=changes))) == {"erp": (10, COUNTED), "wms": (0, SAME_STOCK)}
    assert answer(row(erp=Source(deltas=[Delta(NOW - 2, "d", 4)]), wms=changes)).available == 0


@pytest.mark.parametrize("where", [ERP, WMS])
@pytest.mark.parametrize("knows", ["none", "erp", "wms", "both"])
def test_a_unit_sold_is_taken_off_once_whichever_view_knows_it_first(where: str, knows: str) -> None:
    # Shipped at 50 before now: a count of later knows of it, and says two less.
    erp = counted(8, 20) if knows in ("erp", "both") else counted(10, 90)
    wms = counted(8, 10) if knows in ("wms", "both") else counted(10, 80)
    assert answer(row({where: [Open(2, "default", **KNOWN)]}, erp=erp, wms=wms)).available == 8


def test_what_is_committed_comes_off_a_view_that_counts_what_lies_there_and_not_off_one_that_leaves_it_out() -> None:
    held = {WMS: [Open(3, "default", NOW - 60)]}
    for erp, wms in ((counted(7, 10, basis=1), counted(10, 20)), (counted(7, 20, basis=1), counted(10, 10))):
        assert answer(row(held, erp=erp, wms=wms)).available == 7


def test_there_is_no_more_than_the_view_leaves_that_was_counted_last() -> None:
    # Two units have left, and the row has forgotten them, for the count of wms knows. Erp speaks, and does not.
    found = answer(row(erp=counted(10, 90, (5, -1)), wms=counted(8, 10)))
    assert (found.available, standings(found)["erp"]) == (8, (8, COUNTED))
    assert found.parts[0] == Part("erp", "berlin", 9, 8, COUNTED, 0, 8)
    found = answer(row(erp=counted(10, 9), wms=counted(8, 10)))
    assert (found.available, found.parts[0].at_most) == (10, None), "a later count knows, whatever was said before"
    by = policies(supplier__wms={"stale_after_ms": 5})
    assert answer(row(erp=counted(10, 90), wms=counted(8, 10)), by).available == 8, "a stale view too"


@pytest.mark.parametrize(
    ("erp", "available"),
    [
        (counted(10, 50), 8),
        (counted(10, 50, (8, -1)), 7),
        (counted(10, 50, (30, -2), order="o-1"), 8),
        (counted(10, 50, (30, -2), order="o-2"), 6),
        (counted(8, 40), 8),
    ],
)
def test_what_another_view_shipped_of_an_order_comes_off_one_that_tells_of_it_neither_by_a_count_nor_by_a_change(
    erp: Source, available: int
) -> None:
    # The change has closed what the order had, so the row has it no more; then its view grows stale.
    wms = counted(10, 60, (40, -2), order="o-1")
    assert answer(row(erp=erp, wms=wms), policies(supplier__wms={"stale_after_ms": 5})).available == available


def test_safety_stock_of_a_source_is_held_back_of_the_view_that_speaks() -> None:
    by = policies(supplier__erp={"safety_units": 5}, supplier__wms={"safety_units": 1})
    assert answer(row(erp=counted(10, 20), wms=counted(10, 10)), by).available == 9
    assert answer(row(erp=counted(10, 10), wms=counted(10, 20)), by).available == 5


def test_what_is_held_of_a_view_that_nobody_has_heard_of_comes_off_its_pool() -> None:
    assert answer(row({ERP: [Open(2, "default")]}, wms=counted(8, 10))).available == 6


def test_a_channel_s_share_is_of_the_pool_and_what_it_has_is_counted_once() -> None:
    by = policies(channel__web={"channel_share_percent": 50})
    of = row({ERP: [Open(2, "web")], WMS: [Open(1, "default")]}, erp=counted(11, 20), wms=counted(11, 10))
    found = availability(of, by.rules("s", "web"), NOW, "web")
    assert (found.reserved, found.available) == (3, (11 - 3 + 3) // 2 - 2)


@pytest.mark.parametrize(
    ("strategy", "order", "available", "taken"),
    [
        (PRIORITY, ("erp", "wms", "shop"), 8, "wms"),  # erp has nothing of its own to say
        (PRIORITY, ("erp", "shop"), 10, "erp"),  # wms does not count, so erp speaks
        (PRIORITY, ("shop", "erp"), 3, "shop"),
        (MIN, (), 3, "shop"),
        (MAX, (), 8, "wms"),
    ],
)
def test_a_strategy_takes_a_pool_for_the_number_of_the_supplier_that_speaks(
    strategy: str, order: tuple[str, ...], available: int, taken: str
) -> None:
    by = policies(default={"strategy": strategy, "priority": order or None})
    found = answer(row(erp=counted(10, 20), wms=counted(8, 10), shop=counted(3, 5)), by)
    assert found.available == found.hoped_for == available
    assert [part.supplier for part in found.parts if part.standing == COUNTED] == [taken]


def test_a_pool_is_as_slow_as_its_slowest_source() -> None:
    by = policies(supplier__erp={"netting_delay_ms": 7}, default={"netting_delay_ms": 2})
    assert [by.rules("s").source(key).netting_delay_ms for key in (ERP, WMS, SHOP)] == [7, 7, 2]


def test_a_row_without_views_of_one_stock_is_not_touched() -> None:
    assert as_one(row(erp=counted(10, 20), shop=counted(3, 5)), policies().rules("s"), NOW) is None
    joined = as_one(row(erp=counted(10, 20), wms=counted(3, 5)), policies().rules("s"), NOW)
    assert joined is not None
    assert as_one(joined.row, policies().rules("s"), NOW) is None, "nor is a joined one, or there were no end"


# -- alerts


def test_a_pool_is_oversold_as_one_and_told_once_at_the_view_that_spoke() -> None:
    rules = policies().rules("s")
    held = {ERP: [Open(2, "default")], WMS: [Open(2, "default")]}
    state = State(IN_STOCK)
    told: list[Crossing] = []
    for of in (
        row(held, erp=counted(3, 90), wms=counted(9, 80)),
        row(held, erp=counted(3, 70), wms=counted(9, 80)),  # each has enough for what is held of it alone
        row(held, erp=counted(3, 70), wms=counted(3, 60)),  # the other one speaks, and it is no other matter
        row(held, erp=counted(4, 50), wms=counted(3, 60)),
    ):
        state, crossings = evaluate(of, rules, NOW, state)
        told += [crossing for crossing in crossings if crossing.source is not None]
    assert [(c.kind, c.source) for c in told] == [(OVERSOLD_RISK, ERP), (OVERSOLD_RISK_CLEARED, ERP)]
    assert (told[0].on_hand, told[0].held) == (3, 4)


def test_a_pool_is_oversold_by_what_it_has_where_the_view_that_speaks_says_more() -> None:
    of = row({ERP: [Open(9, "default")]}, erp=counted(10, 90, (5, 1)), wms=counted(8, 10))
    state, crossings = evaluate(of, policies().rules("s"), NOW, State(IN_STOCK))
    assert state.oversold == (ERP,)
    assert [(c.on_hand, c.held) for c in crossings if c.source] == [(8, 9)]


def test_where_a_policy_declares_a_pool_no_row_is_surely_in_stock() -> None:
    of = row(erp=counted(10, 20), wms=counted(8, 10))
    assert not sure(policies()).above < of.on_hand


# -- a second reading


class Seen(NamedTuple):
    """A source. `told`: age and units of its count; `changes`: age, units and order of each since."""

    supplier: str
    location: str
    told: tuple[int, int] | None
    changes: tuple[tuple[int, int, str | None], ...]
    leaves_out_sold: bool

    @property
    def age(self) -> int:
        return self.changes[-1][0] if self.changes else (self.told or (1 << 40, 0))[0]

    @property
    def says(self) -> int:
        return (self.told[1] if self.told else 0) + sum(units for _, units, _ in self.changes)

    def source(self) -> Source:
        count = None if self.told is None else Count(0, "c", NOW - self.told[0], self.told[1])
        changes = [Delta(NOW - age, f"d{n}", units, order) for n, (age, units, order) in enumerate(self.changes)]
        return Source(count, changes, basis=int(self.leaves_out_sold))


class Sold(NamedTuple):
    """Units held at a place; `committed`, `left`: how long ago."""

    supplier: str
    location: str
    units: int
    committed: int | None
    left: int | None


POOLS = {"supplier:a": "p", "supplier:b": "p", "location:y": "q"}
LIMITS = {"supplier:a": 25, "location:x": 60}


def of_place(table: dict[str, Any], supplier: str, location: str) -> Any:
    return table.get(f"supplier:{supplier}", table.get(f"location:{location}"))


def shipped(one: Seen, order: str, younger_than: float) -> int:
    return -sum(units for age, units, name in one.changes if name == order and age < younger_than)


def left_by(one: Seen, sold: list[Sold], views: list[Seen]) -> int:
    """What a source leaves of its stock beside what was sold or shipped of that and it does not know of."""
    units = one.says
    for order in ("o1", "o2"):
        counted_at = float(one.told[0]) if one.told else float("inf")
        elsewhere = max((shipped(other, order, counted_at) for other in views if other is not one), default=0)
        units -= max(0, elsewhere - max(0, shipped(one, order, counted_at)))
    for each in sold:
        since = each.committed if one.leaves_out_sold else each.left
        knows = one.told is not None and since is not None and one.told[0] <= since
        units -= 0 if knows else each.units
    return units


def one_stock(views: list[Seen], sold: list[Sold], stale: list[Seen]) -> tuple[Seen, int]:
    """Who speaks for a stock, and what is left of it."""
    heard = [view for view in views if view not in stale] or views
    if any(view.told for view in heard):
        heard = [view for view in heard if view.told]
    speaker = sorted(heard, key=lambda view: (-view.age, view.supplier, view.location))[-1]
    by_key = sorted((view for view in views if view.told), key=lambda view: view[:2], reverse=True)
    last = sorted(by_key, key=lambda view: ((view.told or (0, 0))[0], view is not speaker))[:1]
    return speaker, min(left_by(view, sold, views) for view in [speaker, *last])


def stocks_of(views: list[Seen], by: Decided) -> list[list[Seen]]:
    """Those that count, by what they describe."""
    groups: dict[object, list[Seen]] = {}
    for view in views:
        ignored = f"supplier:{view.supplier}" in by.excluded or f"location:{view.location}" in by.excluded
        if not ignored and not (by.strategy == PRIORITY and view.supplier not in by.order):
            groups.setdefault(of_place(POOLS, view.supplier, view.location) or view, []).append(view)
    return list(groups.values())


ages = st.integers(0, 80)
seen = st.builds(
    lambda supplier, location, count, units, changes, basis: Seen(
        supplier,
        location,
        None if count is None else (count, units),
        tuple((age, *told) for age, told in sorted(changes.items(), reverse=True) if count is None or age < count),
        basis,
    ),
    st.sampled_from("abc"),
    st.sampled_from("xy"),
    st.none() | ages | ages | ages,
    st.integers(0, 20),
    st.dictionaries(ages, st.tuples(st.integers(-6, 6), st.sampled_from((None, "o1", "o2"))), max_size=3),
    st.booleans(),
)
sold_units = st.builds(
    lambda supplier, location, units, times, n: Sold(
        supplier, location, units, None if n == 0 else times[1], times[0] if n == 2 else None
    ),
    st.sampled_from("abc"),
    st.sampled_from("xy"),
    st.integers(1, 5),
    st.tuples(ages, ages).map(sorted),
    st.integers(0, 2),
)
decided = st.builds(
    Decided,
    st.sampled_from((SUM, SUM, *STRATEGIES)),
    st.lists(st.sampled_from("abc"), min_size=1, unique=True).map(tuple),
    st.none() | st.integers(0, 4),
    st.none(),
    st.none(),
    st.none() | st.integers(0, 4),
    st.lists(st.sampled_from(["supplier:a", "location:x"]), max_size=1).map(tuple),
    st.just({}),
)


def by_scope(by: Decided) -> Policies:
    fields: dict[str, dict[str, Any]] = {scope: {"pool": pool} for scope, pool in POOLS.items()}
    for scope, limit in LIMITS.items():
        fields.setdefault(scope, {})["stale_after_ms"] = limit
    fields["default"] = {
        "strategy": by.strategy,
        "priority": by.order if by.strategy == PRIORITY else None,
        "safety_units": by.safety,
        "stale_floor_units": by.stale_floor,
        "excluded": by.excluded,
    }
    return Policies({scope: Policy(scope, 1, **decided) for scope, decided in fields.items()}, 1)


@given(
    st.lists(seen.filter(lambda one: one.age <= 80), max_size=6, unique_by=lambda one: one[:2]),
    st.lists(sold_units, max_size=4, unique_by=lambda one: one[:2]),
    decided,
)
@settings(max_examples=600, deadline=None)
def test_a_number_with_pools_is_what_a_second_reading_of_them_gives(
    views: list[Seen], sold: list[Sold], by: Decided
) -> None:
    def of_stock(stock: list[Seen]) -> list[Sold]:
        pool = of_place(POOLS, *stock[0][:2])
        here = [each for each in sold if each[:2] == stock[0][:2]]
        return here if pool is None else [each for each in sold if of_place(POOLS, *each[:2]) == pool]

    limits = {view: of_place(LIMITS, *view[:2]) for view in views}
    stale = [view for view, limit in limits.items() if limit is not None and view.age > limit]
    now, sure_of, hoped, speakers = [], [], [], dict[Seen, int]()
    for stock in stocks_of(views, by):
        speaker, left = one_stock(stock, of_stock(stock), stale)
        units = max(0, left) if speaker not in stale else min(max(0, left), by.stale_floor or 0)
        speakers[speaker] = units
        now.append((speaker.supplier, units, speaker not in stale or bool(by.stale_floor)))
        if speaker not in stale and speaker.told:
            sure_of.append((speaker.supplier, units, True))
        of_fresh, if_fresh = one_stock(stock, of_stock(stock), [])
        hoped.append((of_fresh.supplier, max(0, if_fresh), True))
    expected, chosen = number(now, by)
    least, most = number(sure_of, by)[0], number(hoped, by)[0]

    held = {source_key(*each[:2]): [entry_of(each)] for each in sold}
    made = {source_key(*view[:2]): view.source() for view in views}
    found = availability(StockRow("s", 1, 0, NOW, made, held), by_scope(by).rules("s"), NOW)
    assert found.available == expected
    if by.strategy == SUM:
        assert (found.certain, found.hoped_for) == (least, max(expected, most))
    assert found.certain <= min(least, expected) <= max(expected, most) <= found.hoped_for
    for view, part in zip(views, found.parts, strict=True):
        speaks = view in speakers and (by.strategy == SUM or view.supplier == chosen)
        assert part.units == (speakers[view] if speaks else 0)
        assert (part.supplier, part.location, part.on_hand) == (view.supplier, view.location, view.says)
        assert part.standing != SAME_STOCK or view not in speakers
        assert (part.standing == COUNTED) == (speaks and view not in stale)
        assert part.standing != PASSED_OVER or by.strategy != SUM
    fresh = [NOW - v.age for v in speakers if v not in stale and (by.strategy == SUM or v.supplier == chosen)]
    assert found.oldest_observed_at == min(fresh, default=None)


def entry_of(each: Sold) -> Open:
    times = (None if age is None else NOW - age for age in (each.committed, each.left))
    return Open(each.units, "default", *times)


@given(seen, seen, st.lists(sold_units, max_size=3, unique_by=lambda one: one[:2]))
@settings(max_examples=300, deadline=None)
def test_a_second_view_never_raises_the_number_above_the_newest_one_s(
    first: Seen, second: Seen, sold: list[Sold]
) -> None:
    by = Policies({f"supplier:{name}": Policy(f"supplier:{name}", 1, pool="p") for name in "abc"}, 1).rules("s")
    held = {source_key(*each[:2]): [entry_of(each)] for each in sold}
    places = [source_key("a", "x"), source_key("b", "x")]
    views = [first, second]
    counted_ones = [one for one in views if one.told] or views
    newest = sorted(counted_ones, key=lambda one: (-one.age, views.index(one)))[-1]
    alone = {places[views.index(newest)]: newest.source()}
    both = {place: one.source() for place, one in zip(places, views, strict=True)}
    of_one = availability(StockRow("s", 1, 0, NOW, alone, held), by, NOW)
    assert availability(StockRow("s", 1, 0, NOW, both, held), by, NOW).available <= of_one.available
