"""Runs the feeds that are leased to this process, each as a task of its own; follows leases and configuration.

Invariant: a feed runs here only while its partition is leased to this process, and once. A supplier's feeds share his
budget and breaker, and are all in one partition, so there is one of each whatever the number of processes. Made by
`process`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

import structlog

from connectors.budget import Budget, Limits
from connectors.configuration.load import Feed, Loaded
from connectors.documents import Kind, Surroundings
from connectors.inbound.inbox import Inbox
from connectors.publisher import Publisher
from connectors.runner.breaker import Breaker
from connectors.runner.feed import FeedRun
from connectors.runner.intake import Intake
from connectors.runner.leases import HANDOVER_S, Broken, Event, Granted, Ordered, Revoked
from connectors.runner.letter_log import LetterLog
from connectors.runner.parked import Parked
from connectors.runner.progress import Keeper, Kept, Progress
from connectors.runner.skus import SkuFollower
from connectors.runner.watch import Watch
from schemas.codec import Codec
from schemas.keys import feed_partition
from stockweave import metrics
from stockweave.errors import Fatal
from stockweave.world import Clock

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Outlets:
    """Where things go: updates, dead letters, progress; all started. `log`: where dead letters are read again."""

    updates: Publisher
    letters: Publisher
    progress: Publisher
    codec: Codec
    log: LetterLog


@dataclass
class _Running:
    run: FeedRun
    task: asyncio.Task[None]
    feed: Feed


class Supervisor:
    """All feeds of this process.

    Args:
        kinds: by name.
        outlets: for what they read.
        partitions: of inventory.feeds.
        clock: for all of them.
        inbox: what suppliers sent to us.
        skus: follows the map of SKUs.
    """

    def __init__(
        self, kinds: Mapping[str, Kind], outlets: Outlets, partitions: int, clock: Clock, inbox: Inbox | None = None,
        skus: SkuFollower | None = None,
    ) -> None:  # fmt: skip
        self._kinds = kinds
        self._outlets = outlets
        self._partitions = partitions
        self._clock = clock
        self._inbox = inbox
        self._skus = skus
        self._loaded = Loaded({}, {}, [], {})
        self._budgets: dict[str, tuple[Limits, Budget]] = {}
        self._breakers: dict[str, Breaker] = {}
        self._kept: dict[str, Kept] = {}
        self._leased: set[int] = set()
        self._running: dict[str, _Running] = {}
        self._changing = asyncio.Lock()  # one change after the other: no feed is begun while it still ends
        self._broken: asyncio.Future[Fatal] = asyncio.get_running_loop().create_future()

    async def watch(self) -> None:
        """Raises `Fatal` when a feed, or the leases, say that the process has to be started again."""
        raise await asyncio.shield(self._broken)

    async def configure(self, loaded: Loaded) -> None:
        """Go on with another configuration: what of it is the same runs on."""
        async with self._changing:
            self._loaded = loaded
            await self._stop([name for name, running in self._running.items() if not self._is_same(running)])
            self._start()

    async def hear(self, event: Event) -> None:
        """What the leases tell."""
        async with self._changing:
            match event:
                case Granted(partition, kept):
                    self._leased.add(partition)
                    self._kept.update(kept)
                    self._start()
                case Revoked(partitions, done):
                    self._leased.difference_update(partitions)
                    await self._stop([name for name in self._running if self._partition(name) in partitions])
                    done.set()
                case Ordered(name, order):
                    self._kept.setdefault(name, Kept(Progress(feed=name))).order = order
                    if name in self._running:
                        self._running[name].run.hear_order()
                case Broken(why):
                    self._break(why)

    async def stop(self) -> None:
        """All feeds, each after the rows that are on their way."""
        async with self._changing:
            await self._stop(list(self._running))

    def _start(self) -> None:
        """What is leased, configured, and does not run."""
        for name, feed in self._loaded.feeds.items():
            if name in self._running or self._partition(name) not in self._leased:
                continue
            config = feed.config
            around = Surroundings(
                config.mapping.version, self._clock, self._budget(feed.supplier), feed=name, inbox=self._inbox
            )
            source = self._kinds[config.source.kind].open(config.source, around)
            kept = self._kept.setdefault(name, Kept(Progress(feed=name)))
            keeper = Keeper(name, kept, self._outlets.progress, self._partitions)
            watch = Watch(feed, keeper)
            out = self._outlets
            intake = Intake(feed, out.updates, out.letters, out.codec, watch, self._skus)
            parked = self._parked(feed, intake, keeper)
            run = FeedRun(feed, source, intake, keeper, watch, self._breaker(feed), self._clock, parked)
            task = asyncio.create_task(run.run(), name=name)
            task.add_done_callback(self._on_end)
            self._running[name] = _Running(run, task, feed)
            log.info("feed_started", feed=name, goes_on_with=kept.progress.origin, after_rows=kept.progress.rows)
        metrics.FEEDS_RUNNING.set(len(self._running))

    def _parked(self, feed: Feed, intake: Intake, keeper: Keeper) -> Parked | None:
        rule = feed.config.mapping.sku_map
        if self._skus is None or rule is None or rule.unknown != "park" or feed.config.snapshot is not None:
            return None
        return Parked(feed, self._outlets.log, intake, keeper, self._skus)

    async def _stop(self, names: list[str]) -> None:
        stopping = [self._running.pop(name) for name in names]
        for each in stopping:
            each.run.stop(is_removed=each.feed.whole_name not in self._loaded.feeds)
        if stopping:
            await asyncio.wait([each.task for each in stopping], timeout=HANDOVER_S / 2)
        for each in stopping:
            each.task.cancel()  # one that waits for its supplier; Kafka has what its progress says
        await asyncio.gather(*(each.task for each in stopping), return_exceptions=True)
        metrics.FEEDS_RUNNING.set(len(self._running))

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._break(error if isinstance(error, Fatal) else Fatal(f"feed {task.get_name()} broke: {error!r}"))

    def _break(self, why: Fatal) -> None:
        if not self._broken.done():
            self._broken.set_result(why)

    def _budget(self, supplier: str) -> Budget:
        """One for all feeds of a supplier; it lives on as long as its limits are the same."""
        limits = self._loaded.limits[supplier]
        known = self._budgets.get(supplier)
        if known is None or known[0] != limits:
            known = self._budgets[supplier] = (limits, Budget(limits, self._clock))
        return known[1]

    def _breaker(self, feed: Feed) -> Breaker:
        """One for all feeds that ask a supplier's server; it lives on, as what is down stays so."""
        new = Breaker(self._clock, Random(feed.whole_name))  # noqa: S311 - jitter
        return self._breakers.setdefault(feed.supplier, new) if feed.config.source.asks_supplier else new

    def _is_same(self, running: _Running) -> bool:
        """Whether a feed is to run as it does."""
        feed, known = running.feed, self._budgets[running.feed.supplier]
        return self._loaded.feeds.get(feed.whole_name) == feed and self._loaded.limits[feed.supplier] == known[0]

    def _partition(self, name: str) -> int:
        return feed_partition(name, self._partitions)
