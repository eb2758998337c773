"""The view: what the routes answer from. The generation of rows that is served, policies, reads that wait for a write.

Which generation that is, `api.succession` decides; a request that takes long keeps the one that it began with. Whatever
ends the following ends `run`, and so the process: a view that no longer follows must not answer as if it did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from api.feeds import FeedsView
from api.generation import GenerationView
from api.partition import ViewPartition
from api.policies import PolicyView
from api.succession import Succession
from api.waiters import Waiters
from inventory.policies import Policies
from schemas import keys
from schemas.rows import OUTCOMES, StockRow
from schemas.topics import UPDATES, Topic
from state.follower import Progress
from stockweave import metrics
from stockweave.errors import Retriable
from stockweave.world import Clock


class View:
    """Rows of all partitions.

    Args:
        succession: with the generation to begin with; `run` runs it.
        policies: read already; `run` follows them.
        feeds: likewise, but not read yet.
        clock: for ages.
    """

    def __init__(self, succession: Succession, policies: PolicyView, feeds: FeedsView, clock: Clock) -> None:
        self.clock = clock
        self._policies = policies
        self.feeds = feeds
        self._succession = succession
        self._succession.on_served = self._served
        self._succession.on_look = self._measure
        self._waiters = Waiters(self.next_offset)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heard_at_ms = 0
        self._measure_at_s = 0.0
        self._served()

    @property
    def served(self) -> GenerationView:
        """The generation that is answered from at this moment; it may be another after any await."""
        return self._succession.served

    @property
    def next(self) -> tuple[GenerationView, bool] | None:
        """The generation that comes next, and whether the record says already that it is live."""
        succession = self._succession
        return None if succession.next is None else (succession.next, succession.next_is_live)

    @property
    def partitions(self) -> Sequence[ViewPartition]:
        """Of the served generation; every generation has as many."""
        return self.served.partitions

    @property
    def generation(self) -> str:
        """Of the rows that are served; every token that the API gives out carries it."""
        return self.served.topic.generation

    @property
    def policies(self) -> Policies:
        """Those that hold at this moment."""
        return self._policies.current

    @property
    def caught_up(self) -> bool:
        """Whether every partition can be read."""
        return self.served.caught_up

    @property
    def records_read(self) -> int:
        """Records, and ends, that the served generation's follower read."""
        return self.served.records_read

    @property
    def heard_at_ms(self) -> int:
        """When Kafka last told where the rows end; it never goes back."""
        self._heard_at_ms = max(self._heard_at_ms, self.served.heard_at_ms)
        return self._heard_at_ms

    @contextmanager
    def lease(self) -> Iterator[GenerationView]:
        """The served generation, kept open within the block, also when another is served meanwhile."""
        generation = self.served
        with generation.read():
            yield generation

    def row(self, sku: str) -> StockRow | None:
        """As `GenerationView.row`, of the one that is served."""
        return self.served.row(sku)

    def outcomes(self) -> dict[str, list[int]]:
        """As `GenerationView.outcomes`, of the one that is served."""
        return self.served.outcomes()

    def next_offset(self, topic: str, partition: int) -> int:
        """As `GenerationView.next_offset`, of the one that is served."""
        return self.served.next_offset(topic, partition)

    async def wait_for(self, offsets: Mapping[int, int], timeout_s: float) -> None:
        """Wait until every given offset of inventory.updates, by partition, is folded and in the view.

        Raises:
            Retriable: that took longer than `timeout_s`.
        """
        if not await self.passed(UPDATES, offsets, timeout_s):
            behind = ", ".join(f"{p}-{o}" for p, o in offsets.items() if self.next_offset(UPDATES.name, p) <= o)
            raise Retriable(
                f"the view has not passed min_offset {behind} within {timeout_s:g} s; try again, or watch /readyz"
            )

    async def passed(self, topic: Topic, offsets: Mapping[int, int], timeout_s: float) -> bool:
        """Whether what came of every given offset of a topic, by partition, is in the view within `timeout_s`."""
        return await self._waiters.wait(topic.name, offsets, timeout_s)

    async def run(self) -> None:
        """Follow until `stop`.

        Raises:
            Fatal: following can never go on.
        """
        self._loop = asyncio.get_running_loop()
        parts = {asyncio.create_task(part.run()) for part in (self._succession, self._policies, self.feeds)}
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop()
            await asyncio.wait(parts)
        for part in parts:
            part.result()

    def stop(self) -> None:
        """Let `run` end."""
        self._succession.stop()
        self._policies.stop()
        self.feeds.stop()

    def close(self) -> None:
        """Close the stores, flushed; after `run` has ended."""
        self._succession.close()

    def _served(self) -> None:
        """Another generation is served from now on; it is past the former one, so a wait may be over."""
        served = self.served
        served.on_progress = lambda progress: self._progressed(served, progress)
        for partition in served.partitions:
            self._waiters.wake(partition.number)

    def _progressed(self, served: GenerationView, progress: Progress) -> None:
        """The served generation's follower wrote something; on its thread."""
        partition = served.partitions[progress.partition]
        position = partition.position
        if served is not self.served:
            return
        read = position is not None and position.oldest_received_at  # 0: of dead letters alone
        if keys.POSITION in progress.changed and position is not None and read and partition.caught_up:
            metrics.VISIBLE_SECONDS.observe(max(0, self.clock.now_ms() - position.oldest_received_at) / 1_000)
        if self._waiters.any(progress.partition) and self._loop is not None:
            self._loop.call_soon_threadsafe(self._waiters.wake, progress.partition)

    def _measure(self) -> None:
        now_s = self.clock.monotonic_s()
        if now_s < self._measure_at_s:
            return
        self._measure_at_s = now_s + MEASURE_EVERY_S
        following = self._succession.next
        for partition in self.partitions:
            label = str(partition.number)
            metrics.VIEW_LAG_RECORDS.labels(label).set(partition.lag)
            metrics.VIEW_ROWS.labels(label).set(partition.rows_estimate())
            lag = 0 if following is None else following.partitions[partition.number].lag
            metrics.VIEW_NEXT_LAG_RECORDS.labels(label).set(lag)
        by_supplier = self.outcomes().values()
        for i, outcome in enumerate(OUTCOMES):
            metrics.VIEW_EVENTS.labels(outcome).set(sum(counts[i] for counts in by_supplier))
        metrics.VIEW_HEARD_AT.set(self.heard_at_ms / 1_000)
        metrics.VIEW_GENERATION.set(self.served.topic.number)


MEASURE_EVERY_S = 1.0
