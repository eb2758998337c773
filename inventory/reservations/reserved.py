"""What holds take from the sources of a row, and when a source's own number knows of them already.

The law: facts and counts in any interleaving give one `reserved`. Whether units still count against their source is
therefore asked when the row is read, of them and of the present count; they are forgotten only once no later count can
bring them back. Called by the fold, by `inventory.availability` and by whoever applies a fact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from schemas.reservations import Hold, Part
from schemas.rows import Count, Open, Source

GRID_MS = 1_000  # times at which a count comes to know are rounded up to it, so that units of one moment are one entry
AVAILABLE_BASIS = 1  # of a source: its counts leave out what is sold, wherever it lies; others count what lies there

Reserved = dict[str, list[Open]]


def nets_at(at_ms: int, delay_ms: int) -> int:
    """The time from which on a count knows of what happened at `at_ms`, at a source that is slow by a delay."""
    return -(-(at_ms + delay_ms) // GRID_MS) * GRID_MS


def moved(
    reserved: Mapping[str, list[Open]], before: Hold | None, after: Hold, counts: Mapping[str, Count | None]
) -> Reserved:
    """`reserved` once a hold is `after` and no longer `before`.

    Args:
        reserved: of the row; left as it is.
        before: what it was; None: there was none.
        after: what it is now.
        counts: the present count of each source that it touches, by key.
    """
    changed = _entries(after.parts, after.channel)
    for key, units in _entries(before.parts if before is not None else (), after.channel).items():
        changed[key] = changed.get(key, 0) - units
    result = dict(reserved)
    for (source, channel, committed_at, fulfilled_at), units in changed.items():
        if units:
            entry = Open(units, channel, committed_at, fulfilled_at)
            result[source] = _added(result.get(source, []), entry)
    for source in {key[0] for key in changed}:
        left = forget(result.get(source, []), counts.get(source))
        if left:
            result[source] = left
        else:
            result.pop(source, None)
    return result


def forget(entries: list[Open], count: Count | None) -> list[Open]:
    """Those that some count of the source may not know of, whatever its basis."""
    if count is None:
        return entries
    return [e for e in entries if e.fulfilled_at is None or count.at < e.fulfilled_at]


def unknown_units(entries: list[Open], source: Source) -> list[Open]:
    """Those that the source's present number does not know of: they come off it."""
    count = source.count
    if count is not None and source.basis == AVAILABLE_BASIS:
        return [e for e in entries if e.committed_at is None or count.at < e.committed_at]
    return forget(entries, count)


def of_holds(holds: Iterable[Hold], counts: Mapping[str, Count | None]) -> Reserved:
    """What these holds take, all of them: `reserved` from scratch, for checks."""
    reserved: Reserved = {}
    for hold in holds:
        reserved = moved(reserved, None, hold, counts)
    return reserved


def _entries(parts: Iterable[Part], channel: str) -> dict[tuple[Any, ...], int]:
    sums: dict[tuple[Any, ...], int] = {}
    for part in parts:
        if part.closed:
            continue  # the source's number is without them
        key = (part.source, channel, part.committed_at, part.fulfilled_at)
        sums[key] = sums.get(key, 0) + part.quantity
    return sums


def _added(entries: list[Open], change: Open) -> list[Open]:
    """With `change.units` more, or fewer, of what stands as it does; in the order of what they are."""
    result, units = [], change.units
    for entry in entries:
        if _kind(entry) == _kind(change):
            units += entry.units
        else:
            result.append(entry)
    if units:
        result.append(Open(units, change.channel, change.committed_at, change.fulfilled_at))
    result.sort(key=_kind)
    return result


def _kind(entry: Open) -> tuple[str, int, int]:
    return entry.channel, entry.committed_at or 0, entry.fulfilled_at or 0
