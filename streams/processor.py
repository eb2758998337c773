"""The partitions of this worker: what a poll brings, and how a folded batch is committed.

Invariant: a store never holds a row that Kafka has not committed; rows, positions, dead letters and the group's offsets
are one transaction, and the disk is written after it. Synchronous and on one thread, so that a simulator can drive it
as the pump does: `poll`, fold what it gave, `commit`, `restore`, again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import structlog
from confluent_kafka import OFFSET_END, KafkaError, KafkaException, Message, TopicPartition

from schemas import keys, rows
from schemas.admin import Deployed
from schemas.rows import Position
from schemas.topics import DEAD_LETTERS, STOCK, UPDATES
from state.follower import Follower
from state.store import PartitionStore
from stockweave.errors import Fatal
from stockweave.world import (
    CallWatchdog,
    Clock,
    EndsConsumer,
    FollowerConsumer,
    GroupConsumer,
    TransactionalProducer,
)
from streams.batch import Batch, FoldedPart, Part
from streams.dead_letters import ENDING, hanging, record
from streams.restore import Assigned, Restorer, Stage
from streams.transaction import Aborted, Transaction, is_member

log = structlog.get_logger(__name__)

ABORTS_MAX = 20  # in a row: what Kafka will not take now it will not take later either
RESTORE_WAIT_S = 0.02
POLL_WAIT_S = 0.1
ENDS_WAIT_S = 1.0
STALL_S = 0.5  # without a message, although there are more
ANY_PARTITION = -1  # by the key: dead letters are not folded, and may have another number of partitions


@dataclass(frozen=True)
class World:
    """All that a processor touches outside itself."""

    consumer: GroupConsumer
    follower: FollowerConsumer
    ends: EndsConsumer
    producer: TransactionalProducer
    watchdog: CallWatchdog
    clock: Clock
    open_store: Callable[[int], PartitionStore]


@dataclass(frozen=True)
class Rows:
    """Another generation of the rows, to go on with.

    `follower`: a consumer that knows the topic; `open_store`: of a partition; `warm`: stores that are open already.
    """

    topic: Deployed
    follower: FollowerConsumer
    open_store: Callable[[int], PartitionStore]
    warm: dict[int, PartitionStore]


class Processor:
    """Owns the partitions that the group assigns to this worker.

    Args:
        world: the Kafka clients, the clock and the disk.
        topics: each catalogue topic as deployed.
        events_max: in one batch.
    """

    def __init__(self, world: World, topics: dict[str, Deployed], events_max: int) -> None:
        self._world = world
        self._consumer = world.consumer
        self._updates, self._stock, self._dead_letters = (topics[t.name].name for t in (UPDATES, STOCK, DEAD_LETTERS))
        self._updates_generation = topics[UPDATES.name].generation
        self._letters_partitions = topics[DEAD_LETTERS.name].partitions
        self._rows_places = [(self._stock, number) for number in range(topics[STOCK.name].partitions)]
        self._events_max = events_max
        self._transaction = Transaction(world.producer, world.clock, world.watchdog)
        self._restorer = Restorer(
            world.consumer,
            world.ends,
            Follower(world.follower, self._stock),
            world.clock,
            topics[UPDATES.name],
            self._stock,
        )
        self._open_store = world.open_store
        self._assigned: dict[int, Assigned] = {}
        self._aborts_in_a_row = 0
        self._given: list[int] = []  # what the callbacks of this poll said; applied right after it
        self._taken: list[int] = []

    def start(self) -> None:
        """Take over what a former self left open, or Kafka left hanging, then join the group.

        Raises:
            Retriable: Kafka does not answer yet; call again.
        """
        self._transaction.take_over()
        self._transaction.undo_what_hangs(
            self._rows_places, TopicPartition(self._updates, 0, 0), self._consumer.consumer_group_metadata()
        )
        if places := hanging(self._dead_letters, self._letters_partitions, self._consumer, self._world.ends):
            self._transaction.keep_what_hangs(self._dead_letters, places, ENDING)
        self._consumer.subscribe(
            [self._updates], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def poll(self) -> Batch | None:
        """What there is to fold, or None; waits for the first message only.

        Raises:
            Fatal: Kafka says that reading can never go on.
        """
        waiting = any(a.stage is not Stage.READY for a in self._assigned.values())
        messages = self._consumer.consume(1, 0 if waiting else POLL_WAIT_S)
        if messages and self._events_max > 1:
            messages += self._consumer.consume(self._events_max - 1, 0)
        metadata = self._consumer.consumer_group_metadata()  # after the callbacks of this very poll
        self._rebalance()
        if not messages:
            self._look_for_stalls()
        if [message for message in messages if message.error() is not None]:
            messages = [message for message in messages if not self._is_error(message)]
        by_partition: dict[int, list[Message]] = {}
        at = 0
        for number, run in groupby([message.partition() for message in messages]):  # they come in long runs
            first, at = at, at + len(list(run))
            by_partition.setdefault(cast("int", number), []).extend(messages[first:at])
        parts = []
        for number, of_partition in sorted(by_partition.items()):
            assigned = self._assigned.get(number)
            if assigned is None or assigned.stage is not Stage.READY:
                continue  # fetched before it was paused; it comes again from its position on
            if taken := assigned.contiguous(of_partition):
                parts.append(Part(number, assigned.store, assigned.position, taken))
        return Batch(parts, metadata) if parts else None

    def commit(self, batch: Batch, folded: list[FoldedPart]) -> bool:
        """Commit a folded batch to Kafka, then to disk; False when Kafka wanted it undone, and it will be polled again.

        1. open a transaction; 2. rows, dead letters and, last, each partition's position; 3. flush, and look whether
        Kafka put them after what it had; 4. offsets, commit (`Transaction.commit`); 5. rows, position into the stores.

        Raises:
            Fatal: the worker has to start again; nothing was written to disk.
            Retriable: told to stop, and Kafka does not answer; only `close` may follow.
        """
        if not is_member(batch.group_metadata):
            log.info("batch_dropped", why="not a member of the group at the moment")
            self.rewind()
            return False
        anchors: dict[int, int | None] = {}
        encoded = {f.part.partition: self._encoded(f.position) for f in folded}
        self._transaction.begin()
        try:
            for part in folded:
                self._produce(part, encoded[part.part.partition], anchors)
            offsets = [
                TopicPartition(self._updates, f.part.partition, f.position.offsets[UPDATES.name]) for f in folded
            ]
            self._transaction.flush()
            written = self._checked(folded, anchors)
            self._transaction.commit(offsets, batch.group_metadata)
        except Aborted as why:
            self._transaction.abort()
            log.warning("batch_aborted", why=str(why), events=batch.events)
            self._aborts_in_a_row += 1
            if self._aborts_in_a_row >= ABORTS_MAX:
                raise Fatal(
                    f"a batch was aborted {ABORTS_MAX} times in a row, last for {why}; see the broker's log"
                ) from why
            self._restore_again()
            return False
        self._aborts_in_a_row = 0
        for part in folded:
            number = part.part.partition
            anchor = written[number]
            part.part.store.write({**part.rows, keys.POSITION: encoded[number]}, anchor + 1, anchor)
            self._assigned[number].next_offset = part.position.offsets[UPDATES.name]
        return True

    def restore(self, idle: bool) -> None:
        """Take partitions that are not ready one step further; waits a little when there is nothing else to do."""
        waiting = [a for a in self._assigned.values() if a.stage is not Stage.READY]
        if waiting:
            self._restorer.step(waiting, RESTORE_WAIT_S if idle else 0)

    def rewind(self) -> None:
        """Read every ready partition again from its committed position: what was polled was not committed."""
        for assigned in self._assigned.values():
            if assigned.stage is Stage.READY:
                assigned.stage = Stage.SEEK

    def _restore_again(self) -> None:
        """Take every ready partition through its restore, as after a start.

        What was undone may reach further back than this transaction: one whose commit was reported, and whose markers
        Kafka lost, has ended with it (`Transaction.undo_what_hangs`).
        """
        for assigned in self._assigned.values():
            if assigned.stage in (Stage.READY, Stage.SEEK):
                self._consumer.pause([TopicPartition(self._updates, assigned.number)])
                assigned.stage = Stage.BARRIER

    def adopt(self, generation: Rows) -> list[PartitionStore]:
        """Go on with another generation of the rows; called between two batches, returns the stores that were left.

        Each partition is restored as one that was just assigned, from the position records of its new topic; so nothing
        is lost or folded twice into it, wherever the former generation stood. What that one has already refused is not
        written to the dead letters again.
        """
        left = [assigned.store for assigned in self._assigned.values()]
        for assigned in self._assigned.values():
            self._restorer.forget(assigned)
        self._stock, self._open_store = generation.topic.name, generation.open_store
        self._restorer.turn_to(Follower(generation.follower, self._stock), self._stock)
        if self._assigned:
            self._consumer.pause([TopicPartition(self._updates, number) for number in self._assigned])
        now_s = self._world.clock.monotonic_s()
        for number, before in self._assigned.items():
            store = generation.warm.pop(number, None) or self._open_store(number)
            quiet_below = max(before.quiet_below, before.next_offset)
            self._assigned[number] = Assigned(number, store, now_s, quiet_below)
        for store in generation.warm.values():  # of partitions that went to another worker meanwhile
            store.close()
        log.info("generation_adopted", number=generation.topic.number, topic=self._stock)
        return left

    def lag(self) -> dict[int, int]:
        """Events that wait to be folded, by ready partition, as of the last fetch."""
        ready = [a for a in self._assigned.values() if a.stage is Stage.READY]
        return {a.number: max(0, end - a.next_offset) for a in ready if (end := self._end(a.number)) >= 0}

    def has_folded_all(self) -> bool:
        """Whether nothing waits in any partition. Kafka is asked: the last fetch may not know the newest."""
        asked = [TopicPartition(self._updates, number, OFFSET_END) for number in self._assigned]
        try:
            told = self._consumer.offsets_for_times(asked, timeout=ENDS_WAIT_S) if asked else []
        except KafkaException:
            return False  # it cannot be known
        return all(t.error is None and t.offset <= self._assigned[t.partition].next_offset for t in told)

    def settle(self) -> None:
        """To be called when there is little to do: a start after a kill then has little to read again."""
        for assigned in self._assigned.values():
            assigned.store.settle()

    def stages(self) -> dict[int, Stage]:
        """Where each assigned partition is on its way."""
        return {number: assigned.stage for number, assigned in self._assigned.items()}

    def stop(self) -> None:
        """Wait no longer for a Kafka that does not answer; from any thread."""
        self._transaction.stop()

    def close(self) -> None:
        """Leave the group and close the stores; the last batch is committed already."""
        self._consumer.close()
        self._taken = list(self._assigned)
        self._rebalance()
        self._restorer.close()
        self._transaction.close()

    def _encoded(self, position: Position) -> bytes:
        position.updates_generation = self._updates_generation
        return rows.encode(position)

    def _checked(self, folded: list[FoldedPart], anchors: dict[int, int | None]) -> dict[int, int]:
        """The offsets that the position records were given; what failed to be delivered has none, and is aborted.

        Raises:
            Fatal: they are below what was there already; nothing is committed, and the next start reads what is left.
        """
        checked = {}
        for part in folded:
            number, end = part.part.partition, part.part.store.mark.next_offset
            if number not in anchors:
                continue
            anchor = anchors[number]
            if anchor is None or anchor < 0:
                raise Fatal(
                    f"Kafka does not say at which offset of {self._stock}, partition {number}, it put the position; "
                    "the worker has to start again"
                )
            if anchor < end:
                raise Fatal(
                    f"Kafka lost the end of {self._stock}: partition {number} had records up to offset {end}, and the "
                    f"next ones were put at {anchor}; the worker has to start again, and reads what is left"
                )
            checked[number] = anchor
        return checked

    def _produce(self, folded: FoldedPart, position: bytes, anchors: dict[int, int | None]) -> None:
        number, produce = folded.part.partition, self._transaction.produce
        self._transaction.produce_all(self._stock, folded.rows, number)
        quiet_below = self._assigned[number].quiet_below
        for letter in folded.dead_letters:
            message = letter.message
            if cast("int", message.offset()) < quiet_below:
                continue
            dead = record(letter, "FOLD")
            produce(self._dead_letters, dead.value, dead.key, ANY_PARTITION, headers=dead.headers)

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                anchors[number] = message.offset()

        produce(self._stock, position, keys.POSITION, number, on_delivery=delivered)

    def _end(self, number: int) -> int:
        """Where a partition of the updates ends, as of its last fetch; below zero before the first."""
        low_high = self._consumer.get_watermark_offsets(TopicPartition(self._updates, number), cached=True)
        return -1 if low_high is None else low_high[1]

    def _look_for_stalls(self) -> None:
        """Read again what brings nothing although there is more.

        librdkafka was seen to sit at the end of a partition, when the seek came while it still looked for that end,
        where an assignment begins. What lies beyond may as well be markers that bring nothing: so once for each end.
        """
        now_s = self._world.clock.monotonic_s()
        for assigned in self._assigned.values():
            if assigned.stage is not Stage.READY:
                continue
            end = self._end(assigned.number)
            if end <= assigned.next_offset:
                continue
            if assigned.stall != (assigned.next_offset, end):
                assigned.stall, assigned.stalled_s = (assigned.next_offset, end), now_s
            elif now_s - assigned.stalled_s > STALL_S:
                log.warning("partition_read_again", partition=assigned.number, expected=assigned.next_offset, end=end)
                assigned.stalled_s = math.inf
                assigned.stage = Stage.SEEK

    def _is_error(self, message: Message) -> bool:
        """Whether it is one of librdkafka's own, which is looked at then."""
        error = message.error()
        if error is None:
            return False
        code = error.code()
        if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise Fatal(f"{self._updates} no longer has the updates to go on from: {error.str()}; restore a checkpoint")
        if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):
            raise Fatal(f"{self._updates} is gone: {error.str()}; restart to create it")
        if error.fatal() or code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
            raise Fatal(f"{self._updates} cannot be read: {error.str()}")
        log.info("consuming_interrupted", error=error.name(), text=error.str())  # librdkafka goes on by itself
        return True

    def _rebalance(self) -> None:
        """Close the stores of what was taken, open those of what was given."""
        for number in self._taken:
            assigned = self._assigned.pop(number, None)
            if assigned is not None:
                self._restorer.forget(assigned)
                assigned.store.close()
                log.info("partition_released", partition=number)
        for number in self._given:
            store = self._open_store(number)
            self._assigned[number] = Assigned(number, store, self._world.clock.monotonic_s())
            log.info("partition_assigned", partition=number)
        self._taken, self._given = [], []

    # -- rebalance callbacks: inside consume() and close(), between two batches, so that nothing is open when one comes.
    # They do only what must be done there: the library loses an exception that leaves a callback.

    def _on_assign(self, _: object, partitions: list[TopicPartition]) -> None:
        # An explicit offset keeps librdkafka from looking for one; the partition is paused until it is restored. It is
        # the end, for what lies at the beginning may be gone, and be fetched for all that before the pause.
        paused = [TopicPartition(self._updates, p.partition, OFFSET_END) for p in partitions]
        self._consumer.incremental_assign(paused)
        if paused:
            self._consumer.pause(paused)
        self._given += [p.partition for p in partitions]

    def _on_revoke(self, _: object, partitions: list[TopicPartition]) -> None:
        self._consumer.incremental_unassign(partitions)
        self._given = [number for number in self._given if number not in {p.partition for p in partitions}]
        self._taken += [p.partition for p in partitions]

    def _on_lost(self, consumer: object, partitions: list[TopicPartition]) -> None:
        log.warning(
            "partitions_lost", partitions=[p.partition for p in partitions]
        )  # the new owner's restore fences us
        self._on_revoke(consumer, partitions)
