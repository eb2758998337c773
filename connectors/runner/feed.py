"""One feed at work: polls its source, takes each document to Kafka, writes how far it has come, waits, again.

Invariant: progress is written after what it stands for, and never ahead of it. Run as a task by `supervisor`; whatever
fails here is this feed's own matter, but for `Fatal`; and its supplier's, which its `Breaker` then leaves alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator
from random import Random
from typing import Literal

import msgspec
import structlog

from connectors.configuration.load import Feed
from connectors.configuration.models import Snapshot
from connectors.credentials import secret
from connectors.documents import Document, Source
from connectors.runner.breaker import Breaker, State
from connectors.runner.health import Tally
from connectors.runner.intake import Intake, Stopped, Taken
from connectors.runner.pace import Pace
from connectors.runner.parked import Parked
from connectors.runner.progress import Held, Keeper, Progress
from connectors.runner.snapshot import Comparison, Group, spool
from connectors.runner.supplied import Supplied
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
        breaker: of its supplier; a feed that asks nobody has one of its own.
        clock: of the rhythm.
        parked: its rows that wait for the map of SKUs; None: it has none that come back.
    """

    def __init__(
        self, feed: Feed, source: Source, intake: Intake, keeper: Keeper, watch: Watch, breaker: Breaker, clock: Clock,
        parked: Parked | None = None,
    ) -> None:  # fmt: skip
        self.feed = feed
        self._source = source
        self._intake = intake
        self._keeper = keeper
        self._breaker = breaker
        self._tally = Tally(feed, keeper, clock)
        self._watch = watch
        self._clock = clock
        self._parked = parked
        self._pace = Pace(feed.config.poll, Random(feed.whole_name))  # noqa: S311 - jitter
        self._stopping = asyncio.Event()
        self._ordered = asyncio.Event()
        self._is_removed = False

    def stop(self, *, is_removed: bool = False) -> None:
        """End after the rows that are on their way. `is_removed`: for good, for it is configured no more."""
        self._is_removed = is_removed
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
        self._breaker.join(name)
        telling = asyncio.create_task(self._tally.run())
        try:
            await self._until_ready()
            if self._parked is not None:
                self._parked.start()
            while not self._stopping.is_set():
                self._ordered.clear()
                pause_s = self._breaker.wait_s(name)
                self._tally.hear(self._breaker.state)
                if not pause_s:
                    pause_s = await self._attempt()
                    self._tally.hear(self._breaker.state)
                    if self._breaker.state is not State.CLOSED:
                        continue  # it says when
                await self._rest(pause_s)
        except Stopped:
            pass  # in the midst of a document
        finally:
            self._breaker.leave(name)
            if self._parked is not None:
                self._parked.stop()
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling
            await self._source.close()
            await (self._tally.forget() if self._is_removed else self._tally.tell_last())

    async def _attempt(self) -> float:
        """One poll, whatever comes of it; seconds until the next.

        Raises:
            Stopped: the feed is to stop.
        """
        name, began_s = self.feed.whole_name, self._clock.monotonic_s()
        supplied = Supplied(lambda: self._breaker.answered(name))
        try:
            pause_s = await self._poll(supplied) - (self._clock.monotonic_s() - began_s)
        except (Retriable, Rejected) as why:
            at_least_s = why.retry_after_s if isinstance(why, Retriable) else 0
            if supplied.has_failed:
                self._breaker.failed(name, at_least_s)
            elif isinstance(why, Rejected):
                self._breaker.answered(name)
            else:
                self._breaker.no_verdict(name)
            self._tally.failed(by_supplier=supplied.has_failed or isinstance(why, Rejected))
            pause_s = self._pace.failed(at_least_s)
            log.warning("feed_failed", feed=name, why=str(why), in_a_row=self._pace.failures, again_s=pause_s)
        else:
            self._breaker.answered(name)
            self._tally.polled()
        return max(pause_s, 0.0)

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

    async def _poll(self, supplied: Supplied) -> float:
        """One; seconds from its beginning to that of the next."""
        sum_ = Taken()
        snapshot = self.feed.config.snapshot
        await secret.ready(self.feed.config)
        async with contextlib.aclosing(supplied.documents(self._source.read(self._progress.state))) as documents:
            if snapshot is not None:
                with self._intake.same_skus():
                    await self._read_snapshots(documents, snapshot, sum_)
            else:
                async for document in documents:
                    await self._take(document, sum_)
                    is_past = sum_.is_whole or self.feed.config.source.is_document_whole  # else it is asked for again
                    state = document.after if is_past and document.after is not None else self._progress.state
                    await self._keep(Progress(feed=self.feed.whole_name, state=state))
        return self._pace.polled(changed=sum_.updates > 0, lowest=sum_.lowest)

    async def _take(self, document: Document, sum_: Taken) -> None:
        is_same = document.origin == self._progress.origin
        taken = await self._intake.take(
            document,
            self._progress.rows if is_same else 0,
            lambda rows: self._on_done(document, rows),
            lambda: not self._stopping.is_set(),
        )
        self._tally.took(taken)
        await self._watch.look(document.origin, self._clock.now_ms())
        sum_.updates += taken.updates
        sum_.is_whole = sum_.is_whole and taken.is_whole
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
                    self._tally.took(Taken(letters=1))
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
            self._tally.held_back()
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
        """Until the next poll is due, or there is a reason to look sooner; meanwhile, parked rows are brought back."""
        until_s = self._clock.monotonic_s() + seconds
        if self._parked is not None and self._parked.due.is_set():
            await self._parked.step()  # at least one, however little time there is
        while await self._wait(until_s - self._clock.monotonic_s()) and self._parked is not None:
            await self._parked.step()

    async def _wait(self, seconds: float) -> bool:
        """Whether it ended for parked rows alone.

        Else the poll is due, the source has news, a person gives an order, the supplier's breaker has changed, or the
        feed is to stop.
        """
        is_well = self._pace.failures == 0 and self._breaker.state is State.CLOSED
        events = [self._stopping, self._ordered] + ([] if is_well else [self._breaker.changed])
        waits: set[asyncio.Task[Literal[True]]] = {asyncio.create_task(event.wait()) for event in events}
        parked = None if self._parked is None else asyncio.create_task(self._parked.due.wait())
        if parked is not None:
            waits.add(parked)
        if is_well:
            waits.add(asyncio.create_task(self._news()))
        try:
            done, _ = await asyncio.wait(
                waits, timeout=None if seconds == math.inf else seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
        return done == {parked}

    async def _news(self) -> Literal[True]:
        """As the source tells. One that cannot tell is polled all the same."""
        try:
            await self._source.news()
        except (Retriable, Rejected, OSError) as why:
            log.warning("feed_is_not_watched", feed=self.feed.whole_name, why=str(why))
            await asyncio.Event().wait()
        return True
