"""Pools: sources that describe one stock, as two systems do that count one warehouse; pure.

The sources of a row that are in one pool are views of one stock, so all of them are to be one source: the view whose
latest statement is newest speaks for the pool (of equal ones the larger key). A view that is stale speaks if all are,
one without a count if none that might speak has one, one that is excluded never. What holds have of any view comes off
the one that speaks, unless its number knows of them. The law: no unit is sold twice since another view speaks. For the
row forgets units that left once a count of their own view knows, or a change of it that names their order, and another
view may not know. So what the others' changes name an order for comes off a view that was counted before; and the view
that was counted last knows of all that counts made the row forget, so there is no more than that one leaves. Called by
`inventory.availability`, where a policy declares a pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from inventory.policies import Rules
from inventory.reservations.reserved import unknown_units
from inventory.stock import observed_at
from schemas.policies import PRIORITY
from schemas.rows import Open, Source, StockRow

NEVER = -1  # earlier than any time


class View(NamedTuple):
    """A source in a pool. `at`: of its latest statement; `named`: the strategy takes its supplier into account.

    `held`: what holds have of the pool, and its number does not know of.
    """

    key: str
    source: Source
    at: int
    excluded: bool
    named: bool
    stale: bool
    held: list[Open]

    @property
    def counts(self) -> bool:
        """Whether it is a word of the pool at all."""
        return self.named and not self.excluded

    @property
    def counted_at(self) -> int:
        """When its count was true."""
        return NEVER if self.source.count is None else self.source.count.at


class Joined(NamedTuple):
    """A row in which each pool is one source, that of the view that speaks.

    `silent`: the other views, by key. `speaks`: by each of those keys, that of the view that speaks. `at_most`: by key,
    what the pool has where the view that speaks says more. `some_stale`: a view is; else it would make no difference if
    none were.
    """

    row: StockRow
    silent: dict[str, View]
    speaks: dict[str, str]
    at_most: dict[str, int]
    some_stale: bool


def as_one(row: StockRow, rules: Rules, now_ms: int) -> Joined | None:
    """The row with its pools joined; None: no two of its sources are views of one stock.

    Of a joined row, this is None: a caller may do with it as with any other.
    """
    sources, reserved = dict(row.sources), dict(row.reserved)
    silent: dict[str, View] = {}
    spoken_for: dict[str, str] = {}
    at_most: dict[str, int] = {}
    joined = some_stale = False
    for keys in _pools(row, rules):
        held = [entry for key in keys for entry in row.reserved.get(key, ())]
        views = [_view(key, row.sources[key], rules, now_ms, held) for key in keys if key in row.sources]
        counting = [view for view in views if view.counts]
        if not counting:
            continue  # it is as if there were no pool
        joined = True
        speaks = _speaking(counting)
        for view in views:
            if view is not speaks:
                silent[view.key], spoken_for[view.key] = view, speaks.key
                del sources[view.key]
        for key in keys:
            reserved.pop(key, None)
        if speaks.held:
            reserved[speaks.key] = speaks.held
        on_hand = _left(speaks, counting) + _units(speaks.held)
        if on_hand < speaks.source.on_hand:
            at_most[speaks.key] = on_hand
            carried = speaks.source.carried + on_hand - speaks.source.on_hand
            sources[speaks.key] = msgspec.structs.replace(speaks.source, carried=carried)
        some_stale = some_stale or any(view.stale for view in counting)
    if not joined:
        return None
    return Joined(
        msgspec.structs.replace(row, sources=sources, reserved=reserved), silent, spoken_for, at_most, some_stale
    )


def _pools(row: StockRow, rules: Rules) -> Iterable[list[str]]:
    """The keys of each pool that has several, of sources and of what is held of those that are not heard of yet."""
    pools: dict[str, list[str]] = {}
    for key in dict.fromkeys((*row.sources, *row.reserved)):
        pool = rules.source(key).pool if key else None
        if pool is not None:
            pools.setdefault(pool, []).append(key)
    return (keys for keys in pools.values() if len(keys) > 1)


def _view(key: str, source: Source, rules: Rules, now_ms: int, held: list[Open]) -> View:
    of_source, at = rules.source(key), observed_at(source)
    limit_ms = of_source.stale_after_ms if source.stale_after_ms is None else source.stale_after_ms
    stale = limit_ms is not None and now_ms - at > limit_ms
    named = rules.strategy != PRIORITY or of_source.supplier in rules.priority
    return View(key, source, at, of_source.excluded, named, stale, unknown_units(held, source))


def _speaking(views: Sequence[View]) -> View:
    """The view whose number the pool's is."""
    fresh = [view for view in views if not view.stale] or views
    counted = [view for view in fresh if view.source.count is not None] or fresh
    return max(counted, key=lambda view: (view.at, view.key))


def _left(speaks: View, views: Sequence[View]) -> int:
    """What a pool has beside what holds have of it: by the view that speaks, and by the one that was counted last."""
    last = max(views, key=lambda view: (view.counted_at, view is speaks, view.key))
    return min(
        view.source.on_hand - _units(view.held) - _shipped_elsewhere(view, views)
        for view in (speaks, last)
        if view is speaks or view.source.count is not None
    )


def _shipped_elsewhere(view: View, views: Sequence[View]) -> int:
    """Units that changes of others name an order for, since the count of a view, and none of its own."""
    own = _shipped(view)
    others: dict[str, int] = {}
    for other in views:
        if other is not view:
            for order, units in _shipped(other, view.counted_at).items():
                others[order] = max(units, others.get(order, 0))
    return sum(max(0, units - max(0, own.get(order, 0))) for order, units in others.items())


def _shipped(view: View, after: int = NEVER) -> dict[str, int]:
    """Units by the order that a view's changes later than a time name."""
    orders: dict[str, int] = {}
    for delta in view.source.deltas:
        if delta.order_ref is not None and delta.at > after:
            orders[delta.order_ref] = orders.get(delta.order_ref, 0) - delta.quantity
    return orders


def _units(entries: Iterable[Open]) -> int:
    return sum(entry.units for entry in entries)
