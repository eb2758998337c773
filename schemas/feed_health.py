"""What a feed's health is made of, as `inventory.feeds` keeps it under `supplier/feed#health`: counts by the hour.

Invariant: at most `HOURS` hours, so a record stays small. The process that runs the feed writes it, whoever takes the
feed over goes on with it; the API reads it, and `inventory.reliability` makes a score of it. Times are of our clocks,
in ms since the epoch; a supplier's clock has a say only in lag and `ahead_ms`.
"""

from __future__ import annotations

import msgspec

MARK = "#health"
HOUR_MS = 3_600_000
HOURS = 24  # the current one, which is not over, and those before it


class Hour(msgspec.Struct, kw_only=True):
    """What happened within an hour. `hour`: since the epoch.

    `polls`: that were ended, `failures`: of these by the supplier. `held_back`: snapshots. `rows`: that Kafka has as
    updates or as dead letters, `rejected`: as dead letters. `corrections`: rows with another count for a SKU than
    the supplier gave before, for the same time. `documents`: with rows that became updates; of these `lag_ms`: from
    the newest `observed_at` until Kafka had all of the document, added up; `lag_ms_max`; `ahead_ms_max`: by how much an
    `observed_at` was later than its receipt.
    """

    hour: int
    polls: int = 0
    failures: int = 0
    held_back: int = 0
    rows: int = 0
    rejected: int = 0
    corrections: int = 0
    documents: int = 0
    lag_ms: int = 0
    lag_ms_max: int = 0
    ahead_ms_max: int = 0


class FeedHealth(msgspec.Struct, kw_only=True):
    """Of one feed.

    `expected_ms`: the longest that its rhythm lets pass between two polls. `polled_at`: when it was last read without a
    failure; `rows_at`: when rows of it last reached Kafka; 0: never. `breaker`: of its supplier, in the process that
    runs the feed. `at_ms`: when this was written. `hours`: the oldest first; hours without anything are not there.
    """

    feed: str
    expected_ms: int = 0
    polled_at: int = 0
    rows_at: int = 0
    breaker: str = "CLOSED"
    at_ms: int = 0
    hours: list[Hour] = []

    def of_now(self, now_ms: int) -> Hour:
        """The hour that is now, to be counted in; forgets those that are out of the window."""
        hour = now_ms // HOUR_MS
        self.hours = [each for each in self.hours if each.hour > hour - HOURS]
        if not self.hours or self.hours[-1].hour < hour:
            self.hours.append(Hour(hour=hour))
        return self.hours[-1]

    def window(self, now_ms: int) -> Hour:
        """All hours of the window as one."""
        oldest = now_ms // HOUR_MS - HOURS
        within = [each for each in self.hours if each.hour > oldest]
        total = Hour(hour=now_ms // HOUR_MS)
        for each in within:
            for name in _ADDED:
                setattr(total, name, getattr(total, name) + getattr(each, name))
            total.lag_ms_max = max(total.lag_ms_max, each.lag_ms_max)
            total.ahead_ms_max = max(total.ahead_ms_max, each.ahead_ms_max)
        return total


_ADDED = ("polls", "failures", "held_back", "rows", "rejected", "corrections", "documents", "lag_ms")


def encode(health: FeedHealth) -> bytes:
    """As the record has it."""
    return msgspec.json.encode(health)


def decode(value: bytes) -> FeedHealth:
    """A record's value; raises msgspec.DecodeError if it is none."""
    return msgspec.json.decode(value, type=FeedHealth)
