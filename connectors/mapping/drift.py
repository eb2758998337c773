"""Whether a supplier's fields are still what they were: a profile of a feed, compared with what came since. Pure.

Invariant: a change is told once, and what came is what is expected from then on; so it is told once more when it goes
back. What comes and goes all the time is told three times a day. A profile is of one version of the mapping, and does
not grow beyond its bounds. docs/connectors/drift.md has the rules. Called by `runner.watch`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from connectors.mapping.profile import EMPTY, SAMPLE, FieldProfile, FieldTally, Tally, cut

APPEARED, VANISHED, TYPE, RANGE, LENGTH, VALUES = CHANGES = (
    "appeared", "vanished", "type", "range", "length", "values",
)  # fmt: skip
SHARE_MOVED = 0.3  # of a field's rows, from some classes to others
SHARE_NEW = 0.05  # of a field's rows, beyond what there was
ROWS_NEW = 5
NAMED_SHARE = 0.1  # of the rows that have a name, so that it is watched
DOUBT = math.log(1e-6)  # that nothing of a field is seen by chance
TIMES = 10.0  # so many times the usual is another range
NEAR_ZERO = 10.0  # units, added to both: what is said of small numbers is noise
LENGTH_TIMES, LENGTH_NEAR_ZERO = 2.0, 4.0
WEIGHT_MIN = 0.1  # of what came, in the profile
NAMES_MAX = 200
TOLD_MAX, TOLD_MS = 3, 86_400_000
TOLD_FIELDS_MAX = 200
ID_BYTES = 16
LISTED = 5  # names or values, in what is said


class Profile(msgspec.Struct, kw_only=True):
    """What is usual for a feed.

    `rows`: it was learnt from. `fields`: by path; `columns`: of a table; `names`: the share of rows that have each.
    `told`: when a change of a field was told, in ms since the epoch; `number`: of all alerts so far. `at_ms`: learnt.
    """

    version: int
    rows: int = 0
    fields: dict[str, FieldProfile] = {}
    columns: list[str] | None = None
    names: dict[str, float] | None = None
    told: dict[str, list[int]] = {}
    number: int = 0
    at_ms: int = 0


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a field. `sample`: originals of it if the mapping names it; the last ones, if it vanished."""

    alert_id: str
    number: int
    feed: str
    version: int
    field: str
    change: str
    was: str
    now: str
    sample: list[str]
    origin: str
    at_ms: int


class Change(NamedTuple):
    """What is another one."""

    field: str
    change: str
    was: str
    now: str
    sample: list[str]


class Seen(NamedTuple):
    """Where and when it was seen. `feed`: its whole name; `origin`: of the document; `at_ms`: since the epoch."""

    feed: str
    origin: str
    at_ms: int


def compare(usual: Profile, tally: Tally, rows_min: int) -> list[Change]:
    """What is another one in what came. Learns nothing.

    Args:
        usual: what was learnt.
        tally: of what came.
        rows_min: with fewer rows than that, what was learnt or what came says nothing, but for a table's columns.
    """
    changes = [] if tally.columns is None else list(columns_changed(usual, tally.columns))
    lost = {change.field for change in changes}
    if min(usual.rows, tally.rows) >= rows_min:
        for path, now in tally.fields.items():
            if path not in lost and path in usual.fields and (change := _field(path, usual.fields[path], now)):
                changes.append(change)
    if usual.names is not None and min(tally.seen, usual.rows) >= rows_min:
        changes += _names(usual.names, tally)
    return changes


def columns_changed(usual: Profile, there: list[str]) -> Iterator[Change]:
    """Columns that came or went: told together, for it may be one under another name."""
    if usual.columns is None:
        return
    named = cut(there)
    gone = [name for name in usual.columns if name not in named]
    new = [name for name in named if name not in usual.columns]
    if gone:
        first = next((name for name in gone if name in usual.fields), gone[0])
        sample = usual.fields[first].sample if first in usual.fields else []
        now = f"no such column; new: {_listed(new)}" if new else "no such column"
        yield Change(first, VANISHED, f"columns {_listed(gone)}", now, sample)
    elif new:
        yield Change(new[0], APPEARED, "no such column", f"columns {_listed(new)}", [])


def learn(usual: Profile, tally: Tally, changes: list[Change], at_ms: int) -> Profile:
    """What is usual from now on."""
    changed = {change.field for change in changes}
    weight = max(WEIGHT_MIN, tally.rows / (tally.rows + usual.rows)) if tally.rows else 0.0
    fields = dict(usual.fields)
    for path, of_field in tally.fields.items() if tally.rows else ():
        now, before = of_field.profile(), fields.get(path)
        fields[path] = now if before is None or path in changed else _mixed(before, now, weight)
    names = usual.names
    if tally.seen:
        names = _learnt_names(usual.names or {}, tally, changed, weight)
    return msgspec.structs.replace(
        usual,
        rows=usual.rows + tally.rows,
        fields=fields,
        columns=usual.columns if tally.columns is None else cut(tally.columns),
        names=names,
        at_ms=at_ms,
    )


def tell(usual: Profile, changes: list[Change], seen: Seen) -> tuple[Profile, list[Alert]]:
    """Alerts of changes, but for those of a field that comes and goes."""
    told = {key: times for key, times in usual.told.items() if times[-1] > seen.at_ms - TOLD_MS}
    number, alerts = usual.number, []
    for change in changes:
        key = f"{change.change}:{change.field}"
        times = [at_ms for at_ms in told.get(key, []) if at_ms > seen.at_ms - TOLD_MS]
        if len(times) >= TOLD_MAX or (key not in told and len(told) >= TOLD_FIELDS_MAX):
            continue
        told[key] = [*times, seen.at_ms]
        number += 1
        named = "\n".join((seen.feed, str(usual.version), str(number), key, seen.origin))
        alerts.append(
            Alert(
                alert_id=hashlib.blake2b(named.encode(), digest_size=ID_BYTES).hexdigest(),
                number=number,
                feed=seen.feed,
                version=usual.version,
                origin=seen.origin,
                at_ms=seen.at_ms,
                **change._asdict(),
            )
        )
    return msgspec.structs.replace(usual, told=told, number=number), alerts


def _field(path: str, was: FieldProfile, tally: FieldTally) -> Change | None:
    """The first of what may have changed: the rest follows from it."""
    now = tally.profile()
    there = 1 - was.shares.get(EMPTY, 0.0)
    rows = sum(tally.counts.values())
    if (
        now.main == EMPTY
        and tally.counts[EMPTY] == rows
        and there >= NAMED_SHARE
        and rows * _log_without(there) < DOUBT
    ):
        return Change(path, VANISHED, _shares(was), "nothing in any row", was.sample)
    if there == 0 and 1 - now.shares.get(EMPTY, 0.0) >= NAMED_SHARE:
        return Change(path, APPEARED, "nothing in any row", _shares(now), _sample(tally, now, was))
    moved = sum(max(0.0, share - was.shares.get(name, 0.0)) for name, share in now.shares.items())
    if moved > SHARE_MOVED:
        return Change(path, TYPE, _shares(was), _shares(now), _sample(tally, now, was))
    if change := _range(path, was, now, tally.numbers):
        return change
    if _is_other(was.length, now.length, LENGTH_TIMES, LENGTH_NEAR_ZERO) and was.median is None:
        return Change(path, LENGTH, f"{was.length:g} characters", f"{now.length:g} characters", now.sample)
    if was.values is not None and tally.values:
        new = {value: count for value, count in tally.values.items() if value not in was.values}
        if (count := sum(new.values())) >= ROWS_NEW and count > SHARE_NEW * rows:
            return Change(path, VALUES, _listed(was.values), _listed(list(new)), list(new)[:SAMPLE])
    return None


def _range(path: str, was: FieldProfile, now: FieldProfile, numbers: np.ndarray) -> Change | None:
    if was.median is None or was.low is None or was.high is None or not len(numbers):
        return None
    highest = TIMES * max(was.high, 0.0) + NEAR_ZERO
    lowest = TIMES * was.low - NEAR_ZERO if was.low < 0 else 0.0
    beyond = numbers[(numbers > highest) | (numbers < lowest)]
    is_beyond = len(beyond) >= ROWS_NEW and len(beyond) > SHARE_NEW * len(numbers)
    if not is_beyond and not _is_other(was.median, now.median, TIMES, NEAR_ZERO):
        return None
    sample = [f"{number:.15g}" for number in beyond[:SAMPLE]] if is_beyond else now.sample
    return Change(path, RANGE, _spread(was), _spread(now), sample)


def _names(usual: dict[str, float], tally: Tally) -> Iterator[Change]:
    """Of fields that the mapping does not name; what those have, nobody looks at."""
    for name, share in usual.items():
        lost = name not in tally.names and share >= NAMED_SHARE and tally.seen * _log_without(share) < DOUBT
        if lost and name not in tally.fields:
            yield Change(name, VANISHED, f"in {share:.0%} of rows", "in no row", [])
    if len(usual) >= NAMES_MAX:
        return
    for name, count in tally.names.items():
        if count >= NAMED_SHARE * tally.seen and name not in usual and name not in tally.fields:
            now = f"in {count / tally.seen:.0%} of rows"
            yield Change(name, APPEARED, "in no row", now, [])


def _learnt_names(usual: dict[str, float], tally: Tally, changed: set[str], weight: float) -> dict[str, float]:
    """Those that are frequent enough to be missed; a rare one stays known, so that it is not told again and again."""
    counts = tally.names
    learnt = {name: share for name, share in usual.items() if name in counts or name not in changed}
    for name in {*learnt, *(name for name, count in counts.items() if count >= NAMED_SHARE * tally.seen)}:
        share = counts[name] / tally.seen
        learnt[name] = share if name not in learnt else learnt[name] + weight * (share - learnt[name])
    return dict(sorted(learnt.items(), key=lambda item: -item[1])[:NAMES_MAX])


def _mixed(was: FieldProfile, now: FieldProfile, weight: float) -> FieldProfile:
    def between(a: float | None, b: float | None) -> float | None:
        return b if a is None else a if b is None else a + weight * (b - a)

    values = None
    if was.values is not None and now.values is not None:
        values = sorted({*was.values, *now.values})
    lows, highs = ([each for each in pair if each is not None] for pair in ((was.low, now.low), (was.high, now.high)))
    names = {*was.shares, *now.shares}
    return FieldProfile(
        shares={n: was.shares.get(n, 0.0) + weight * (now.shares.get(n, 0.0) - was.shares.get(n, 0.0)) for n in names},
        median=between(was.median, now.median),
        low=min(lows, default=None),
        high=max(highs, default=None),
        length=between(was.length, now.length),
        values=values,
        sample=now.sample or was.sample,
    )


def _is_other(was: float | None, now: float | None, times: float, near_zero: float) -> bool:
    """Whether of two sizes one is so many times the other."""
    if was is None or now is None:
        return False
    a, b = abs(was) + near_zero, abs(now) + near_zero
    return max(a, b) > times * min(a, b)


def _log_without(share: float) -> float:
    """Of the chance that one row is without it."""
    return math.log1p(-min(share, 0.999_999))


def _sample(tally: FieldTally, now: FieldProfile, was: FieldProfile) -> list[str]:
    """Of the class that has grown most; nothing, where rows are empty that were not."""
    grown = max(now.shares, key=lambda name: now.shares[name] - was.shares.get(name, 0.0))
    return was.sample if grown == EMPTY else tally.sample(grown)


def _shares(profile: FieldProfile) -> str:
    shares = sorted(profile.shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{share:.0%} {name}" for name, share in shares if share >= 0.005)


def _spread(profile: FieldProfile) -> str:
    if profile.median is None:
        return "no numbers"
    return f"{profile.low:g} to {profile.high:g}, half of them up to {profile.median:g}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
