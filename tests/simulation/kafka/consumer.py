"""A consumer, as librdkafka's: positions, pauses, ends of partitions as events, and rebalances within `consume`."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, Message, TopicPartition

from schemas.topics import RESERVATION_STEPS
from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.errors import plain, retriable
from tests.simulation.kafka.group import Group, Place
from tests.simulation.kafka.log import Log
from tests.simulation.kafka.producer import metadata
from tests.simulation.process import Clock, Process

FAULTS = {
    "consume": ("slow", "interrupted", "ran_ahead", "came_again"),
    "committed": ("timeout",),
    "offsets_for_times": ("timeout",),
    "seek": ("not_there_yet",),
    "resume": (),
}
"""What can go wrong with each call, beside a kill before or after it."""

Callback = Callable[..., None]


@dataclass
class _Fetch:
    """A partition that is assigned.

    `position`: the next offset to look at; `told_end`: the last end that was told; `misled`: how many of its next
    fetches are from another place than they should be, or come right after one.
    """

    position: int
    paused: bool = False
    told_end: int = -1
    misled: int = 0
    seen: tuple[int, int] | None = None


class SimulatedConsumer:
    """Satisfies the consumers of `stockweave.world`.

    Args:
        committed: `isolation.level`; `ends`: `enable.partition.eof`.
        rng: how much each call brings, and from where.
        group: to join by `subscribe`.
    """

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        process: Process,
        rng: random.Random,
        *,
        committed: bool = True,
        ends: bool = False,
        group: str = "",
        member_id: str = "",
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._process = process
        self._rng = rng
        self._is_committed = committed
        self._tells_ends = ends
        self._fetches: dict[Place, _Fetch] = {}
        self._group_name = group
        self._member_id = member_id
        self._epoch = -1
        self._topics: list[str] = []
        self._callbacks: dict[str, Callback] = {}
        self._settled_at = -1  # of the group's changes: since then nothing was wanted of this member

    # -- the group

    def subscribe(
        self, topics: list[str], on_assign: Callback = print, on_revoke: Callback = print, on_lost: Callback = print
    ) -> None:
        """Join with the next `consume`."""
        self._topics = topics
        self._callbacks = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost}

    def consumer_group_metadata(self) -> bytes:
        """As this client knows it, which may be long past."""
        return metadata(self._group_name, self._member_id if self._epoch >= 0 else "", self._epoch)

    def _beat(self) -> None:
        """The heartbeat: what the coordinator wants of this member is done here."""
        if not self._topics:
            return
        group = self._cluster.group(self._group_name)
        if self._settled_at == group.changes:
            return
        member = group.members.get(self._member_id)
        if member is None or self._epoch < 0:
            self._rejoin(group)
            return
        if revoked := group.to_revoke(self._member_id):
            self._call("revoke", revoked)
            group.revoked(self._member_id, revoked)
        elif assigned := group.to_assign(self._member_id):
            group.assigned(self._member_id, assigned)
            self._epoch = group.members[self._member_id].epoch
            self._call("assign", assigned)
        else:
            self._settled_at = group.changes
        self._epoch = group.members[self._member_id].epoch

    def _rejoin(self, group: Group) -> None:
        if self._epoch >= 0:  # it was out of the group, and did not know
            self._epoch = -1
            self._call("lost", sorted(self._fetches))
        places = [(topic, log.number) for topic in self._topics for log in self._cluster.topics[topic]]
        group.join(self._member_id, places)
        self._epoch = group.members[self._member_id].epoch

    def _call(self, which: str, places: list[Place]) -> None:
        self._callbacks[which](self, [TopicPartition(topic, number) for topic, number in places])

    # -- assignment

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        """Begin to fetch at the offsets given."""
        for p in partitions:
            log = self._cluster.log(p.topic, p.partition)
            offset = {OFFSET_BEGINNING: log.start, OFFSET_END: self._end(log)}.get(p.offset, p.offset)
            self._fetches[p.topic, p.partition] = _Fetch(offset)

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        """Fetch no more."""
        for p in partitions:
            if self._fetches.pop((p.topic, p.partition), None) is None:
                raise plain(KafkaError._STATE)

    def pause(self, partitions: list[TopicPartition]) -> None:
        """Bring nothing of them."""
        for p in partitions:
            self._fetches[p.topic, p.partition].paused = True

    def resume(self, partitions: list[TopicPartition]) -> None:
        """Bring them again."""
        fault = self._process.reach("resume")
        for p in partitions:
            self._fetches[p.topic, p.partition].paused = False
        self._process.reached_end(fault)

    def seek(self, partition: TopicPartition) -> None:
        """Go on elsewhere."""
        fault = self._process.reach("seek")
        fetch = self._fetches.get((partition.topic, partition.partition))
        if fetch is None or fault == "not_there_yet":
            raise plain(KafkaError._STATE)
        fetch.position, fetch.told_end = partition.offset, -1
        self._process.reached_end(fault)

    # -- reading

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """Some of what there is; waits for the first, in simulated time."""
        fault = self._process.reach("consume")
        self._beat()
        if fault == "interrupted":
            return [Message(error=KafkaError(KafkaError._TRANSPORT, "simulated"))]
        if fault in ("ran_ahead", "came_again"):
            self._mislead(3 if fault == "ran_ahead" else -3)
        found = [] if fault == "slow" else self._fetch(num_messages)
        if not found and timeout > 0:
            self._clock.pass_ms(timeout * 1_000)
            self._process.wait()
        self._process.reached_end(fault)
        return found

    def _mislead(self, by: int) -> None:
        """Go on at another place than the next, in each partition where that was not so just before.

        The product does not rely on a consumer that brings every message once and in turn: it seeks, and the second
        time it believes what it is brought. Not so ahead in what passes between lines and coordinators: there markers
        lie everywhere, so no gap is read again, and what is silent is asked again.
        """
        for place, fetch in self._fetches.items():
            if by > 0 and place[0] == RESERVATION_STEPS.name:
                continue
            if not self._tells_ends and not fetch.misled and not fetch.paused:
                log = self._cluster.log(*place)
                fetch.position = min(max(fetch.position + by, log.start), self._end(log))
                fetch.misled = 2

    def _fetch(self, wanted: int) -> list[Message]:
        found: list[Message] = []
        places = list(self._fetches)
        if len(places) > 1:
            first = self._rng.randrange(len(places))
            places = places[first:] + places[:first]
        for place in places:
            fetch = self._fetches[place]
            if fetch.paused or len(found) >= wanted:
                continue
            found += self._fetch_from(place, fetch, wanted - len(found))
        return found

    def _fetch_from(self, place: Place, fetch: _Fetch, wanted: int) -> list[Message]:
        log = self._cluster.log(*place)
        topic, number = place
        end = self._end(log)
        fetch.seen = (log.start, end)
        if fetch.misled:  # nor can what was deleted since come again
            fetch.position = max(fetch.position, log.start)
        if not log.start <= fetch.position <= log.end:
            error = KafkaError(KafkaError._AUTO_OFFSET_RESET, f"no offset {fetch.position}")
            fetch.paused = True  # librdkafka fetches no more of it
            return [Message(topic=topic, partition=number, offset=fetch.position, error=error)]
        fetch.misled = max(0, fetch.misled - 1) if fetch.position < end else fetch.misled
        records_max = min(wanted, self._rng.randint(1, 40)) if fetch.position < end else wanted
        records, fetch.position = log.read(fetch.position, records_max, committed=self._is_committed)
        found = [
            Message(
                topic=topic, partition=number, offset=r.offset, key=r.key, value=r.value,
                headers=cast("Any", r.headers), timestamp=(2, r.timestamp),
            )
            for r in records
        ]  # fmt: skip
        if self._tells_ends and fetch.position >= end and fetch.told_end != fetch.position and len(found) < records_max:
            fetch.told_end = fetch.position
            error = KafkaError(KafkaError._PARTITION_EOF, "simulated")
            found.append(Message(topic=topic, partition=number, offset=fetch.position, error=error))
        return found

    # -- questions

    def committed(self, partitions: list[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        """The group's offsets; of a reader of committed data, once no transaction holds one of them."""
        fault = self._process.reach("committed")
        group = self._cluster.group(self._group_name)
        unstable = any(group.unstable((p.topic, p.partition)) for p in partitions)
        if fault == "timeout" or (unstable and self._is_committed):
            self._clock.pass_ms(max(0.0, timeout) * 1_000)
            self._process.wait()
            raise retriable(KafkaError._TIMED_OUT)
        answer = [
            TopicPartition(p.topic, p.partition, group.committed.get((p.topic, p.partition), -1001)) for p in partitions
        ]
        self._process.reached_end(fault)
        return answer

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        """Where the partitions end; other times are not asked for here."""
        fault = self._process.reach("offsets_for_times")
        if fault == "timeout":
            raise retriable(KafkaError._TIMED_OUT)
        answer = []
        for p in partitions:
            assert p.offset == OFFSET_END, "only the end is simulated"
            answer.append(TopicPartition(p.topic, p.partition, self._end(self._cluster.log(p.topic, p.partition))))
        self._process.reached_end(fault)
        return answer

    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float = -1, cached: bool = False
    ) -> tuple[int, int] | None:
        """Beginning and end as this reader's isolation has them; `cached`: as of its last fetch."""
        if cached:
            fetch = self._fetches.get((partition.topic, partition.partition))
            return None if fetch is None else fetch.seen
        log = self._cluster.log(partition.topic, partition.partition)
        return log.start, self._end(log)

    def close(self) -> None:
        """Leave the group, which takes what is owned back first."""
        self._process.reach("close")
        if self._topics and self._epoch >= 0:
            group = self._cluster.group(self._group_name)
            if self._member_id in group.members and self._fetches:
                self._call("revoke", sorted(self._fetches))
            group.leave(self._member_id)
        self._topics, self._epoch = [], -1
        self._fetches.clear()

    def _end(self, log: Log) -> int:
        return log.stable_end if self._is_committed else log.end
