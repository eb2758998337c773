"""The view: every partition of inventory.stock followed into local stores, for the routes to answer from.

One thread follows; one task on the event loop asks Kafka where the topic ends and whether it is still the same. While
Kafka is away the view goes on answering with what it has, and `heard_at_ms` says since when. Whatever ends either of
the two ends `run`, and so the process: a view that no longer follows must not answer as if it did.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from api.ends import Ends
from api.partition import ViewPartition
from api.waiters import Waiters
from schemas import keys
from schemas.admin import Deployed
from schemas.keys import partition_of
from schemas.rows import OUTCOMES, StockRow, decode_row
from schemas.topics import UPDATES
from state.follower import Follower, Progress
from stockweave import metrics
from stockweave.errors import Retriable
from stockweave.world import Clock, FollowerConsumer

log = structlog.get_logger(__name__)

RECORDS_MAX = 1_000  # in one step: it holds the interpreter for some milliseconds, in which no read is answered
STEP_WAIT_S = 0.1
ASK_EVERY_S = 1.0
GENERATION_EVERY = 5  # asks


class View:
    """Rows of all partitions.

    Args:
        topic: inventory.stock as deployed.
        partitions: the opened stores by number; `close` closes them.
        consumer: with `state.follower.follower_config`; `run` closes it.
        ends: of the same topic.
        clock: for ages.
    """

    def __init__(
        self,
        topic: Deployed,
        partitions: Sequence[ViewPartition],
        consumer: FollowerConsumer,
        ends: Ends,
        clock: Clock,
    ) -> None:
        self.topic = topic
        self.partitions = partitions
        self.heard_at_ms = 0  # when Kafka last told where the topic ends; the event loop's
        self.records_read = 0  # by the follower's thread, which alone writes it
        self.clock = clock
        self._ends = ends
        self._follower = Follower(consumer, topic.name, self._progressed)
        self._waiters = Waiters(self._next_update)
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def generation(self) -> str:
        """Of inventory.stock; every token that the API gives out carries it."""
        return self.topic.generation

    @property
    def caught_up(self) -> bool:
        """Whether every partition can be read."""
        return all(partition.caught_up for partition in self.partitions)

    def row(self, sku: str) -> StockRow | None:
        """One row, None if the SKU is unknown.

        Raises:
            Retriable: its partition has not caught up.
        """
        key = sku.encode()
        [value] = self.partitions[partition_of(key, len(self.partitions))].read([key])
        return None if value is None else decode_row(value)

    def rows(self, skus: Sequence[str]) -> list[StockRow | None]:
        """Many rows in the order of `skus`, None for each unknown one; raises as `row`."""
        by_partition: dict[int, list[int]] = {}
        row_keys = [sku.encode() for sku in skus]
        for i, key in enumerate(row_keys):
            by_partition.setdefault(partition_of(key, len(self.partitions)), []).append(i)
        found: list[StockRow | None] = [None] * len(skus)
        for number, places in by_partition.items():
            values = self.partitions[number].read([row_keys[i] for i in places])
            for i, value in zip(places, values, strict=True):
                if value is not None:
                    found[i] = decode_row(value)
        return found

    async def wait_for(self, offsets: Mapping[int, int], timeout_s: float) -> None:
        """Wait until every given offset of inventory.updates, by partition, is folded and in the view.

        Raises:
            Retriable: that took longer than `timeout_s`.
        """
        if not await self._waiters.wait(offsets, timeout_s):
            behind = ", ".join(f"{p}-{o}" for p, o in offsets.items() if self._next_update(p) <= o)
            raise Retriable(
                f"the view has not passed min_offset {behind} within {timeout_s:g} s; try again, or watch /readyz"
            )

    def outcomes(self) -> dict[str, list[int]]:
        """Events folded so far by supplier, in the order of `OUTCOMES`."""
        sums: dict[str, list[int]] = {}
        for partition in self.partitions:
            position = partition.position
            for supplier, counts in {} if position is None else position.outcomes.items():
                total = sums.setdefault(supplier, [0] * len(OUTCOMES))
                for i, n in enumerate(counts):
                    total[i] += n
        return sums

    async def run(self) -> None:
        """Follow until `stop`.

        Raises:
            Fatal: following can never go on.
        """
        self._loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="follow")
        following = asyncio.ensure_future(self._loop.run_in_executor(thread, self._follow))
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait({watching, following}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping.set()
            watching.cancel()
            await asyncio.wait({watching, following})
            thread.shutdown()
        for task in (following, watching):
            if not task.cancelled():
                task.result()

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    def close(self) -> None:
        """Close the stores, flushed; after `run` has ended."""
        for partition in self.partitions:
            partition.close()

    def _progressed(self, progress: Progress) -> None:
        """The follower wrote something; on its thread."""
        partition = self.partitions[progress.partition]
        position = partition.position
        if keys.POSITION in progress.changed and position is not None and partition.caught_up:
            metrics.VISIBLE_SECONDS.observe(max(0, self.clock.now_ms() - position.oldest_received_at) / 1_000)
        if self._waiters.any(progress.partition) and self._loop is not None:
            self._loop.call_soon_threadsafe(self._waiters.wake, progress.partition)

    def _next_update(self, partition: int) -> int:
        return self.partitions[partition].next_update(UPDATES.name)

    def _follow(self) -> None:
        try:
            for partition in self.partitions:
                self._follower.add(partition.number, partition, self.clock.now_ms())
            while not self._stopping.is_set():
                read = self._follower.step(RECORDS_MAX, STEP_WAIT_S)
                self.records_read += read
                metrics.VIEW_RECORDS.inc(read)
                for partition in self.partitions:
                    target = partition.target
                    if not partition.caught_up and target is not None:
                        partition.caught_up = self._follower.ended_at(partition.number) >= target
        finally:
            self._follower.close()

    async def _watch(self) -> None:
        """Keep asking Kafka; a failed ask leaves everything as it was, and the next one comes in a second."""
        asked, away = 0, False
        while True:
            try:
                if away or asked % GENERATION_EVERY == 0:
                    await self._ends.check_generation()
                ends = await self._ends.ask()
            except Retriable as why:
                if not away:
                    log.warning("view_goes_on_without_kafka", why=str(why), heard_at_ms=self.heard_at_ms)
                away = True
            else:
                if away:
                    log.info("kafka_is_back")
                asked, away = asked + 1, False
                self.heard_at_ms = self.clock.now_ms()
                for partition in self.partitions:
                    partition.end = ends[partition.number]
                    partition.target = partition.end if partition.target is None else partition.target
            self._measure()
            await asyncio.sleep(ASK_EVERY_S)

    def _measure(self) -> None:
        for partition in self.partitions:
            label = str(partition.number)
            metrics.VIEW_LAG_RECORDS.labels(label).set(partition.lag)
            metrics.VIEW_ROWS.labels(label).set(partition.rows_estimate())
        by_supplier = self.outcomes().values()
        for i, outcome in enumerate(OUTCOMES):
            metrics.VIEW_EVENTS.labels(outcome).set(sum(counts[i] for counts in by_supplier))
        metrics.VIEW_HEARD_AT.set(self.heard_at_ms / 1_000)
