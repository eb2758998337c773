"""The partitions of this worker: what a poll brings, and how a folded batch is committed.

Invariant: a store never holds a row that Kafka has not committed; rows, positions, alerts, dead letters and the group's
offsets are one transaction, and the disk is written after it. Synchronous and on one thread, so that a simulator can
drive it as the pump does: `poll`, fold what it gave, `commit`, `restore`, again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import structlog
from confluent_kafka import OFFSET_END, KafkaException, Message, TopicPartition

from schemas import keys, rows
from schemas.admin import Deployed
from schemas.codec import Codec
from schemas.rows import Position
from schemas.topics import ALERTS, COMMANDS, DEAD_LETTERS, RESERVATION_STEPS, RESERVATIONS, STOCK, UPDATES
from state.follower import Follower
from state.store import PartitionStore
from stockweave.errors import Fatal
from streams.alerts import Alerts
from streams.batch import Batch, FoldedPart, Part
from streams.chores import Chores
from streams.commands import Asked, Commands
from streams.covering import Covering
from streams.cursor import by_partition, is_error
from streams.dead_letters import ENDING, hanging
from streams.expiries import Expiries
from streams.missed_facts import MissedFacts
from streams.passes import Pass
from streams.records import Records
from streams.restore import Assigned, Restorer, Stage
from streams.transaction import Aborted, Transaction, is_member
from streams.world import Rows, World

log = structlog.get_logger(__name__)

ABORTS_MAX = 20  # in a row: what Kafka will not take now it will not take later either
RESTORE_WAIT_S = 0.02
POLL_WAIT_S = 0.01  # for commands; updates are looked for after it, so it adds to the time until either is visible
COMMANDS_MAX = 2_000  # in one batch, of all partitions
UPDATES_BESIDE_MAX = 2_000  # in a batch while commands come: their minimum share, and soon done
COMMANDS_RECENT_S = 1.0  # as long after the last ones: one that comes now waits for the batch that is under way
ENDS_WAIT_S = 1.0
STALL_S = 0.5  # without a message, although there are more


class Processor:
    """Owns the partitions that the group assigns to this worker.

    Args:
        world: the Kafka clients, the clock and the disk.
        topics: each catalogue topic as deployed.
        facts: codec of ReservationFact.
        alerts: by which rows are looked through that no batch changes.
        events_max: in one batch.
        retention_ms: how long a hold is kept after its end.
    """

    def __init__(
        self, world: World, topics: dict[str, Deployed], facts: Codec, alerts: Alerts, events_max: int,
        retention_ms: int,
    ) -> None:  # fmt: skip
        self._world = world
        self._consumer = world.consumer
        of_worker = (UPDATES, COMMANDS, STOCK, RESERVATIONS, RESERVATION_STEPS, ALERTS, DEAD_LETTERS)
        self._topics = {t.name: topics[t.name].name for t in of_worker}
        self._updates = self._topics[UPDATES.name]
        self._commands = Commands(world.commands, {t.name: topics[t.name].name for t in (RESERVATION_STEPS, COMMANDS)})
        self._updates_generation = topics[UPDATES.name].generation
        self._kept = [topics[t.name] for t in (ALERTS, DEAD_LETTERS)]
        written = (topics[t.name] for t in (STOCK, RESERVATIONS, RESERVATION_STEPS))
        self._rows_places = [(topic.name, number) for topic in written for number in range(topic.partitions)]
        self._events_max = events_max
        self._transaction = Transaction(world.producer, world.clock, world.watchdog)
        self._restorer = Restorer(
            world.consumer,
            world.ends,
            Follower(world.follower, self._stock),
            MissedFacts(world.facts, self._topics[RESERVATIONS.name], facts),
            world.clock,
            topics[UPDATES.name],
            self._stock,
            self._topics[RESERVATIONS.name],
        )
        self._chores = Chores(alerts, world.clock, retention_ms)
        self._is_idle = True
        self._open_store = world.open_store
        self._assigned: dict[int, Assigned] = {}
        self._aborts_in_a_row = 0
        self._commands_s = -COMMANDS_RECENT_S  # when the last ones came
        self._given: list[int] = []  # what the callbacks of this poll said; applied right after it
        self._taken: list[int] = []

    @property
    def _stock(self) -> str:
        """Where the rows are, of the generation that is worked on."""
        return self._topics[STOCK.name]

    def start(self) -> None:
        """Take over what a former self left open, or Kafka left hanging, then join the group.

        Raises:
            Retriable: Kafka does not answer yet; call again.
        """
        self._transaction.take_over()
        self._transaction.undo_what_hangs(
            self._rows_places, TopicPartition(self._updates, 0, 0), self._consumer.consumer_group_metadata()
        )
        for topic in self._kept:
            if places := hanging(topic.name, topic.partitions, self._consumer, self._world.ends):
                self._transaction.keep_what_hangs(topic.name, places, ENDING)
        self._consumer.subscribe(
            [self._updates], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def poll(self) -> Batch | None:
        """What there is to decide and to fold, or None; waits for the first command only, and not for long.

        Raises:
            Fatal: Kafka says that reading can never go on.
        """
        ready = self._ready()
        due = self._due(ready, self._world.clock.now_ms())
        found = self._chores.look(ready, idle=self._is_idle)
        beside = self._world.clock.monotonic_s() < self._commands_s + COMMANDS_RECENT_S
        updates_max = min(self._events_max, UPDATES_BESIDE_MAX) if beside else self._events_max
        messages = self._consumer.consume(updates_max, 0 if self._assigned else POLL_WAIT_S)
        idle = not messages and not due and not found and len(ready) == len(self._assigned)
        commands = self._poll_commands(ready, POLL_WAIT_S if idle and not self._chores.are_under_way else 0)
        self._is_idle = idle and not commands
        self._commands_s = self._world.clock.monotonic_s() if commands else self._commands_s
        at_ms = self._world.clock.now_ms()
        due = self._due(ready, at_ms) if commands else due
        metadata = self._consumer.consumer_group_metadata()  # after the callbacks of this very poll
        self._rebalance()
        if not messages:
            self._look_for_stalls()
        elif [message for message in messages if message.error() is not None]:
            messages = [message for message in messages if not is_error(message, self._updates)]
        updates = by_partition(messages) if messages else {}
        parts = []
        missed = [number for number, assigned in ready.items() if assigned.missed]
        for number in sorted({*updates, *commands, *due, *found, *missed}):
            assigned = self._assigned.get(number)
            if assigned is None or assigned.stage is not Stage.READY:
                continue  # fetched before it was paused; it comes again from its position on
            part = self._part(assigned, updates.get(number), commands.get(number, {}), due.get(number, ()), at_ms)
            part = self._chores.with_found(part, assigned) if number in found else part
            if part.has_any:
                parts.append(part)
        return Batch(parts, metadata) if parts else None

    def _ready(self) -> dict[int, Assigned]:
        return {a.number: a for a in self._assigned.values() if a.stage is Stage.READY}

    def _poll_commands(self, ready: dict[int, Assigned], wait_s: float) -> dict[int, Asked]:
        self._commands.serve({n: a.position.offsets for n, a in ready.items() if a.may_decide})
        return self._commands.poll(COMMANDS_MAX, wait_s)

    def _due(self, ready: dict[int, Assigned], now_ms: int) -> dict[int, list[tuple[int, bytes]]]:
        """The holds to look at."""
        found = {}
        for number, assigned in ready.items():
            if assigned.expiries is None:
                assigned.expiries = Expiries(assigned.store.holds())
            if due := assigned.expiries.due(max(now_ms, assigned.position.decided_at), COMMANDS_MAX):
                found[number] = due
        return found

    def _part(
        self, assigned: Assigned, updates: list[Message] | None, commands: Asked, due: Sequence[tuple[int, bytes]],
        at_ms: int,
    ) -> Part:  # fmt: skip
        taken, is_off = assigned.cursor.following(updates) if updates else ([], False)
        alike = assigned.told_alike(taken)
        if is_off or len(alike) < len(taken):
            assigned.stage = Stage.SEEK
        position, closes_from = assigned.position, assigned.closes_from
        facts_from = max(assigned.facts_end, position.facts_from)
        if assigned.cursor.next_offset < closes_from:
            facts_from = position.facts_from  # for the next start has to know `closes_from` too
        return Part(
            assigned.number, assigned.store, position, alike, commands, due, assigned.missed, facts_from, closes_from,
            quiet=assigned.is_quiet, at_ms=at_ms,
        )  # fmt: skip

    def commit(self, batch: Batch, folded: list[FoldedPart]) -> bool:
        """Commit a folded batch to Kafka, then to disk; False when Kafka wanted it undone, and it will be polled again.

        1. open a transaction; 2. rows, alerts, dead letters and, last, each partition's position; 3. flush, and look
        whether Kafka put them after what it had; 4. offsets, commit (`Transaction.commit`); 5. rows, position into the
        stores.

        Raises:
            Fatal: the worker has to start again; nothing was written to disk.
            Retriable: told to stop, and Kafka does not answer; only `close` may follow.
        """
        if not is_member(batch.group_metadata):
            log.info("batch_dropped", why="not a member of the group at the moment")
            self.rewind()
            return False
        encoded = {f.part.partition: self._encoded(f.position) for f in folded}
        records = Records(self._transaction, self._topics)
        self._transaction.begin()
        try:
            for part in folded:
                number = part.part.partition
                records.produce(part, encoded[number], self._assigned[number])
            offsets = [
                TopicPartition(self._updates, f.part.partition, f.position.offsets.get(UPDATES.name, 0)) for f in folded
            ]
            self._transaction.flush()
            written = records.anchors(folded)
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
            changed = {**part.rows, **dict.fromkeys(part.removed), keys.POSITION: encoded[number]}
            part.part.store.write(changed, anchor + 1, anchor)
            self._advance(self._assigned[number], part)
        return True

    def _advance(self, assigned: Assigned, folded: FoldedPart) -> None:
        """What was committed is done with."""
        offsets = folded.position.offsets
        assigned.cursor.next_offset = offsets.get(UPDATES.name, 0)
        self._chores.settled(assigned, folded)
        if folded.decided is not None:
            self._commands.committed(assigned.number, offsets)
            assigned.missed = []
            if assigned.expiries is not None:
                assigned.expiries.settled(folded.part.due, folded.decided.to_look_at)

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
                assigned.expiries, assigned.rows_pass, assigned.covering = None, Pass(), Covering()

    def adopt(self, generation: Rows) -> list[PartitionStore]:
        """Go on with another generation of the rows; called between two batches, returns the stores that were left.

        Each partition is restored as one that was just assigned, from the position records of its new topic; so nothing
        is lost or folded twice into it, wherever the former generation stood. What that one has already refused is not
        written to the dead letters again.
        """
        left = [assigned.store for assigned in self._assigned.values()]
        for assigned in self._assigned.values():
            self._restorer.forget(assigned)
        self._topics[STOCK.name], self._open_store = generation.topic.name, generation.open_store
        self._restorer.turn_to(Follower(generation.follower, self._stock), self._stock)
        if self._assigned:
            self._consumer.pause([TopicPartition(self._updates, number) for number in self._assigned])
        now_s = self._world.clock.monotonic_s()
        for number, before in self._assigned.items():
            store = generation.warm.pop(number, None) or self._open_store(number)
            quiet_below = {UPDATES.name: before.cursor.next_offset, **before.position.offsets}
            quiet_below = {t: max(at, before.quiet_below.get(t, 0)) for t, at in quiet_below.items()}
            self._assigned[number] = Assigned(number, store, now_s, quiet_below)
        for store in generation.warm.values():  # of partitions that went to another worker meanwhile
            store.close()
        log.info("generation_adopted", number=generation.topic.number, topic=self._stock)
        return left

    def lag(self) -> dict[int, int]:
        """Events that wait to be folded, by ready partition, as of the last fetch."""
        ready = [a for a in self._assigned.values() if a.stage is Stage.READY]
        return {a.number: max(0, end - a.cursor.next_offset) for a in ready if (end := self._end(a.number)) >= 0}

    def has_folded_all(self) -> bool:
        """Whether nothing waits in any partition. Kafka is asked: the last fetch may not know the newest."""
        asked = [TopicPartition(self._updates, number, OFFSET_END) for number in self._assigned]
        try:
            told = self._consumer.offsets_for_times(asked, timeout=ENDS_WAIT_S) if asked else []
        except KafkaException:
            return False  # it cannot be known
        return all(t.error is None and t.offset <= self._assigned[t.partition].cursor.next_offset for t in told)

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
        self._commands.close()
        self._consumer.close()
        self._taken = list(self._assigned)
        self._rebalance()
        self._restorer.close()
        self._transaction.close()

    def _encoded(self, position: Position) -> bytes:
        position.updates_generation = self._updates_generation
        return rows.encode(position)

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
            at = assigned.cursor.next_offset
            if end <= at:
                continue
            if assigned.stall != (at, end):
                assigned.stall, assigned.stalled_s = (at, end), now_s
            elif now_s - assigned.stalled_s > STALL_S:
                log.warning("partition_read_again", partition=assigned.number, expected=at, end=end)
                assigned.stalled_s = math.inf
                assigned.stage = Stage.SEEK

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
