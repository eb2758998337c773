"""One feed at work: polls its source, takes each document to Kafka, writes how far it has come, waits, again.

Invariant: progress is written after what it stands for, and never ahead of it. Run as a task by `supervisor`; whatever
fails here is this feed's own matter, but for `Fatal`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import msgspec
import structlog

from connectors.configuration.load import Feed
from connectors.documents import Document, Source
from connectors.runner.intake import Intake, Stopped, Taken
from connectors.runner.pace import Pace
from connectors.runner.progress import Progress
from stockweave import metrics
from stockweave.errors import Rejected, Retriable
from stockweave.world import Clock

log = structlog.get_logger(__name__)

Write = Callable[[Progress], Awaitable[None]]


class FeedRun:
    """One feed.

    Args:
        feed: its configuration.
        source: opened for it; closed at the end.
        intake: what its documents go through.
        progress: how far it had come.
        write: keeps a progress.
        clock: of the rhythm.
    """

    def __init__(
        self, feed: Feed, source: Source, intake: Intake, progress: Progress, write: Write, clock: Clock
    ) -> None:
        self.feed = feed
        self._source = source
        self._intake = intake
        self._progress = progress
        self._write = write
        self._clock = clock
        self._pace = Pace(feed.config.poll, Random(feed.whole_name))  # noqa: S311 - jitter
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after the rows that are on their way."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`.

        Raises:
            Fatal: the process has to be started again.
        """
        name = self.feed.whole_name
        try:
            while not self._stopping.is_set():
                began_s = self._clock.monotonic_s()
                try:
                    pause_s = await self._poll() - (self._clock.monotonic_s() - began_s)
                    metrics.FEED_POLLS.labels(name, "ok").inc()
                    metrics.FEED_POLLED_AT.labels(name).set(self._clock.now_ms() / 1_000)
                except Stopped:
                    break
                except (Retriable, Rejected) as why:
                    pause_s = self._pace.failed(why.retry_after_s if isinstance(why, Retriable) else 0)
                    metrics.FEED_POLLS.labels(name, "failed").inc()
                    log.warning("feed_failed", feed=name, why=str(why), in_a_row=self._pace.failures, again_s=pause_s)
                await self._rest(max(pause_s, 0.0))
        finally:
            await self._source.close()

    async def _poll(self) -> float:
        """One; seconds from its beginning to that of the next."""
        changed, lowest = False, None
        async with contextlib.aclosing(self._source.read(self._progress.state)) as documents:
            async for document in documents:
                taken = await self._take(document)
                changed = changed or taken.updates > 0
                lowest = min((units for units in (lowest, taken.lowest) if units is not None), default=None)
        return self._pace.polled(changed=changed, lowest=lowest)

    async def _take(self, document: Document) -> Taken:
        name, is_same = self.feed.whole_name, document.origin == self._progress.origin
        taken = await self._intake.take(
            document,
            self._progress.rows if is_same else 0,
            lambda rows: self._on_done(document, rows),
            lambda: not self._stopping.is_set(),
        )
        metrics.FEED_ROWS.labels(name, "update").inc(taken.updates)
        metrics.FEED_ROWS.labels(name, "dead_letter").inc(taken.letters)
        state = self._progress.state if document.after is None else document.after
        await self._keep(Progress(feed=name, state=state))
        return taken

    async def _on_done(self, document: Document, rows: int) -> None:
        await self._keep(msgspec.structs.replace(self._progress, origin=document.origin, rows=rows))

    async def _keep(self, progress: Progress) -> None:
        progress = msgspec.structs.replace(progress, at_ms=self._clock.now_ms())
        await self._write(progress)
        self._progress = progress

    async def _rest(self, seconds: float) -> None:
        """Until the next poll is due, the source has news, or the feed is to stop."""
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._stopping.wait())]
        if not self._pace.failures:
            waits.append(asyncio.ensure_future(self._source.news()))
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
