"""How far a feed can be relied on, from 0 to 1: five parts, multiplied, so that one that is bad is not made up for.

docs/connectors/health.md explains each and has an example, which a test checks. A supplier's is that of its worst feed.
Pure. Called by the API, the connectors' metrics, and what records scores for policies.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from schemas.feed_health import HOUR_MS, HOURS, FeedHealth

PRIOR_GOOD, PRIOR = 9, 10  # as if it had been seen ten times before, and well nine times: a few polls prove little
EXPECTED_MS_MIN = 60_000  # a feed that is read each second is not stale after two
FRESH, STALE = 2, 10  # in intervals of the feed: up to the first it is fresh, from the second on it is not at all
LAG_HALF_MS = 6 * 3_600_000  # stock that is told so late is worth half


class Score(NamedTuple):
    """`value`: the product of the parts."""

    value: float
    answered: float
    accepted: float
    consistent: float
    timely: float
    fresh: float


def score(health: FeedHealth, now_ms: int) -> Score:
    """Of one feed, as of now."""
    seen = health.window(now_ms)
    answered = share(seen.polls - seen.failures - seen.held_back, seen.polls)
    accepted = share(seen.rows - seen.rejected, seen.rows)
    consistent = share(seen.rows - seen.corrections, seen.rows)
    mean_ms = seen.lag_ms / seen.documents if seen.documents else 0.0
    timely = 1 / (1 + mean_ms / LAG_HALF_MS)
    fresh = freshness(health, now_ms)
    return Score(answered * accepted * consistent * timely * fresh, answered, accepted, consistent, timely, fresh)


def share(good: int, of: int) -> float:
    """Of what was seen; drawn towards nine in ten while that is little."""
    return (max(good, 0) + PRIOR_GOOD) / (of + PRIOR)


def freshness(health: FeedHealth, now_ms: int) -> float:
    """1 up to two intervals after the last poll that went well, 0 from ten on, and in between on a line."""
    if not health.polled_at:
        return 0.0
    intervals = (now_ms - health.polled_at) / max(health.expected_ms, EXPECTED_MS_MIN)
    return min(1.0, max(0.0, (STALE - intervals) / (STALE - FRESH)))


def by_supplier(feeds: Iterable[FeedHealth], now_ms: int) -> dict[str, list[FeedHealth]]:
    """Feeds by their supplier; without those of which nothing has been told for long: nobody runs them any more."""
    found: dict[str, list[FeedHealth]] = {}
    for health in feeds:
        if now_ms - health.at_ms <= HOURS * HOUR_MS + STALE * health.expected_ms:
            found.setdefault(health.feed.partition("/")[0], []).append(health)
    return found


def lowest(feeds: Iterable[FeedHealth], now_ms: int) -> float | None:
    """A supplier's score, to four places; None without feeds."""
    return min((round(score(each, now_ms).value, 4) for each in feeds), default=None)
