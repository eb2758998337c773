"""Watches one feed's fields for drift: tallies what it reads, and tells what changed once a document is through.

Invariant: what is told is in Kafka before it is forgotten: alerts are written before the profile that expects what they
tell of; who dies between tells them again, with the same ids. The tally of less than `at_least` rows waits for more,
and is gone with the process. Fed by `intake` in its thread, asked by `feed` between documents.
"""

from __future__ import annotations

import structlog

from connectors.configuration.load import Feed
from connectors.formats.rows import NoSuchColumn, Rows
from connectors.mapping.drift import Change, Profile, Seen, columns_changed, compare, learn, tell
from connectors.mapping.profile import Tally
from connectors.runner.progress import Keeper
from stockweave import metrics

log = structlog.get_logger(__name__)

WRITTEN_MS = 600_000  # so often a profile is written that only became surer


class Watch:
    """Of one feed.

    Args:
        feed: checked.
        keeper: what is kept of it.
    """

    def __init__(self, feed: Feed, keeper: Keeper) -> None:
        self._feed = feed
        self._config = feed.config.drift
        self._keeper = keeper
        self._tally = Tally(feed.config.mapping)
        self._lacking: NoSuchColumn | None = None
        version, kept = feed.config.mapping.version, keeper.kept.profile
        if kept is None or kept.version != version:
            kept = Profile(version=version, number=0 if kept is None else kept.number)
        self._profile = kept
        self._written_ms = self._profile.at_ms

    def see(self, rows: Rows) -> None:
        """Rows that were read."""
        if self._config.watch:
            self._tally.add(rows)

    def refused(self, why: Exception) -> None:
        """A document was refused: a table whose columns are other ones tells which there are."""
        if self._config.watch and isinstance(why, NoSuchColumn):
            self._lacking = why

    async def look(self, origin: str, at_ms: int) -> None:
        """Tell what changed, if there are rows enough to say so; raises Retriable when Kafka is away."""
        if not self._config.watch:
            return
        before, tally = self._profile, self._tally
        changes: list[Change] = []
        profile = before
        if self._lacking is not None:
            changes += columns_changed(before, self._lacking.there)
            profile = learn(profile, _columns_alone(self._feed, self._lacking.there), changes, at_ms)
        columns_new = tally.columns is not None and tally.columns != profile.columns
        is_enough = tally.rows >= self._config.at_least
        if is_enough:
            found = compare(profile, tally, self._config.at_least)
            profile = learn(profile, tally, found, at_ms)
            changes += found
        elif columns_new and tally.columns is not None:
            found = list(columns_changed(profile, tally.columns))
            profile = learn(profile, _columns_alone(self._feed, tally.columns), found, at_ms)
            changes += found
        profile, alerts = tell(profile, changes, Seen(self._feed.whole_name, origin, at_ms))
        is_due = before.rows == 0 or at_ms - self._written_ms >= WRITTEN_MS
        if changes or columns_new or (is_enough and is_due):
            await self._keeper.keep_drift(alerts, profile)
            self._written_ms = at_ms
        self._profile, self._lacking = profile, None
        if is_enough:
            self._tally = Tally(self._feed.config.mapping)
        for alert in alerts:
            metrics.FEED_DRIFTS.labels(alert.feed, alert.change).inc()
            log.warning(
                "feed_drifted", feed=alert.feed, field=alert.field, change=alert.change, was=alert.was, now=alert.now,
                sample=alert.sample, origin=origin, alert_id=alert.alert_id,
            )  # fmt: skip


def _columns_alone(feed: Feed, columns: list[str]) -> Tally:
    tally = Tally(feed.config.mapping)
    tally.columns = columns
    return tally
