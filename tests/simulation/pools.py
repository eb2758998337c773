"""What stocks have where policies say that several sources describe one; a second time, for ledger and alerts.

Shares no code with `inventory/`. A stock is a source alone, or a pool: then the view with the newest statement speaks,
what holds have of any view comes off it, and there is no more than the view leaves that was counted last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

Source = dict[str, Any]
"""In the auditor's words."""

Taken = tuple[str, int, int | None, int | None]
"""What a hold has: of which source, units, and from when on counts know of its commit and of its shipment."""

SLOW = {"bolt": 30_000}  # ms by which counts of a supplier know of sales later, by its policy
SHARES = {True: 1 / 4, False: 1 / 8}  # of the runs with and without reservations, in which policies declare pools
DRAWN: tuple[dict[str, str], ...] = (
    {"location:default": "main"},
    {"location:default": "south", "location:north": "north"},
    {"supplier:acme": "main", "supplier:bolt": "main"},
    {"supplier:acme": "main", "location:north": "main"},
    {"supplier:bolt": "whole", "location:default": "main", "location:north": "main"},
)
NEVER = -1  # earlier than any time


class Stock(NamedTuple):
    """One. `speaks`: whose number it is; `number`: units that it has; `held`: of which that number does not know."""

    speaks: str
    number: int
    held: int
    stale: bool

    @property
    def free(self) -> int:
        """Units that can be held of it."""
        return 0 if self.stale else max(0, self.number - self.held)

    @property
    def lacks(self) -> int:
        """Units that are held beyond what it has; below one: none."""
        return self.held - max(0, self.number)


@dataclass(frozen=True)
class Pools:
    """Which sources describe one stock. `declared`: the name of a pool by the scope whose policy declares it."""

    declared: Mapping[str, str]

    @classmethod
    def drawn(cls, rng: Random, *, reserved: bool) -> Pools:
        """Of a seed; in most there are none. `reserved`: there are reservations in it."""
        return cls(rng.choice(DRAWN) if rng.random() < SHARES[reserved] else {})

    def of(self, source: str) -> str | None:
        """The pool of a source: its supplier's, or else its location's."""
        if not self.declared:
            return None
        supplier, _, location = source.partition("\x1f")
        return self.declared.get(f"supplier:{supplier}", self.declared.get(f"location:{location}"))

    def stock_of(self, source: str) -> str:
        """What a source describes: its pool, or a stock of its own."""
        return self.of(source) or source

    def slow_ms(self, source: str, sources: Iterable[str]) -> int:
        """By how much later counts of a source know: a pool is as slow as the slowest of it, and that declares it."""
        pool = self.of(source)
        views = [each for each in sources if pool is not None and self.of(each) == pool]
        slow = [SLOW.get(each.partition("\x1f")[0], 0) for each in (source, *views)]
        for scope, declared in self.declared.items() if pool is not None else ():
            kind, _, name = scope.partition(":")
            if declared == pool and kind == "supplier":
                slow.append(SLOW.get(name, 0))
        return max(slow)

    def stocks(
        self, sources: Mapping[str, Source], taken: Iterable[Taken], now_ms: int, stale_after_ms: int | None = None
    ) -> dict[str, Stock]:
        """All stocks of a row, by name. `stale_after_ms`: of sources that have no limit of their own."""
        stale = {key for key, source in sources.items() if _is_stale(source, now_ms, stale_after_ms)}
        if not self.declared:  # each by itself, as below, in less time
            taken = list(taken)
            return {
                key: Stock(key, source["on_hand"], _unknown(source, [t for t in taken if t[0] == key]), key in stale)
                if taken
                else Stock(key, source["on_hand"], 0, key in stale)
                for key, source in sources.items()
            }
        views: dict[str, dict[str, Source]] = {}
        for key, source in sources.items():
            views.setdefault(self.stock_of(key), {})[key] = source
        of_stock: dict[str, list[Taken]] = {}
        for each in taken:
            own = sources.get(each[0])
            if own is None or not _counted_since(own, each[3]):  # else its source has forgotten it
                of_stock.setdefault(self.stock_of(each[0]), []).append(each)
        return {name: _stock(of_name, of_stock.get(name, []), stale) for name, of_name in views.items()}


def _stock(views: dict[str, Source], taken: list[Taken], stale: set[str]) -> Stock:
    if len(views) == 1:
        [(key, source)] = views.items()
        return Stock(key, source["on_hand"], _unknown(source, taken) if taken else 0, key in stale)
    heard = {key: source for key, source in views.items() if key not in stale} or views
    heard = {key: source for key, source in heard.items() if source["count"] is not None} or heard
    _, speaks = max((_told_at(source), key) for key, source in heard.items())
    held = _unknown(views[speaks], taken)
    left = [_left(speaks, views, taken)]
    counted = [(source["count"][2], key == speaks, key) for key, source in views.items() if source["count"] is not None]
    if counted:
        left.append(_left(max(counted)[2], views, taken))
    return Stock(speaks, min(left) + held, held, speaks in stale)


def _left(key: str, views: dict[str, Source], taken: list[Taken]) -> int:
    """What a view says, beside what was sold or shipped of the stock and it does not know of."""
    source = views[key]
    since = NEVER if source["count"] is None else source["count"][2]
    elsewhere: dict[str, int] = {}
    for other in views.values():
        if other is not source:
            for order, units in _shipped(other, since):
                elsewhere[order] = max(units, elsewhere.get(order, 0))
    own = dict(_shipped(source, since))
    more = sum(max(0, units - max(0, own.get(order, 0))) for order, units in elsewhere.items())
    return int(source["on_hand"]) - _unknown(source, taken) - more


def _shipped(source: Source, since: int) -> Iterator[tuple[str, int]]:
    """Units by the order that changes name, later than a time."""
    changes = [(order, quantity) for _, at, quantity, order in source["deltas"] if order is not None and at > since]
    for name in {order for order, _ in changes}:
        yield name, -sum(quantity for order, quantity in changes if order == name)


def _unknown(source: Source, taken: list[Taken]) -> int:
    """Units that a source's number has not left out by itself."""
    leaves_out_sold = source["basis"] == "AVAILABLE"
    return sum(
        units
        for _, units, sold_at, left_at in taken
        if not _counted_since(source, sold_at if leaves_out_sold else left_at)
    )


def _counted_since(source: Source, at: int | None) -> bool:
    return at is not None and source["count"] is not None and bool(source["count"][2] >= at)


def _is_stale(source: Source, now_ms: int, stale_after_ms: int | None) -> bool:
    limit = stale_after_ms if source["stale_after_ms"] is None else source["stale_after_ms"]
    return limit is not None and now_ms - _told_at(source) > limit


def _told_at(source: Source) -> int:
    """When what a source tells was true at last."""
    times = [delta[1] for delta in source["deltas"]] + [source.get("floor_at") or 0]
    times += [source["count"][2]] if source["count"] is not None else []
    return int(max(times))
