"""One feed at work: polls its source, takes each document to Kafka, writes how far it has come, waits, again.

Invariant: progress is written after what it stands for, and never ahead of it. Run as a task by `supervisor`; whatever
fails here is this feed's own matter, but for `Fatal`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from random import Random
from typing import Literal

import msgspec
import structlog

from connectors.configuration.load import Feed
from connectors.configuration.models import Snapshot
from connectors.documents import Document, Source
from connectors.runner.blocks import guarded
from connectors.runner.intake import Intake, Stopped, Taken
from connectors.runner.pace import Pace
from connectors.runner.progress import Held, Keeper, Progress
from connectors.runner.snapshot import Comparison, Group, spool
from connectors.runner.watch import Watch
from stockweave import metrics
from stockweave.errors import Rejected, Retriable
from stockweave.world import Clock

log = structlog.get_logger(__name__)

PASSED_MAX = 100  # of snapshots that waited; older ones would be looked at again


class FeedRun:
    """One feed.

    Args:
        feed: its configuration.
        source: opened for it; closed at the end.
        intake: what its documents go through.
        keeper: what is kept of it.
        watch: of its fields.
        clock: of the rhythm.
    """

    def __init__(self, feed: Feed, source: Source, intake: Intake, keeper: Keeper, watch: Watch, clock: Clock) -> None:
        self.feed = feed
        self._source = source
        self._intake = intake
        self._keeper = keeper
        self._watch = watch
        self._clock = clock
        self._pace = Pace(feed.config.poll, Random(feed.whole_name))  # noqa: S311 - jitter
        self._stopping = asyncio.Event()
        self._ordered = asyncio.Event()

    def stop(self) -> None:
        """End after the rows that are on their way."""
        self._stopping.set()

    def hear_order(self) -> None:
        """A person has decided what becomes of a snapshot: do not wait for the next poll."""
        self._ordered.set()

    async def run(self) -> None:
        """Until `stop`.

        Raises:
            Fatal: the process has to be started again.
        """
        name = self.feed.whole_name
        try:
            await self._until_ready()
            while not self._stopping.is_set():
                began_s = self._clock.monotonic_s()
                self._ordered.clear()
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

    async def _until_ready(self) -> None:
        """Until what mapping needs is there, or the feed is to stop."""
        waits = [asyncio.create_task(self._intake.ready()), asyncio.create_task(self._stopping.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    @property
    def _progress(self) -> Progress:
        return self._keeper.kept.progress

    async def _poll(self) -> float:
        """One; seconds from its beginning to that of the next."""
        sum_ = Taken()
        snapshot = self.feed.config.snapshot
        async with contextlib.aclosing(guarded(self._source.read(self._progress.state))) as documents:
            if snapshot is not None:
                with self._intake.same_skus():
                    await self._read_snapshots(documents, snapshot, sum_)
            else:
                async for document in documents:
                    await self._take(document, sum_)
                    state = self._progress.state if document.after is None else document.after
                    await self._keep(Progress(feed=self.feed.whole_name, state=state))
        return self._pace.polled(changed=sum_.updates > 0, lowest=sum_.lowest)

    async def _take(self, document: Document, sum_: Taken) -> None:
        name, is_same = self.feed.whole_name, document.origin == self._progress.origin
        taken = await self._intake.take(
            document,
            self._progress.rows if is_same else 0,
            lambda rows: self._on_done(document, rows),
            lambda: not self._stopping.is_set(),
        )
        await self._watch.look(document.origin, self._clock.now_ms())
        metrics.FEED_ROWS.labels(name, "update").inc(taken.updates)
        metrics.FEED_ROWS.labels(name, "dead_letter").inc(taken.letters)
        sum_.updates += taken.updates
        sum_.lowest = min((units for units in (sum_.lowest, taken.lowest) if units is not None), default=None)

    async def _read_snapshots(self, documents: AsyncGenerator[Document, None], snapshot: Snapshot, sum_: Taken) -> None:
        """Each file is one, or all of a poll."""
        is_each = self.feed.config.source.is_document_whole
        group = Group()
        try:
            async for document in documents:
                if await self._is_settled(document):
                    continue
                group.spooled.append(await spool(document))
                try:
                    await self._survey(group, document)
                except Rejected:
                    if not is_each:
                        raise
                    await self._keep(Progress(feed=self.feed.whole_name, state=document.after or {}))
                    group = group.done()
                    continue
                if is_each:
                    await self._take_snapshot(group, snapshot, sum_)
                    group = group.done()
            if group.spooled:
                await self._take_snapshot(group, snapshot, sum_)
        finally:
            group.done()

    async def _survey(self, group: Group, document: Document) -> None:
        again = group.spooled[-1].again()
        try:
            group.offers.join(await self._intake.survey(again))
        except Rejected:
            await self._watch.look(document.origin, self._clock.now_ms())
            raise
        await self._watch.look(document.origin, self._clock.now_ms())
        document.rows = again.rows

    async def _is_settled(self, document: Document) -> bool:
        """Whether a file is a snapshot that is held back, and waits or is dropped."""
        held, order = self._progress.held, self._keeper.kept.order
        if held is None or document.origin not in (held.origin, *held.passed):
            return False
        if order is None or order.origin != held.origin or document.origin in held.passed:
            return True
        if order.do == "drop":
            await self._keep(Progress(feed=self.feed.whole_name, state=document.after or {}))
        return order.do == "drop"

    async def _take_snapshot(self, group: Group, snapshot: Snapshot, sum_: Taken) -> None:
        name, first = self.feed.whole_name, group.spooled[0].document
        compared = await asyncio.to_thread(Comparison, snapshot, self._keeper.kept.offers, group.offers)
        verdict = compared.verdict
        if verdict.why is not None and not self._is_released(first):
            held = Held(
                origin=first.origin,
                passed=self._passed(),
                why=verdict.why,
                known=verdict.known,
                missing=verdict.missing,
                changed=verdict.changed,
                at_ms=self._clock.now_ms(),
            )
            log.warning("snapshot_held_back", feed=name, origin=first.origin, why=verdict.why)
            await self._keep(msgspec.structs.replace(self._progress, held=held))
            return
        for each in group.spooled:
            await self._take(each.again(), sum_)
        for updates in compared.withdrawals(self.feed.supplier, f"{name}@{self.feed.config.mapping.version}", first):
            await self._intake.send(updates)
            metrics.FEED_ROWS.labels(name, "missing").inc(len(updates))
            sum_.updates += len(updates)
        await self._keeper.keep_offers(compared.kept)
        state = next((s.document.after for s in group.spooled if s.document.after is not None), self._progress.state)
        await self._keep(Progress(feed=name, state=state))

    def _passed(self) -> list[str]:
        """The files that waited until another one came that has to wait."""
        held = self._progress.held
        if held is None or not self.feed.config.source.is_document_whole:
            return []
        return [*held.passed, held.origin][-PASSED_MAX:]

    def _is_released(self, first: Document) -> bool:
        """Whether a person has let go of what is held back; of polls, the next one is meant."""
        held, order = self._progress.held, self._keeper.kept.order
        if held is None or order is None or order.origin != held.origin or order.do != "release":
            return False
        return first.origin == held.origin or not self.feed.config.source.is_document_whole

    async def _on_done(self, document: Document, rows: int) -> None:
        await self._keep(msgspec.structs.replace(self._progress, origin=document.origin, rows=rows))

    async def _keep(self, progress: Progress) -> None:
        await self._keeper.keep(msgspec.structs.replace(progress, at_ms=self._clock.now_ms()))

    async def _rest(self, seconds: float) -> None:
        """Until the next poll is due, the source has news, a person gives an order, or the feed is to stop."""
        waits = {asyncio.create_task(self._stopping.wait()), asyncio.create_task(self._ordered.wait())}
        if not self._pace.failures:
            waits.add(asyncio.create_task(self._news()))
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)

    async def _news(self) -> Literal[True]:
        """As the source tells. One that cannot tell is polled all the same."""
        try:
            await self._source.news()
        except (Retriable, Rejected, OSError) as why:
            log.warning("feed_is_not_watched", feed=self.feed.whole_name, why=str(why))
            await asyncio.Event().wait()
        return True
