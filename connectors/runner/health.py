"""What happens to a feed, counted for its health, and told to inventory.feeds now and then.

Invariant: telling is never in the way of the rows: it has a task of its own, at most one record is on its way, and a
Kafka that does not take it is asked again with the next one. What the last seconds before a kill came to is lost; the
rows are not. Made by `supervisor`, used by `feed`.
"""

from __future__ import annotations

import asyncio

import structlog

from connectors.configuration.load import Feed
from connectors.runner.breaker import State
from connectors.runner.intake import Taken
from connectors.runner.progress import Keeper
from inventory.reliability import score
from schemas.feed_health import FeedHealth, Hour
from stockweave import metrics
from stockweave.errors import Retriable
from stockweave.world import Clock

log = structlog.get_logger(__name__)

EVERY_S = 5.0  # between two records of a feed


class Tally:
    """Of one feed.

    Args:
        feed: its configuration.
        keeper: has its health so far, and writes it.
        clock: ours.
    """

    def __init__(self, feed: Feed, keeper: Keeper, clock: Clock) -> None:
        poll = feed.config.poll
        self._name = feed.whole_name
        self._keeper = keeper
        self._clock = clock
        self.health = keeper.kept.health or FeedHealth(feed=self._name)
        self.health.expected_ms = int((poll.slowest_s or poll.every_s) * 1_000)
        self._news = asyncio.Event()

    def polled(self) -> None:
        """A poll went well."""
        hour = self._hour()
        hour.polls += 1
        self.health.polled_at = self._clock.now_ms()
        metrics.FEED_POLLS.labels(self._name, "ok").inc()
        metrics.FEED_POLLED_AT.labels(self._name).set(self.health.polled_at / 1_000)
        self._news.set()

    def failed(self, *, by_supplier: bool) -> None:
        """A poll did not. What is a fault of ours says nothing of the supplier."""
        if by_supplier:
            hour = self._hour()
            hour.polls += 1
            hour.failures += 1
        metrics.FEED_POLLS.labels(self._name, "failed").inc()
        self._news.set()

    def took(self, taken: Taken) -> None:
        """Kafka has a document."""
        hour, now_ms = self._hour(), self._clock.now_ms()
        hour.rows += taken.updates + taken.letters
        hour.rejected += taken.letters
        hour.corrections += taken.corrections
        if taken.updates + taken.letters:
            self.health.rows_at = now_ms
        if taken.newest is not None:
            lag_ms = max(0, now_ms - taken.newest)  # a supplier whose clock is ahead of ours is not faster for it
            hour.documents += 1
            hour.lag_ms += lag_ms
            hour.lag_ms_max = max(hour.lag_ms_max, lag_ms)
            hour.ahead_ms_max = max(hour.ahead_ms_max, taken.ahead_ms)
        metrics.FEED_ROWS.labels(self._name, "update").inc(taken.updates)
        metrics.FEED_ROWS.labels(self._name, "dead_letter").inc(taken.letters)
        metrics.FEED_CORRECTIONS.labels(self._name).inc(taken.corrections)
        self._news.set()

    def held_back(self) -> None:
        """A snapshot waits for a person."""
        self._hour().held_back += 1
        metrics.FEED_HELD_BACK.labels(self._name).inc()
        self._news.set()

    def hear(self, state: State) -> None:
        """Of the supplier's breaker."""
        metrics.FEED_BREAKER.labels(self._name).set(tuple(State).index(state))
        if state.value != self.health.breaker:
            self.health.breaker = state.value
            self._news.set()

    async def run(self) -> None:
        """Tell what is new, not more often than every `EVERY_S`, until it is cancelled."""
        while True:
            await self._news.wait()
            await self.tell()
            await asyncio.sleep(EVERY_S)

    async def tell(self) -> None:
        """Write what is new; what Kafka does not take is told with the next."""
        if not self._news.is_set():
            return
        self._news.clear()
        now_ms = self._clock.now_ms()
        seen, self.health.at_ms = self.health.window(now_ms), now_ms
        metrics.FEED_SCORE.labels(self._name).set(score(self.health, now_ms).value)
        metrics.FEED_LAG.labels(self._name).set(seen.lag_ms / max(seen.documents, 1) / 1_000)
        try:
            await self._keeper.keep_health(self.health)
        except Retriable as why:
            self._news.set()
            log.info("health_not_told", feed=self._name, why=str(why))

    async def tell_last(self) -> None:
        """Before another process may take the feed over."""
        self._news.set()
        await self.tell()

    async def forget(self) -> None:
        """The feed is no more: neither is its health."""
        try:
            await self._keeper.keep_health(None)
        except Retriable as why:
            log.warning("health_not_forgotten", feed=self._name, why=str(why))

    def _hour(self) -> Hour:
        return self.health.of_now(self._clock.now_ms())
