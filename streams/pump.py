"""The loop that keeps batches moving, as a service of the Faust app.

Poll, hand the batch to the agent through its channel, wait for its turn (fold, commit, poll the next), again. Every
call to Kafka runs on one thread of its own, so that the event loop never waits for Kafka; the batches grow by
themselves under load.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import mode
import structlog

from stockweave import metrics
from stockweave.errors import Retriable
from streams.assembly import Engine
from streams.batch import Batch
from streams.processor import Processor
from streams.restore import Stage

log = structlog.get_logger(__name__)

RETRY_S = 1.0
DRAIN_S = 5.0  # a graceful stop folds what is there, but not an endless feed
CHORES_EVERY_S = 1.0
FULL_COLLECTION_EVERY = 60  # chores: it looks at all there is, which takes tens of milliseconds

T = TypeVar("T")


class Turned(NamedTuple):
    """What a turn came to. `next`: the batch that was polled right after it, if one was.

    `waits`: its batch will come again, but not at once; `is_off`: nothing can be committed any more, for the stop.
    """

    next: Batch | None = None
    waits: bool = False
    is_off: bool = False


@dataclass(frozen=True)
class Work:
    """A batch on its way to the agent, which answers with its turn under way: a failure of it is then the pump's.

    `turn`: folds and commits the batch, and polls the next, all on `thread`: each time that a batch changes threads
    takes as long as some decisions, and leaves the cache of its core behind.
    """

    batch: Batch
    thread: ThreadPoolExecutor
    turn: Callable[[Batch], Turned]
    turning: asyncio.Future[asyncio.Future[Turned]]


class Pump(mode.Service):
    """Runs an `Engine`.

    Args:
        connect: called on the pump's thread at the start; may raise Retriable until Kafka is there.
        send: puts a `Work` into the agent's channel.
    """

    def __init__(self, connect: Callable[[], Engine], send: Callable[[Work], Awaitable[None]], **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self._connect_engine = connect
        self._send = send
        self._kafka = ThreadPoolExecutor(1, thread_name_prefix="kafka")
        self._stopping = asyncio.Event()
        self._done = asyncio.Event()
        self._engine: Engine | None = None
        self._chores = 0
        self._chores_s = 0.0  # when they are due

    @mode.Service.task
    async def _pump(self) -> None:
        try:
            engine = await self._joined()
            if engine is not None:
                await self._run(engine)
        finally:
            self._done.set()

    async def on_stop(self) -> None:
        """Let the loop finish its batch, unless Kafka is away, and leave the group."""
        self._stopping.set()
        if self._engine is not None:
            self._engine.processor.stop()
        await self._done.wait()
        self._kafka.shutdown()

    async def _joined(self) -> Engine | None:
        engine: Engine | None = None
        while not self._stopping.is_set():
            try:
                if engine is None:
                    engine = self._engine = await self._on_kafka_thread(self._connect_engine)
                await self._on_kafka_thread(engine.processor.start)
            except Retriable as why:
                log.warning("waiting_for_kafka", why=str(why))
                await self._pause(RETRY_S)
            else:
                return engine
        return None

    async def _run(self, engine: Engine) -> None:
        gc.disable()  # a batch makes no cycles, and looking for them within it took 40 % of the fold
        gc.freeze()  # nor does what was imported
        engine.standby.start()
        if self._stopping.is_set():  # before there was an engine to tell
            engine.processor.stop()
        try:
            await self._move_batches(engine)
            await self._on_kafka_thread(engine.policies.close)
            await self._on_kafka_thread(engine.standby.close)
            await self._on_kafka_thread(engine.processor.close)
        finally:
            gc.enable()
            engine.standby.stop()
        log.info("worker_left_the_group")

    async def _move_batches(self, engine: Engine) -> None:
        processor = engine.processor
        drain_until_s = math.inf
        batch: Batch | None = None
        while True:
            batch = batch or await self._on_kafka_thread(processor.poll)
            idle = batch is None
            if batch is not None:
                work = Work(batch, self._kafka, partial(self._turn, engine), asyncio.get_running_loop().create_future())
                await self._send(work)
                turned = await (await work.turning)
                if turned.is_off:
                    break
                if turned.waits:
                    await self._pause(RETRY_S)
                if (batch := turned.next) is not None:
                    continue
            generation = engine.standby.take()
            if generation is not None:
                engine.standby.retire(await self._on_kafka_thread(processor.adopt, generation))
            if _is_restoring(processor):
                await self._on_kafka_thread(processor.restore, idle)
            now_s = time.monotonic()
            if now_s >= self._chores_s:
                self._chores_s = now_s + CHORES_EVERY_S
                await self._do_chores(engine)
                if idle:
                    await self._on_kafka_thread(processor.settle)
            if self._stopping.is_set():
                drain_until_s = min(drain_until_s, now_s + DRAIN_S)
                if now_s >= drain_until_s or (idle and await self._on_kafka_thread(processor.has_folded_all)):
                    break

    async def _do_chores(self, engine: Engine) -> None:
        self._chores += 1
        gc.collect(2 if self._chores % FULL_COLLECTION_EVERY == 0 else 0)
        await self._on_kafka_thread(engine.policies.look)
        engine.standby.check()
        engine.standby.own(engine.processor.stages())
        metrics.WORKER_GENERATION.set(engine.standby.worked_on.number)
        metrics.PARTITIONS_NOT_READY.set(sum(s is not Stage.READY for s in engine.processor.stages().values()))
        for partition, events in (await self._on_kafka_thread(engine.processor.lag)).items():
            metrics.LAG_EVENTS.labels(str(partition)).set(events)

    def _turn(self, engine: Engine, batch: Batch) -> Turned:
        """Fold a batch, commit it, and poll the next one unless there is something to do before; on the pump's thread.

        Raises:
            Fatal: the worker has to start again.
        """
        processor = engine.processor
        try:
            folded = engine.folder.fold(batch)
        except Retriable as why:
            log.warning("batch_waits", why=str(why))  # for the registry; the same events are polled again
            processor.rewind()
            return Turned(waits=True)
        events, began_s = batch.events, time.monotonic()
        outcomes = [part.outcomes for part in folded]
        kinds = [raised.kind for part in folded for raised in part.alerts]
        try:
            committed = processor.commit(batch, folded)
        except Retriable as why:
            log.warning("batch_given_up", why=str(why), events=events)
            return Turned(is_off=True)
        finally:
            folded.clear()  # let go of here: another thread's core would have to fetch it all
            batch.parts.clear()
        if committed:
            metrics.COMMIT_SECONDS.observe(time.monotonic() - began_s)
            metrics.BATCH_EVENTS.observe(events)
            for kind in kinds:
                metrics.ALERTS_BY_KIND[kind].inc()
            for of_part in outcomes:
                for counter, number in zip(metrics.EVENTS_BY_OUTCOME, of_part, strict=True):
                    if number:
                        counter.inc(number)
        return Turned(None if self._is_wanted(engine) else processor.poll())

    def _is_wanted(self, engine: Engine) -> bool:
        """Whether the loop has something to do between two batches."""
        return (
            self._stopping.is_set()
            or time.monotonic() >= self._chores_s
            or engine.standby.has_any
            or _is_restoring(engine.processor)
        )

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the stop comes first."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _on_kafka_thread(self, function: Callable[..., T], *args: Any) -> T:  # noqa: ANN401
        return await asyncio.get_running_loop().run_in_executor(self._kafka, function, *args)


def _is_restoring(processor: Processor) -> bool:
    return any(stage is not Stage.READY for stage in processor.stages().values())
