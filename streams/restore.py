"""How a partition that was assigned comes to be served, while the others keep working.

Steps, each short and repeated until it is done:

1. BARRIER: ask for the group's committed offset on a read_committed consumer. Kafka answers only when no transaction of
   a previous owner is open on it, so nothing of that owner can become visible afterwards. Its value is not used.
2. TARGET: the end of inventory.stock, from a read_uncommitted client (read_committed tells the last stable offset,
   which lags behind rows that are committed already).
3. FOLLOW: read inventory.stock into the store until all below the target is in it.
4. FACTS: read the facts that the rows do not have, if there may be any (`streams.missed_facts`).
5. SEEK: go to the offset in the position record, and resume.

The position record, not the group's offset, says where folding goes on: a broker killed inside a commit was seen to
report the commit and to lose it, and Kafka forgets a group's offsets after a week.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import cast

import structlog
from confluent_kafka import OFFSET_END, KafkaException, Message, TopicPartition

from inventory.reservations.facts import Fact
from schemas.admin import Deployed
from schemas.rows import Position
from schemas.topics import UPDATES
from state.follower import Follower
from state.store import PartitionStore
from stockweave.errors import Fatal
from stockweave.world import Clock, EndsConsumer, GroupConsumer
from streams.covering import Covering
from streams.cursor import Cursor
from streams.expiries import Expiries
from streams.missed_facts import MissedFacts
from streams.passes import Pass
from streams.sweep import Sweep

log = structlog.get_logger(__name__)

BARRIER_WAIT_S = 0.2  # per try; ready partitions wait meanwhile
ENDS_WAIT_S = 2.0
RECORDS_MAX = 5_000
STUCK_S = 10.0  # in one stage, and it is told, again and again
HANGING_S = 60.0  # in one stage: no transaction takes that long
HANGING = (
    "if this goes on, a transaction hangs in Kafka: restart all workers, which ends what is theirs, or see "
    "docs/kafka.md, `Hanging transactions`"
)


class Stage(enum.Enum):
    """Where a partition is on its way; `READY`: its updates are folded."""

    BARRIER = enum.auto()
    TARGET = enum.auto()
    FOLLOW = enum.auto()
    FACTS = enum.auto()
    SEEK = enum.auto()
    READY = enum.auto()


class Assigned:
    """A partition that this worker owns.

    `cursor`: of inventory.updates. `expiries`: of its holds, once it is ready. `sweep`: for holds that are past.
    `rows_pass`: for rows that cross by time or by a policy. `covering`: for holds that need another source.
    `quiet_below`: by topic, what is refused below that offset is among the dead letters already, by a former
    generation of the rows, and so is what crosses among the alerts.
    """

    def __init__(
        self, number: int, store: PartitionStore, now_s: float, quiet_below: Mapping[str, int] | None = None
    ) -> None:
        self.number = number
        self.store = store
        self.quiet_below = quiet_below or {}
        self.stage = Stage.BARRIER
        self.began_s = now_s
        self.seen = (self.stage, now_s)  # the stage at the last look, and when it was first seen
        self.told_s = now_s
        self.target = -1
        self.cursor = Cursor()
        self.expiries: Expiries | None = None
        self.sweep = Sweep()
        self.rows_pass = Pass()
        self.covering = Covering()
        self.facts_target = 0  # the end of inventory.reservations, as the restore was told
        self.facts_end = 0  # and as of the last delivery
        self.missed: list[Fact] = []  # to be applied with the first batch
        self.closes_from = 0  # updates below it have closed what they close: facts say so that the rows may not have
        self.stall = (-1, -1)  # next offset and end where nothing came, and since when
        self.stalled_s = 0.0

    @property
    def position(self) -> Position:
        """How far it is folded; from the beginning when nothing was."""
        return self.store.position or Position({}, {})

    @property
    def quiet_to(self) -> int:
        """The offset of inventory.updates below which a former generation of the rows has told all alerts."""
        return self.quiet_below.get(UPDATES.name, 0)

    @property
    def is_quiet(self) -> bool:
        """Whether what comes next was told by a former generation: all that it folded, and what was decided by it."""
        return bool(self.missed) or self.cursor.next_offset < self.quiet_to

    def told_alike(self, updates: list[Message]) -> list[Message]:
        """The first of the next updates, all of whose alerts were told, or none."""
        if self.missed:
            return []  # facts first
        if self.cursor.next_offset >= self.quiet_to:
            return updates
        return [update for update in updates if cast("int", update.offset()) < self.quiet_to]

    @property
    def may_decide(self) -> bool:
        """Whether its rows know all that was decided, and all updates by which it was."""
        return not self.missed and self.cursor.next_offset >= self.quiet_to


class Restorer:
    """Brings partitions from BARRIER to READY; on the pump's thread alone.

    Args:
        consumer: of the group; assigned partitions are paused in it.
        ends: a read_uncommitted client.
        follower: of inventory.stock, for this purpose alone.
        missed_facts: for this purpose alone.
        updates: inventory.updates as deployed.
        stock, facts: deployed names of inventory.stock and inventory.reservations.
    """

    def __init__(
        self,
        consumer: GroupConsumer,
        ends: EndsConsumer,
        follower: Follower,
        missed_facts: MissedFacts,
        clock: Clock,
        updates: Deployed,
        stock: str,
        facts: str,
    ) -> None:
        self._consumer = consumer
        self._ends = ends
        self._follower = follower
        self._missed_facts = missed_facts
        self._clock = clock
        self._updates = updates.name
        self._updates_generation = updates.generation
        self._stock = stock
        self._facts = facts
        self._turn = 0

    def step(self, waiting: list[Assigned], timeout_s: float) -> None:
        """Take every waiting partition one step further.

        Args:
            waiting: partitions that are not READY.
            timeout_s: how long to wait for rows when there is nothing else to do.
        """
        if at_barrier := _at(Stage.BARRIER, waiting):
            self._barrier(at_barrier)
        if at_target := _at(Stage.TARGET, waiting):
            self._target(at_target)
        for assigned in _at(Stage.SEEK, waiting):
            self._seek(assigned)
        if following := _at(Stage.FOLLOW, waiting):
            self._follower.step(RECORDS_MAX, timeout_s)
            for assigned in following:
                if self._follower.read_to(assigned.number) >= assigned.target:
                    self._own(assigned)
        if behind := _at(Stage.FACTS, waiting):
            self._missed_facts.step(timeout_s)
            for assigned in behind:
                self._catch_up(assigned)
        for assigned in waiting:
            self._tell(assigned)

    def forget(self, assigned: Assigned) -> None:
        """The partition was taken away."""
        self._follower.remove(assigned.number)
        self._missed_facts.remove(assigned.number)

    def turn_to(self, follower: Follower, stock: str) -> None:
        """Restore from another generation's topic from now on; no partition is under way."""
        self._follower.close()
        self._follower, self._stock = follower, stock

    def close(self) -> None:
        """Leave Kafka."""
        self._follower.close()
        self._missed_facts.close()
        self._ends.close()

    def _barrier(self, waiting: list[Assigned]) -> None:
        """All in one call. An open transaction on one leaves all without an answer: then one of them alone, in turn."""
        if not self._pass_barrier(waiting) and len(waiting) > 1:
            self._turn += 1
            self._pass_barrier([waiting[self._turn % len(waiting)]])

    def _pass_barrier(self, waiting: list[Assigned]) -> bool:
        try:
            answers = self._consumer.committed(self._partitions(self._updates, waiting), timeout=BARRIER_WAIT_S)
        except KafkaException as raised:
            error = raised.args[0]
            if error.fatal():
                raise Fatal(f"the group's offsets cannot be read: {error.str()}") from raised
            log.debug("barrier_waits", partitions=[a.number for a in waiting], error=error.name())
            return False
        passed = {answer.partition for answer in answers if answer.error is None}
        for assigned in waiting:
            if assigned.number in passed:
                assigned.stage = Stage.TARGET
        return len(passed) == len(waiting)

    def _target(self, waiting: list[Assigned]) -> None:
        try:
            asked = self._partitions(self._stock, waiting) + self._partitions(self._facts, waiting)
            answers = self._ends.offsets_for_times(asked, timeout=ENDS_WAIT_S)
        except KafkaException as raised:
            log.info("ends_wait", partitions=[a.number for a in waiting], error=raised.args[0].name())
            return
        ends = {(end.topic, end.partition): end.offset for end in answers if end.error is None and end.offset >= 0}
        for assigned in waiting:
            target, facts = ((topic, assigned.number) for topic in (self._stock, self._facts))
            if target in ends and facts in ends:
                assigned.target, assigned.facts_target = ends[target], ends[facts]
                self._follower.add(assigned.number, assigned.store, self._clock.now_ms())
                assigned.stage = Stage.FOLLOW

    def _partitions(self, topic: str, waiting: list[Assigned]) -> list[TopicPartition]:
        """As a time, `OFFSET_END` asks for the end."""
        return [TopicPartition(topic, assigned.number, OFFSET_END) for assigned in waiting]

    def _tell(self, assigned: Assigned) -> None:
        """Say so when a partition stays in one stage."""
        now_s = self._clock.monotonic_s()
        stage, since_s = assigned.seen
        if assigned.stage is not stage:
            assigned.seen, assigned.told_s = (assigned.stage, now_s), now_s
        elif now_s - assigned.told_s > STUCK_S:
            assigned.told_s = now_s
            for_s = round(now_s - since_s, 1)
            hint = (
                {"remedy": HANGING} if for_s > HANGING_S and stage in (Stage.BARRIER, Stage.FOLLOW, Stage.FACTS) else {}
            )
            log.warning("partition_waits", partition=assigned.number, stage=stage.name, for_s=for_s, **hint)

    def _own(self, assigned: Assigned) -> None:
        self._follower.remove(assigned.number)
        if assigned.position.updates_generation not in ("", self._updates_generation):
            raise Fatal(
                f"{self._updates} was created anew: the rows of partition {assigned.number} stand for updates of a "
                f"former topic of that name; bring that one back, or delete the topic {self._stock}, and the next "
                "start makes the rows of the updates that there are now"
            )
        assigned.cursor.next_offset = assigned.position.offsets.get(UPDATES.name, 0)
        if assigned.position.facts_from < assigned.facts_target:
            self._missed_facts.add(assigned.number, assigned.position.facts_from)
            assigned.stage = Stage.FACTS
            return
        assigned.stage = Stage.SEEK
        self._seek(assigned)

    def _catch_up(self, assigned: Assigned) -> None:
        found = self._missed_facts.found(assigned.number)
        if found is None:
            return
        assigned.closes_from = max((fact["next_update"] for fact in found), default=0)
        missed = [fact for fact in found if fact["number"] >= assigned.position.facts]
        if missed:
            log.info("facts_missed", partition=assigned.number, facts=len(missed))
        assigned.missed = missed
        assigned.stage = Stage.SEEK
        self._seek(assigned)

    def _seek(self, assigned: Assigned) -> None:
        at = TopicPartition(self._updates, assigned.number, assigned.cursor.next_offset)
        try:
            self._consumer.seek(at)
            self._consumer.resume([at])
        except KafkaException as raised:
            error = raised.args[0]
            if error.fatal():
                raise Fatal(f"{self._updates} cannot be read: {error.str()}") from raised
            log.debug("seek_waits", partition=assigned.number, error=error.name())  # the fetcher is not there yet
            return
        assigned.stage = Stage.READY
        if assigned.began_s:
            took_s = round(self._clock.monotonic_s() - assigned.began_s, 3)
            log.info(
                "partition_ready", partition=assigned.number, took_s=took_s, next_offset=assigned.cursor.next_offset
            )
            assigned.began_s = 0.0


def _at(stage: Stage, waiting: list[Assigned]) -> list[Assigned]:
    return [assigned for assigned in waiting if assigned.stage is stage]
