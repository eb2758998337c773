"""A whole answer, part by part and with its bounds, against a plain reading of what policies mean."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.availability import COUNTED, EXCLUDED, PASSED_OVER, STALE, Part, availability
from inventory.policies import Policies
from schemas.keys import source_key
from schemas.policies import MAX, MIN, PRIORITY, STRATEGIES, SUM, Policy
from schemas.rows import Count, Delta, Source, StockRow

NOW = 1_700_000_000_000
LIMIT_MS = 10
UNCOUNTED, WITHDRAWN = "UNCOUNTED", "WITHDRAWN"


class Told(NamedTuple):
    """What a source says: `kind` of its latest count, if any."""

    supplier: str
    location: str
    on_hand: int
    age_ms: int
    kind: str

    def source(self) -> Source:
        at = NOW - self.age_ms
        if self.kind == UNCOUNTED:
            return Source(deltas=[Delta(at, "d", self.on_hand)])
        return Source(Count(int(self.kind == WITHDRAWN), "c", at, self.on_hand))


class Decided(NamedTuple):
    """What policies say; None: nothing. Of sources, by scope: units and percent held back. `scores`: as recorded."""

    strategy: str
    order: tuple[str, ...]
    safety: int | None
    percent: int | None
    share: int | None
    stale_floor: int | None
    excluded: tuple[str, ...]
    of_sources: dict[str, tuple[int | None, int | None]]
    scores: dict[str, int]
    least_score: int | None
    by_score: bool | None

    @property
    def turns(self) -> list[str]:
        """Suppliers in the order of a priority."""
        if not self.by_score:
            return list(self.order)
        scored = [
            supplier for percent in range(100, -1, -1) for supplier in self.order if self.is_scored(supplier, percent)
        ]
        return scored + [supplier for supplier in self.order if supplier not in scored]

    def is_scored(self, supplier: str, percent: int) -> bool:
        return self.scores.get(supplier) == percent

    def leaves_out(self, supplier: str, location: str) -> bool:
        """Whether a source does not count."""
        if f"supplier:{supplier}" in self.excluded or f"location:{location}" in self.excluded:
            return True
        return any(self.is_scored(supplier, percent) for percent in range(self.least_score or 0))

    def policies(self) -> Policies:
        made = [
            Policy(
                "default",
                strategy=self.strategy,
                priority=self.order if self.strategy == PRIORITY else None,
                safety_units=self.safety,
                safety_percent=self.percent,
                stale_after_ms=LIMIT_MS,
                stale_floor_units=self.stale_floor,
                excluded=self.excluded,
                reliability_percent_min=self.least_score,
                priority_by_reliability=self.by_score if self.strategy == PRIORITY else None,
            ),
            Policy("channel:web", channel_share_percent=self.share),
        ]
        made += [Policy(scope, safety_units=u, safety_percent=p) for scope, (u, p) in self.of_sources.items()]
        made += [Policy(f"score:{supplier}", reliability_percent=n) for supplier, n in self.scores.items()]
        return Policies({policy.scope: policy for policy in made}, 1)


def beside(units: int, safety: int, percent: int) -> int:
    return max(0, units - max(safety, ceil(Fraction(units * percent, 100))))


def fresh_units(one: Told, by: Decided) -> int:
    """What a source brings if it is fresh."""
    scopes = [by.of_sources.get(f"supplier:{one.supplier}"), by.of_sources.get(f"location:{one.location}")]
    units = [scope[0] for scope in scopes if scope is not None and scope[0] is not None]
    percents = [scope[1] for scope in scopes if scope is not None and scope[1] is not None]
    return beside(max(0, one.on_hand), [*units, 0][0], [*percents, 0][0])


def units_now(one: Told, by: Decided) -> int:
    units = fresh_units(one, by)
    return units if one.age_ms <= LIMIT_MS else min(units, by.stale_floor or 0)


def taken(of: dict[str, int], healthy: set[str], by: Decided) -> str | None:
    """The supplier that a strategy takes."""
    if by.strategy == PRIORITY:
        ranked = [supplier for supplier in by.turns if supplier in healthy]
    else:
        sign = -1 if by.strategy == MAX else 1
        ranked = sorted(healthy, key=lambda supplier: (sign * of[supplier], supplier))
    return ranked[0] if ranked else None


def number(brought: list[tuple[str, int, bool]], by: Decided) -> tuple[int, str | None]:
    """Of what each source brings, and whether it makes its supplier one that can be taken; and the taken one."""
    of = {supplier: sum(n for other, n, _ in brought if other == supplier) for supplier, _, _ in brought}
    chosen = None if by.strategy == SUM else taken(of, {supplier for supplier, _, healthy in brought if healthy}, by)
    whole = sum(of.values()) if by.strategy == SUM else of.get(chosen or "", 0)
    left = beside(whole, by.safety or 0, by.percent or 0)
    return floor(Fraction(left * (100 if by.share is None else by.share), 100)), chosen


told = st.builds(
    Told,
    st.sampled_from("abc"),
    st.sampled_from("xy"),
    st.integers(-5, 30) | st.integers(100, 300),
    st.sampled_from([0, 3, LIMIT_MS, LIMIT_MS + 1, 20]),
    st.sampled_from(["COUNT", "COUNT", WITHDRAWN, UNCOUNTED]),
)
percents = st.none() | st.integers(0, 100)
units = st.none() | st.integers(0, 8)
scores = st.dictionaries(st.sampled_from("abc"), st.sampled_from([0, 79, 80, 81, 100]), max_size=3)
least_scores = st.sampled_from([None, None, None, 0, 80, 100])
by_score = st.none() | st.booleans()
decided = st.builds(
    Decided,
    st.sampled_from(STRATEGIES),
    st.lists(st.sampled_from("abc"), min_size=1, unique=True).map(tuple),
    units,
    percents,
    percents,
    units,
    st.lists(st.sampled_from(["supplier:a", "location:x"]), max_size=1).map(tuple),
    st.dictionaries(st.sampled_from(["supplier:b", "location:y"]), st.tuples(units, percents), max_size=2),
    scores,
    least_scores,
    by_score,
)


@given(st.lists(told, max_size=6, unique_by=lambda one: one[:2]), decided)
@settings(max_examples=600, deadline=None)
def test_every_part_and_both_bounds_are_what_a_plain_reading_gives(sources: list[Told], by: Decided) -> None:
    made = {source_key(one.supplier, one.location): one.source() for one in sources}
    found = availability(StockRow("s", 1, 0, NOW, made), by.policies().rules("s", "web"), NOW)

    counting = [one for one in sources if not by.leaves_out(*one[:2])]
    fresh = [one for one in counting if one.age_ms <= LIMIT_MS]
    floored = by.stale_floor is not None and by.stale_floor > 0
    now, chosen = number(
        [(s.supplier, units_now(s, by), s.kind != WITHDRAWN and (s in fresh or floored)) for s in counting], by
    )
    hoped, _ = number([(s.supplier, fresh_units(s, by), s.kind != WITHDRAWN) for s in counting], by)
    counted = [s for s in fresh if s.kind != UNCOUNTED]
    sure, _ = number([(s.supplier, fresh_units(s, by), s.kind != WITHDRAWN) for s in counted], by)
    assert found.available == now
    assert (found.certain, found.hoped_for) == (min(now, hoped, sure), max(now, hoped, sure))

    in_number = [s for s in counting if by.strategy == SUM or s.supplier == chosen]
    for one, part in zip(sources, found.parts, strict=True):
        standing = COUNTED if one in in_number else PASSED_OVER
        if one.age_ms > LIMIT_MS:
            standing = STALE
        if by.leaves_out(*one[:2]):
            standing = EXCLUDED
        brought = units_now(one, by) if one in in_number else 0
        assert part == Part(one.supplier, one.location, one.on_hand, brought, standing)
    ages = [NOW - one.age_ms for one in in_number if one in fresh]
    assert found.oldest_observed_at == min(ages, default=None)


def test_of_equal_suppliers_the_first_by_name_is_taken() -> None:
    for strategy in (MIN, MAX):
        rules = Policies({"default": Policy("default", strategy=strategy)}).rules("s")
        made = {source_key(supplier, "x"): Source(Count(0, "c", NOW, 5)) for supplier in "cab"}
        found = availability(StockRow("s", 1, 15, NOW, made), rules, NOW)
        assert [part.supplier for part in found.parts if part.standing == COUNTED] == ["a"]


def test_a_channel_decides_what_the_sku_leaves_open_and_one_without_a_policy_is_as_the_default_one() -> None:
    by = Policies(
        {
            policy.scope: policy
            for policy in (
                Policy("sku:s", safety_units=1),
                Policy("channel:web", safety_units=2, channel_share_percent=50),
                Policy("channel:default", channel_share_percent=20),
            )
        }
    )
    found = [by.rules("s", channel) for channel in ("web", "default", "shop")]
    assert [(rules.safety_units, rules.channel_share_percent) for rules in found] == [(1, 50), (1, 20), (1, 20)]
    assert by.rules("other", "shop").channel_share_percent == 20


def test_where_nothing_was_ever_decided_the_revision_is_that_of_an_empty_log() -> None:
    assert (Policies().revision, Policies().by_scope) == (0, {})
