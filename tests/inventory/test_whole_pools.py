"""Numbers of rows with pools, part by part and with their bounds, against a second reading of what a pool is."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.availability import COUNTED, PASSED_OVER, SAME_STOCK, availability
from inventory.policies import Policies
from schemas.keys import source_key
from schemas.policies import PRIORITY, STRATEGIES, SUM, Policy
from schemas.rows import Count, Delta, Open, Source, StockRow
from tests.inventory.test_whole_answers import Decided, by_score, least_scores, number, scores

NOW = 1_700_000_000_000


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
        if not by.leaves_out(*view[:2]) and not (by.strategy == PRIORITY and view.supplier not in by.order):
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
    scores,
    least_scores,
    by_score,
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
        "reliability_percent_min": by.least_score,
        "priority_by_reliability": by.by_score if by.strategy == PRIORITY else None,
    }
    fields |= {f"score:{supplier}": {"reliability_percent": percent} for supplier, percent in by.scores.items()}
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
