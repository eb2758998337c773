"""What can be sold of a SKU: pure; row, rules and time in, answer out. Called where rows are read.

What holds have of a source comes off it, unless its own number knows of them already; then it is clamped at zero,
before anything is summed: one supplier's oversell is not made good by another's stock. A source that is stale counts as
nothing, or as its declared floor, and the answer says so. A supplier's number is the sum of its sources; a strategy
makes one number of the suppliers'; what is sold beyond the stock and safety stock come off it. A channel has its share
of what is left and reserved together, and what is reserved in it is part of that share. Sources that describe one stock
are one source (`inventory.pools`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from inventory.policies import DEFAULT_CHANNEL, Rules
from inventory.pools import Joined, View, as_one
from inventory.reservations.reserved import unknown_units
from inventory.stock import observed_at
from schemas.policies import MAX, PRIORITY, SUM
from schemas.rows import Open, StockRow

COUNTED, STALE, EXCLUDED, PASSED_OVER = "COUNTED", "STALE", "EXCLUDED", "PASSED_OVER"
SAME_STOCK = "SAME_STOCK"
NEVER = 1 << 63  # later than any time
BEFORE_ALL = 0  # no later than any time: nothing is stale by then
WHOLE = 100  # percent
_WITHDRAWN = 1  # as a count's kind


class Part(msgspec.Struct, frozen=True, gc=False):
    """What one source brings. `units`: to the number, before safety stock and share; `standing`: as above.

    `PASSED_OVER`: the strategy takes another supplier. `SAME_STOCK`: another view speaks for its pool. A stale source
    brings its floor. `reserved`: units that holds have, of which `on_hand` does not know; of a pool, with the view that
    speaks. `at_most`: what the pool has on hand, where that is less than this view of it says.
    """

    supplier: str
    location: str
    on_hand: int
    units: int
    standing: str
    reserved: int = 0
    at_most: int | None = None

    @property
    def number(self) -> int:
        """On hand of the source; of a pool what it has, whichever view speaks for it."""
        return self.on_hand if self.at_most is None else self.at_most


class Availability(NamedTuple):
    """The answer for one SKU; units are whole, times ms since the epoch.

    `available`: what can be sold now. `certain`, `hoped_for`: the same of fresh sources with a count alone, and of all
    as if none were stale; `available` lies between them. `backorderable`: what may be sold beyond it. `parts`: of every
    source, in the order of the row. `oldest_observed_at`: the oldest among the latest statements of the sources that
    count; None when none counts. `reserved`: units that holds have, backordered ones among them.
    """

    available: int
    certain: int
    hoped_for: int
    backorderable: int
    parts: list[Part]
    oldest_observed_at: int | None
    reserved: int = 0

    @property
    def by_supplier(self) -> dict[str, int]:
        """What each supplier says is there: the on hand of all its sources, below zero and stale too."""
        sums: dict[str, int] = {}
        for part in self.parts:
            sums[part.supplier] = sums.get(part.supplier, 0) + part.on_hand
        return sums

    @property
    def by_location(self) -> dict[str, int]:
        """What each location brings; safety stock and share apart, these add up to `available`."""
        sums: dict[str, int] = {}
        for part in self.parts:
            sums[part.location] = sums.get(part.location, 0) + part.units
        return sums

    @property
    def stale(self) -> list[tuple[str, str]]:
        """(supplier, location) of each source that is stale."""
        return [(part.supplier, part.location) for part in self.parts if part.standing == STALE]


def availability(row: StockRow, rules: Rules, now_ms: int, channel: str = DEFAULT_CHANNEL) -> Availability:
    """What can be sold of `row` in `channel` at `now_ms` by `rules`, which are the channel's."""
    if rules.pooled and (one := as_one(row, rules, now_ms)) is not None:
        return _of_pools(row, one, rules, now_ms, channel)
    parts: list[Part] = []
    held = _Held(row, channel) if row.reserved else NOTHING_HELD
    if_fresh: list[int] = []  # what each would bring
    available = certain = hoped_for = 0
    oldest = NEVER
    for key, source in row.sources.items():
        supplier, location, excluded, stale_after_ms, floor, safety_units, safety_percent, _, _ = rules.source(key)
        on_hand = source.on_hand
        reserved = held.of(key)
        if excluded:
            parts.append(Part(supplier, location, on_hand, 0, EXCLUDED, reserved))
            if_fresh.append(0)
            continue
        units = on_hand - reserved
        if units < 0:
            units = 0
        if safety_units or safety_percent:
            units = held_back(units, safety_units, safety_percent)
        at = observed_at(source)
        if source.stale_after_ms is not None:
            stale_after_ms = source.stale_after_ms
        if stale_after_ms is not None and now_ms - at > stale_after_ms:
            counts, standing = min(units, floor), STALE
        else:
            counts, standing = units, COUNTED
            if source.count is not None:
                certain += units
            if at < oldest:
                oldest = at
        parts.append(Part(supplier, location, on_hand, counts, standing, reserved))
        if_fresh.append(units)
        available += counts
        hoped_for += units
    if rules.strategy != SUM:
        return _chosen(row, rules, held, parts, if_fresh)
    return _answer(rules, held, (available, certain, hoped_for), parts, oldest)


def _of_pools(row: StockRow, one: Joined, rules: Rules, now_ms: int, channel: str) -> Availability:
    """The answer where each pool is as one source, with a part of each source all the same."""
    answer = availability(one.row, rules, now_ms, channel)
    hoped_for = answer.hoped_for
    if one.some_stale:
        hoped_for = max(answer.available, availability(row, rules, BEFORE_ALL, channel).available)
    speaking = dict(zip(one.row.sources, answer.parts, strict=True))
    parts = []
    for key, source in row.sources.items():
        if key in one.silent:
            supplier, location = rules.source(key)[:2]
            parts.append(Part(supplier, location, source.on_hand, 0, _standing(one.silent[key])))
        elif key in one.at_most:
            parts.append(msgspec.structs.replace(speaking[key], on_hand=source.on_hand, at_most=one.at_most[key]))
        else:
            parts.append(speaking[key])
    return answer._replace(hoped_for=hoped_for, parts=parts)


def _standing(silent: View) -> str:
    """Of a view that does not speak for its pool."""
    if silent.excluded:
        return EXCLUDED
    if silent.stale:
        return STALE
    return SAME_STOCK if silent.named else PASSED_OVER


def held_back(units: int, safety_units: int, safety_percent: int) -> int:
    """What is left of `units` beside safety stock: the larger of the two, a percentage being rounded up."""
    return max(0, units - max(safety_units, -(-units * safety_percent // WHOLE)))


class _Held:
    """What holds have of a row's sources and their numbers do not know of. `channel`: whose share is asked for."""

    def __init__(self, row: StockRow, channel: str) -> None:
        self.all = self.of_channel = 0
        self.backordered = sum(entry.units for entry in row.reserved.get("", ()))
        self._by_source: dict[str, int] = {}
        for key, entries in row.reserved.items():
            unknown = unknown_units(entries, row.sources[key]) if key in row.sources else entries
            self._add(key, unknown, channel)

    def _add(self, key: str, entries: Iterable[Open], channel: str) -> None:
        units = 0
        for entry in entries:
            units += entry.units
            if entry.channel == channel:
                self.of_channel += entry.units
        self._by_source[key] = units
        self.all += units

    def of(self, key: str) -> int:
        """Units of one source."""
        return self._by_source.get(key, 0)


NOTHING_HELD = _Held(StockRow("", 0, 0, 0, {}), "")


def _chosen(row: StockRow, rules: Rules, held: _Held, parts: list[Part], if_fresh: list[int]) -> Availability:
    """The answer where a strategy takes one supplier's number."""
    now, certain, hoped_for = _Suppliers(), _Suppliers(), _Suppliers()
    for (key, source), part, units in zip(row.sources.items(), parts, if_fresh, strict=True):
        if part.standing == EXCLUDED:
            continue
        offered = source.count is None or source.count.kind != _WITHDRAWN
        fresh = part.standing == COUNTED
        now.add(part.supplier, part.units, offered and (fresh or rules.source(key).stale_floor_units > 0))
        hoped_for.add(part.supplier, units, offered)
        if fresh and source.count is not None:
            certain.add(part.supplier, units, offered)
    taken, oldest = now.taken(rules), NEVER
    for i, (source, part) in enumerate(zip(row.sources.values(), parts, strict=True)):
        if part.supplier != taken and part.standing != EXCLUDED:
            standing = PASSED_OVER if part.standing == COUNTED else part.standing
            parts[i] = Part(part.supplier, part.location, part.on_hand, 0, standing, part.reserved)
        elif part.standing == COUNTED:
            oldest = min(oldest, observed_at(source))
    return _answer(rules, held, (now.number(rules), certain.number(rules), hoped_for.number(rules)), parts, oldest)


def _answer(rules: Rules, held: _Held, sums: tuple[int, int, int], parts: list[Part], oldest: int) -> Availability:
    """Of the sums as they are, of certain sources, and as if none were stale."""
    if rules.safety_units or rules.safety_percent or rules.channel_share_percent != WHOLE or held.backordered:
        now, certain, hoped_for = (_of_channel(units, rules, held) for units in sums)
        sums = now, certain, hoped_for
    observed = None if oldest == NEVER else oldest
    backorderable = max(0, rules.backorder_units_max - held.backordered)
    return Availability(sums[0], min(sums), max(sums), backorderable, parts, observed, held.all)


def _of_channel(units: int, rules: Rules, held: _Held) -> int:
    """What a channel may sell of a number."""
    left = held_back(max(0, units - held.backordered), rules.safety_units, rules.safety_percent)
    if rules.channel_share_percent == WHOLE:
        return left
    return max(0, min(left, (left + held.all) * rules.channel_share_percent // WHOLE - held.of_channel))


class _Suppliers:
    """Units by supplier, and which of them are fresh and offer the SKU."""

    def __init__(self) -> None:
        self._units: dict[str, int] = {}
        self._healthy: set[str] = set()

    def add(self, supplier: str, units: int, healthy: bool) -> None:
        self._units[supplier] = self._units.get(supplier, 0) + units
        if healthy:
            self._healthy.add(supplier)

    def taken(self, rules: Rules) -> str | None:
        """The supplier whose number it is; of equal ones the first by name."""
        if rules.strategy == PRIORITY:
            return next((supplier for supplier in rules.priority if supplier in self._healthy), None)
        best = max if rules.strategy == MAX else min
        return best(sorted(self._healthy), key=self._units.__getitem__, default=None)

    def number(self, rules: Rules) -> int:
        taken = self.taken(rules)
        return 0 if taken is None else self._units[taken]
