"""What policies make of suppliers' recorded scores: turns, who counts, and that number and holds agree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.alerts import Sure, sure
from inventory.availability import EXCLUDED, Availability, availability
from inventory.policies import Policies
from schemas.keys import source_key
from schemas.policies import MAX, PRIORITY, STRATEGIES, Policy
from schemas.reservations import HOLD
from schemas.rows import Count, Source, StockRow
from tests.inventory.reservations.builders import NOW, SKU, command
from tests.inventory.reservations.shop import Shop, stock

IN_TURN = {"strategy": PRIORITY, "priority": ("acme", "best", "cheap")}
BY_SCORE = IN_TURN | {"priority_by_reliability": True}


def policies(scores: dict[str, int], **by_scope: dict[str, Any]) -> Policies:
    """By scope, its colon written as two underscores."""
    made = [Policy(scope.replace("__", ":", 1), 1, **fields) for scope, fields in by_scope.items()]
    made += [Policy(f"score:{supplier}", 1, reliability_percent=percent) for supplier, percent in scores.items()]
    return Policies({policy.scope: policy for policy in made}, 1)


def row(**units: int) -> StockRow:
    """A count of each supplier."""
    sources = {source_key(name, "here"): Source(Count(0, "c", NOW, n)) for name, n in units.items()}
    return StockRow(SKU, 1, sum(units.values()), NOW, sources)


def answer(by: Policies, channel: str = "default", **units: int) -> Availability:
    return availability(row(**units), by.rules(SKU, channel), NOW, channel)


def excluded(found: Availability) -> set[str]:
    return {part.supplier for part in found.parts if part.standing == EXCLUDED}


@pytest.mark.parametrize(
    ("scores", "turns"),
    [
        ({}, ("acme", "best", "cheap")),
        ({"acme": 70, "best": 80, "cheap": 90}, ("cheap", "best", "acme")),
        ({"acme": 70, "best": 90, "cheap": 90}, ("best", "cheap", "acme")),
        ({"cheap": 0}, ("cheap", "acme", "best")),
        ({"acme": 50, "best": 50, "cheap": 50, "other": 99}, ("acme", "best", "cheap")),
    ],
)
def test_a_priority_by_reliability_takes_the_highest_first_and_among_equal_ones_who_was_named_first(
    scores: dict[str, int], turns: tuple[str, ...]
) -> None:
    by = policies(scores, default=BY_SCORE)
    assert by.rules(SKU).priority == turns
    units = {"acme": 1, "best": 2, "cheap": 4, "other": 8}
    assert answer(by, "default", **units).available == units[turns[0]]
    assert policies(scores, default=IN_TURN).rules(SKU).priority == IN_TURN["priority"]


def test_the_turns_are_those_of_the_scope_whose_strategy_holds() -> None:
    scores = {"acme": 10, "best": 90}
    by = policies(scores, default=BY_SCORE, channel__web=IN_TURN, **{f"sku__{SKU}x": {"strategy": MAX}})
    assert by.rules(SKU).priority[0] == "best"
    assert by.rules(SKU, "web").priority[0] == "acme"
    assert by.rules(SKU + "x").priority == ()


def test_a_supplier_below_the_least_does_not_count_and_one_without_a_score_does() -> None:
    scores = {"acme": 79, "best": 80, "none": 0}
    found = answer(policies(scores, default={"reliability_percent_min": 80}), acme=1, best=2, none=4, pushes=8)
    assert (found.available, excluded(found)) == (10, {"acme", "none"})
    assert (found.certain, found.hoped_for) == (10, 10)
    assert answer(policies(scores), acme=1, best=2, none=4).available == 7


def test_the_least_is_that_of_the_most_specific_scope_and_zero_is_none() -> None:
    least = {
        name: {"reliability_percent_min": n} for name, n in (("default", 80), ("channel__web", 50), (f"sku__{SKU}", 0))
    }
    scores = {"acme": 60, "best": 90}
    for scopes, channel, number in (
        (("default",), "web", 2),
        (("default", "channel__web"), "web", 3),
        (("default", "channel__web"), "shop", 2),
        (("default", f"sku__{SKU}"), "web", 3),
    ):
        by = policies(scores, **{scope: least[scope] for scope in scopes})
        by.rules("other", channel).source(source_key("acme", "here"))  # what is found out for others is theirs
        assert answer(by, channel, acme=1, best=2).available == number


def test_a_score_that_is_taken_back_is_none() -> None:
    by = policies({"acme": 10}, default={"reliability_percent_min": 80})
    assert answer(by, acme=1).available == 0
    assert answer(by.changed(Policy("score:acme", 2), revision=2), acme=1).available == 1


def test_what_is_surely_in_stock_is_told_by_who_asks_for_scores_and_not_by_scores() -> None:
    assert sure(policies({"acme": 10})) == Sure(0, {})
    assert sure(policies({"acme": 10}, default={"reliability_percent_min": 1})).above > 1 << 60
    [(_, above)] = sure(policies({}, **{f"sku__{SKU}": {"reliability_percent_min": 1}})).by_key.items()
    assert above > 1 << 60


percents = st.integers(0, 100)
scored = st.dictionaries(st.sampled_from(["acme", "bolt", "cheap"]), percents)
decided = st.fixed_dictionaries(
    {"strategy": st.sampled_from(STRATEGIES), "reliability_percent_min": st.none() | percents}
).map(
    lambda fields: (
        fields | ({} if fields["strategy"] != PRIORITY else BY_SCORE | {"priority": ("acme", "bolt", "cheap")})
    )
)
units = st.dictionaries(st.sampled_from(["acme", "bolt", "cheap"]), st.integers(0, 9))


@given(scored, decided, units)
def test_what_is_promised_can_be_held_of_those_that_count_and_not_a_unit_more(
    scores: dict[str, int], fields: dict[str, Any], there: dict[str, int]
) -> None:
    by = policies(scores, default=fields)
    promised = Shop(stock({source_key(name, "here"): n for name, n in there.items()}), by).available()
    least = fields["reliability_percent_min"] or 0
    for asked, obtained in ((promised, promised), (promised + 1, 0)):
        shop = Shop(stock({source_key(name, "here"): n for name, n in there.items()}), by)
        decision = shop.ask(command(HOLD, quantity=asked)) if asked else None
        parts = [] if decision is None else decision.hold.parts
        assert sum(part.quantity for part in parts) == obtained
        assert all(scores.get(part.supplier_id, 100) >= least for part in parts)


@given(scored, decided, units, st.sampled_from(["acme", "bolt", "cheap"]), percents)
def test_a_number_is_another_only_if_a_score_crosses_the_least_or_another_supplier_s(
    scores: dict[str, int], fields: dict[str, Any], there: dict[str, int], supplier: str, percent: int
) -> None:
    before, after = policies(scores, default=fields), policies(scores | {supplier: percent}, default=fields)
    least = fields["reliability_percent_min"] or 0
    known = scores.get(supplier)
    counted, counts = known is None or known >= least, percent >= least
    if counted == counts and before.rules(SKU).priority == after.rules(SKU).priority:
        assert answer(before, "default", **there) == answer(after, "default", **there)
