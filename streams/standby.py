"""Copies of the generation of rows that comes next, kept warm beside the live one until the worker takes them over.

A thread of its own follows the record of generations. While the record names a candidate, the thread follows that
topic into stores of its own, at a pace that leaves the fold the processor. Once the record says that another generation
is live, the copies are read to their end and offered; the pump takes them between two batches, and gives the stores of
the former generation back to be deleted. So the old one is folded on until the new one is there.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import structlog
from confluent_kafka import KafkaException, TopicPartition

from schemas.admin import Deployed
from state.follower import Follower
from state.generations import Directions, GenerationsFollower, delete_other_folders
from state.store import PartitionStore
from stockweave import metrics
from stockweave.errors import Fatal, Retriable
from stockweave.world import FollowerConsumer, WatermarkConsumer
from streams.world import Rows

log = structlog.get_logger(__name__)

IDLE_S = 0.2
RETRY_S = 1.0
STEP_WAIT_S = 0.1
RECORDS_MAX = 1_000
MEASURE_EVERY_S = 1.0
CHECK_EVERY_S = 5.0
ANSWER_S = 2.0
REST = 3  # a candidate is read for a quarter of the time at most; the fold has the interpreter for the rest


class CopyingConsumer(FollowerConsumer, WatermarkConsumer, Protocol):
    """What copying needs of `confluent_kafka.Consumer`."""

    def list_topics(self, *, timeout: float = ...) -> Any:  # noqa: ANN401
        """As the library's."""
        ...


class _Copies:
    """The next generation under way; the thread's alone. `live`: the worker is to go on with it."""

    def __init__(self, topic: Deployed, consumer: CopyingConsumer, open_store: Callable[[int], PartitionStore]) -> None:
        self.topic = topic
        self.live = False
        self.consumer = consumer
        self.open_store = open_store
        self._follower = Follower(consumer, topic.name)
        self._stores: dict[int, PartitionStore] = {}

    def align(self, owned: frozenset[int]) -> None:
        """Follow the partitions that the worker owns, and no others."""
        for number in self._stores.keys() - owned:
            self._follower.remove(number)
            self._stores.pop(number).close()
        for number in owned - self._stores.keys():
            self._stores[number] = self.open_store(number)
            self._follower.add(number, self._stores[number], time.time_ns() // 1_000_000)

    def step(self) -> int:
        """As `Follower.step`."""
        return self._follower.step(RECORDS_MAX, STEP_WAIT_S)

    def at_end(self) -> bool:
        """Whether the last thing heard of every partition is its end."""
        return all(self._follower.ended_at(n) >= s.mark.next_offset for n, s in self._stores.items())

    def check(self) -> None:
        """Ask whether the topic is still there: a consumer was seen to follow a deleted one for minutes.

        Raises:
            Fatal: it is not.
        """
        try:
            there = self.topic.name in self.consumer.list_topics(timeout=ANSWER_S).topics
        except KafkaException as raised:
            log.info("standby_waits", why=raised.args[0].str())
            return
        if not there:
            raise Fatal(f"{self.topic.name} is gone; restart, and the rows are made anew of the updates")

    def lag(self) -> dict[int, int]:
        """Records that are not copied yet, as of the last fetch."""
        lags = {}
        for number, store in self._stores.items():
            low_high = self.consumer.get_watermark_offsets(TopicPartition(self.topic.name, number), cached=True)
            if low_high is not None:
                lags[number] = max(0, low_high[1] - store.mark.next_offset)
        return lags

    def rows(self) -> Rows:
        """What the worker goes on with; nothing here follows it any more."""
        for number in self._stores:
            self._follower.remove(number)
            metrics.STANDBY_LAG_RECORDS.labels(str(number)).set(0)
        return Rows(self.topic, self.consumer, self.open_store, self._stores)

    def close(self) -> None:
        """Leave the topic, and close the stores."""
        self._follower.close()
        for number, store in self._stores.items():
            store.close()
            metrics.STANDBY_LAG_RECORDS.labels(str(number)).set(0)


class Standby:
    """Follows the record, and keeps the copies.

    Args:
        live: the generation that the worker begins with.
        records: closed by the thread.
        open_consumer: of a deployed topic, see `state.follower.open_consumer`.
        open_store: of a generation and a partition, in the folder that the generation names below `folder`.
        folder: holds nothing but generations.
    """

    def __init__(
        self,
        live: Deployed,
        records: GenerationsFollower,
        open_consumer: Callable[[str], CopyingConsumer],
        open_store: Callable[[Deployed, int], PartitionStore],
        folder: Path,
    ) -> None:
        self._records = records
        self._open_consumer = open_consumer
        self._open_store = open_store
        self._folder = folder
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="standby")
        self._running: Future[None] | None = None
        self._directions: Directions | None = None  # the thread's, and so is `_copies`
        self._copies: _Copies | None = None
        self._look_again = False
        self._measure_at_s = self._check_at_s = 0.0
        self._owned: frozenset[int] = frozenset()  # the pump's thread writes
        self._lock = threading.Lock()  # over what follows
        self._worked_on = live
        self._offered: Rows | None = None
        self._leaving: Deployed | None = None
        self._retired: list[PartitionStore] | None = None

    def start(self) -> None:
        """Begin."""
        self._running = self._thread.submit(self._run)

    @property
    def worked_on(self) -> Deployed:
        """The generation that the worker has, or has just taken."""
        return self._worked_on

    def check(self) -> None:
        """Raise what ended the thread.

        Raises:
            Fatal: the record cannot be followed, or the generation that is live now cannot be.
        """
        if self._running is not None and self._running.done():
            self._running.result()

    def own(self, partitions: Iterable[int]) -> None:
        """The partitions that the worker has now."""
        self._owned = frozenset(partitions)

    @property
    def has_any(self) -> bool:
        """Whether `take` would give a generation."""
        return self._offered is not None

    def take(self) -> Rows | None:
        """The generation to go on with, if it is another: its stores are the caller's; `retire` is due next."""
        if self._offered is None:
            return None
        with self._lock:
            taken, self._offered = self._offered, None
            if taken is not None:
                self._leaving, self._worked_on = self._worked_on, taken.topic
            return taken

    def retire(self, stores: list[PartitionStore]) -> None:
        """The stores of the generation that was left; they are deleted."""
        with self._lock:
            self._retired = stores

    def stop(self) -> None:
        """Let the thread end; it closes what was not taken."""
        self._stopping.set()

    def close(self) -> None:
        """Stop, and wait for the end."""
        self.stop()
        self._thread.shutdown()
        if self._running is None:
            self._records.close()
        self.check()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._step()
                except Retriable as why:
                    log.info("standby_waits", why=str(why))
                    self._stopping.wait(RETRY_S)
        finally:
            self._bury()
            self._forget_taken()
            if self._copies is not None:
                self._copies.close()
            self._records.close()

    def _step(self) -> None:
        news = self._records.poll(0 if self._copies is not None else IDLE_S)
        if news is not None:
            if self._directions is None:
                named = (self._worked_on, news.live, news.candidate)
                delete_other_folders(self._folder, {topic.generation for topic in named if topic is not None})
            self._directions, self._look_again = news, True
        self._bury()
        self._forget_taken()
        if self._look_again and self._directions is not None:
            self._turn(self._directions)
        if self._copies is None:
            return
        if self._offered is None:
            self._advance(self._copies)
        else:
            self._stopping.wait(STEP_WAIT_S)  # the pump takes them after its batch

    def _turn(self, directions: Directions) -> None:
        """Copy what the record asks for, and nothing else."""
        with self._lock:
            leaving, live = self._leaving, directions.live.name != self._worked_on.name
            if not live and directions.live != self._worked_on:
                raise Fatal(f"topic {directions.live.name} was created anew; restart, and rows are folded into it anew")
            wanted = directions.live if live else directions.candidate
            withdrawn = self._offered is not None and (self._offered.topic != wanted or not live)
            if withdrawn:
                self._offered = None  # before the pump took it
        if self._copies is not None and (withdrawn or self._copies.topic != wanted):
            self._drop(self._copies, kept=self._copies.topic == wanted)
        if self._copies is None and wanted is not None:
            if wanted == leaving:
                return  # its folder is being deleted; look again after that
            consumer = self._open_consumer(wanted.name)
            self._copies = _Copies(wanted, consumer, lambda number: self._open_store(wanted, number))
            log.info("generation_being_copied", number=wanted.number, live=live)
        if self._copies is not None:
            self._copies.live = live
        self._look_again = False

    def _advance(self, copies: _Copies) -> None:
        began_s = time.monotonic()
        try:
            if began_s >= self._check_at_s:
                self._check_at_s = began_s + CHECK_EVERY_S
                copies.check()
            copies.align(self._owned)
            read = copies.step()
        except Fatal as why:
            if copies.live:
                raise
            log.warning("candidate_given_up", number=copies.topic.number, why=str(why))
            return self._drop(copies)
        self._measure(copies)
        if copies.live and copies.at_end():
            with self._lock:
                self._offered = copies.rows()
        elif read and not copies.live:
            self._stopping.wait(REST * (time.monotonic() - began_s))
        return None

    def _measure(self, copies: _Copies) -> None:
        now_s = time.monotonic()
        if now_s >= self._measure_at_s:
            self._measure_at_s = now_s + MEASURE_EVERY_S
            for number, records in copies.lag().items():
                metrics.STANDBY_LAG_RECORDS.labels(str(number)).set(records)

    def _forget_taken(self) -> None:
        with self._lock:
            taken = self._copies is not None and self._copies.topic == self._worked_on
        if taken:
            self._copies, self._look_again = None, True

    def _drop(self, copies: _Copies, *, kept: bool = False) -> None:
        self._copies = None
        copies.close()
        if not kept:
            self._delete(copies.topic)

    def _bury(self) -> None:
        """Delete the generation that the worker has left, once it gave the stores back."""
        with self._lock:
            retired, left = self._retired, self._leaving
        if retired is None or left is None:
            return
        for store in retired:
            store.close()
        self._delete(left)
        with self._lock:
            self._retired = self._leaving = None
        self._look_again = True

    def _delete(self, topic: Deployed) -> None:
        shutil.rmtree(self._folder / topic.generation, ignore_errors=True)
