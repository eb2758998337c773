"""Pools: sources that describe one stock count once; what becomes of each view, and when a pool is oversold."""

from __future__ import annotations

from typing import Any

import pytest

from inventory.alerts import IN_STOCK, Crossing, State, evaluate, sure
from inventory.availability import (
    COUNTED,
    EXCLUDED,
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
from schemas.policies import MAX, MIN, PRIORITY, Policy
from schemas.rows import Count, Delta, Open, Source, StockRow

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


@pytest.mark.parametrize(
    ("sources", "delays"), [((ERP, WMS, SHOP), [7, 7, 2]), ((ERP, SHOP), [2, 7, 2]), ((), [2, 7, 2])]
)
def test_a_pool_that_a_location_declares_is_as_slow_as_the_sources_that_it_has(
    sources: tuple[str, ...], delays: list[int]
) -> None:
    by = Policies(
        {
            "location:berlin": Policy("location:berlin", 1, pool="main"),
            "location:paris": Policy("location:paris", 1, pool="other"),
            "supplier:wms": Policy("supplier:wms", 1, netting_delay_ms=7),
            "default": Policy("default", 1, netting_delay_ms=2),
        }
    )
    assert [by.rules("s").netting_delay_ms(key, sources) for key in (ERP, WMS, SHOP)] == delays


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


def test_that_a_pool_has_enough_again_is_told_where_it_was_oversold_and_of_the_view_that_speaks_then() -> None:
    held = {ERP: [Open(2, "default")], WMS: [Open(2, "default")]}
    of = row(held, erp=counted(3, 70), wms=counted(9, 60))
    state, [crossing] = evaluate(of, policies().rules("s"), NOW, State(IN_STOCK, (ERP,)))
    assert (state.oversold, crossing.kind, crossing.source) == ((), OVERSOLD_RISK_CLEARED, ERP)
    assert (crossing.on_hand, crossing.held) == (9, 4)


def test_a_pool_is_oversold_by_what_it_has_where_the_view_that_speaks_says_more() -> None:
    of = row({ERP: [Open(9, "default")]}, erp=counted(10, 90, (5, 1)), wms=counted(8, 10))
    state, crossings = evaluate(of, policies().rules("s"), NOW, State(IN_STOCK))
    assert state.oversold == (ERP,)
    assert [(c.on_hand, c.held) for c in crossings if c.source] == [(8, 9)]


def test_where_a_policy_declares_a_pool_no_row_is_surely_in_stock() -> None:
    of = row(erp=counted(10, 20), wms=counted(8, 10))
    assert not sure(policies()).above < of.on_hand
