"""What can be sold of a SKU: pure, row and time in, answer out. Called where rows are read.

The number is the sum over sources of their on hand, each clamped at zero first: one supplier's oversell is not made
good by another's stock. A source older than its own `stale_after_ms` counts as nothing, and the answer says so.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.keys import SOURCE_SEPARATOR
from schemas.rows import Source, StockRow


class Availability(NamedTuple):
    """The answer for one SKU; units are whole, times ms since the epoch.

    `available`: what can be sold now. `by_supplier`: what each supplier says is there, the on hand of all its sources
    summed as it stands, below zero and stale too. `by_location`: what can be sold from each location, so these add up
    to `available`. `stale`: (supplier, location) of each source that counts as nothing for its age.
    `oldest_observed_at`: the oldest among the latest statements of the sources that count; None when none counts.
    """

    available: int
    by_supplier: dict[str, int]
    by_location: dict[str, int]
    stale: list[tuple[str, str]]
    oldest_observed_at: int | None


def observed_at(source: Source) -> int:
    """When the source's latest statement was true at the supplier; ms since the epoch."""
    if source.deltas:
        return source.deltas[-1].at  # in order of time, and all after the count and the floor
    count_at = source.count.at if source.count is not None else 0
    return max(count_at, source.floor_at or 0)


def is_stale(source: Source, now_ms: int) -> bool:
    """Whether the latest statement is older than the source itself allows; never, when it sets no limit."""
    return source.stale_after_ms is not None and now_ms - observed_at(source) > source.stale_after_ms


def availability(row: StockRow, now_ms: int) -> Availability:
    """What can be sold of `row` at `now_ms`."""
    available = 0
    by_supplier: dict[str, int] = {}
    by_location: dict[str, int] = {}
    stale: list[tuple[str, str]] = []
    oldest: int | None = None
    for key, source in row.sources.items():
        supplier, _, location = key.partition(SOURCE_SEPARATOR)
        on_hand = source.on_hand
        by_supplier[supplier] = by_supplier.get(supplier, 0) + on_hand
        if is_stale(source, now_ms):
            stale.append((supplier, location))
            sellable = 0
        else:
            sellable = on_hand if on_hand > 0 else 0
            at = observed_at(source)
            if oldest is None or at < oldest:
                oldest = at
        available += sellable
        by_location[location] = by_location.get(location, 0) + sellable
    return Availability(available, by_supplier, by_location, stale, oldest)
