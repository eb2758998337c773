"""One generation of the rows, as the view holds it: its topic followed into local stores, on a thread of its own.

A task on the event loop asks Kafka where the topic ends and whether it is still the same. While Kafka is away the rows
stay as they are, and `heard_at_ms` says since when. Whatever ends either of the two ends `run`. Used by `api.view`.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import structlog

from api.ends import Ends
from api.partition import ViewPartition
from inventory.reservations.facts import PRESENT
from schemas.admin import Deployed
from schemas.keys import hold_key, order_prefix, partition_of
from schemas.reservations import Hold, decode_hold
from schemas.rows import OUTCOMES, StockRow, decode_row
from state.follower import Follower, Progress
from stockweave import metrics
from stockweave.errors import Retriable
from stockweave.world import Clock, FollowerConsumer

log = structlog.get_logger(__name__)

RECORDS_MAX = 1_000  # in one step: it holds the interpreter for some milliseconds, in which no read is answered
STEP_WAIT_S = 0.1
REST = 3  # what is not served is read for a quarter of the time at most; the answers have the interpreter for the rest
ASK_EVERY_S = 1.0
GENERATION_EVERY = 5  # asks


class GenerationView:
    """Rows of all partitions of one generation.

    Args:
        topic: of the generation, as deployed.
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
        self.unhurried = False  # a candidate's; the event loop writes
        self.on_progress: Callable[[Progress], None] | None = None  # called on the follower's thread
        self._clock = clock
        self._ends = ends
        self._follower = Follower(consumer, topic.name, self._progressed)
        self._stopping = threading.Event()
        self._readers = 0  # who may still read after another generation is served; the event loop's
        self._unread = asyncio.Event()
        self._unread.set()

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
        values = self._values(skus, [sku.encode() for sku in skus])
        return [None if value is None else decode_row(value) for value in values]

    def holds(self, names: Sequence[tuple[str, str]]) -> list[Hold | None]:
        """Holds by SKU, or none, and reservation id, in their order; None where there is none; raises as `row`."""
        values = self._values([sku or own_id for sku, own_id in names], [hold_key(*name) for name in names])
        return [None if value is None else decode_hold(value) for value in values]

    def holds_of(self, order_id: str, holds_max: int) -> list[Hold]:
        """Holds of an order but for lines, up to `holds_max` of them, in the order of their SKUs; raises as `row`."""
        prefix = order_prefix(order_id)
        found = [key for partition in self.partitions for key in partition.keys(prefix, PRESENT, holds_max)]
        names = [key[len(prefix) :].decode().split("\0") for key in sorted(found)[:holds_max]]
        return [hold for hold in self.holds([(sku, own_id) for sku, own_id in names]) if hold is not None]

    def _values(self, homes: Sequence[str], keys: Sequence[bytes]) -> list[bytes | None]:
        """What lies under each key, in the partition of what is at home there: a SKU, or a reservation of several."""
        by_partition: dict[int, list[int]] = {}
        for i, home in enumerate(homes):
            by_partition.setdefault(partition_of(home.encode(), len(self.partitions)), []).append(i)
        found: list[bytes | None] = [None] * len(keys)
        for number, places in by_partition.items():
            values = self.partitions[number].read([keys[i] for i in places])
            for i, value in zip(places, values, strict=True):
                found[i] = value
        return found

    def next_offset(self, topic: str, partition: int) -> int:
        """The first offset of a source topic, by catalogue name, that is not in the rows of a partition yet."""
        return self.partitions[partition].next_offset(topic)

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

    @contextmanager
    def read(self) -> Iterator[None]:
        """Keep the stores open within the block, which may outlive this generation's being served."""
        self._readers += 1
        self._unread.clear()
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._unread.set()

    async def run(self) -> None:
        """Follow until `stop`.

        Raises:
            Fatal: following can never go on.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="follow")
        following = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(thread, self._follow))
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

    async def unread(self) -> None:
        """Wait until nobody is within `read`."""
        await self._unread.wait()

    def close(self) -> None:
        """Close the stores, flushed; after `run` has ended."""
        for partition in self.partitions:
            partition.close()

    def delete(self) -> None:
        """Close the stores and delete them; nobody asks for them again."""
        self.close()
        for folder in {partition.path.parent for partition in self.partitions}:
            shutil.rmtree(folder)

    async def ask(self) -> dict[int, int]:
        """Where the topic ends now, by partition.

        Raises:
            Retriable: Kafka does not answer.
        """
        asked_s = self._clock.monotonic_s()
        ends = await self._ends.ask()
        self.heard_at_ms = self._clock.now_ms()
        for partition in self.partitions:
            partition.end = ends[partition.number]
            partition.catching_up.heard(partition.end, asked_s)
        return ends

    def _progressed(self, progress: Progress) -> None:
        if self.on_progress is not None:
            self.on_progress(progress)

    def _follow(self) -> None:
        try:
            self.begin()
            while not self._stopping.is_set():
                began_s = time.monotonic()
                if self.follow(STEP_WAIT_S) and self.unhurried:
                    self._stopping.wait(REST * (time.monotonic() - began_s))
        finally:
            self._follower.close()

    def begin(self) -> None:
        """Follow every partition from now on; on the follower's thread, as is `follow`."""
        for partition in self.partitions:
            self._follower.add(partition.number, partition, self._clock.now_ms())

    def follow(self, timeout_s: float) -> int:
        """One step: read what there is, waiting for the first record only; the number of records.

        Raises:
            Fatal: following can never go on.
        """
        read = self._follower.step(RECORDS_MAX, timeout_s)
        self.records_read += read
        metrics.VIEW_RECORDS.inc(read)
        for partition in self.partitions:
            if partition.broken is not None:
                raise partition.broken  # a reader came upon it; the restart begins empty
            if partition.catching_up.target is not None and partition.is_past(partition.floor):
                self._look(partition)
        return read

    def _look(self, partition: ViewPartition) -> None:
        read_to, ended_at = self._follower.read_to(partition.number), self._follower.ended_at(partition.number)
        caught_up = partition.catching_up.look(read_to, ended_at, self._clock.monotonic_s())
        if caught_up is not None:
            partition.caught_up = caught_up

    async def _watch(self) -> None:
        """Keep asking Kafka; a failed ask leaves everything as it was, and the next one comes in a second."""
        asked, away = 0, False
        while True:
            try:
                if away or asked % GENERATION_EVERY == 0:
                    await self._ends.check_generation()
                await self.ask()
            except Retriable as why:
                if not away:
                    log.warning("view_goes_on_without_kafka", why=str(why), heard_at_ms=self.heard_at_ms)
                away = True
            else:
                if away:
                    log.info("kafka_is_back")
                asked, away = asked + 1, False
            await asyncio.sleep(ASK_EVERY_S)
