"""The broker: logs, the coordinator of transactions, groups.

A transaction is decided in one step, as in Kafka: from then on its end is reported, while the markers that make it
visible are written later, partition by partition.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import Enum, auto

from confluent_kafka import KafkaError

from tests.simulation.kafka.errors import fatal
from tests.simulation.kafka.group import Group, Place
from tests.simulation.kafka.log import Log


class State(Enum):
    """Of a transactional.id."""

    EMPTY = auto()
    ONGOING = auto()
    COMMITTING = auto()
    ABORTING = auto()


@dataclass
class Ongoing:
    """What the coordinator knows of one transactional.id.

    `places`, `groups`: what the transaction touched, and once it is decided, whose markers are still on their way.
    """

    producer: int
    epoch: int = 0
    state: State = State.EMPTY
    began_ms: int = 0
    places: list[Place] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    @property
    def ending(self) -> bool:
        """Decided, and not all of its markers are written."""
        return self.state in (State.COMMITTING, State.ABORTING)


class Cluster:
    """Topics by name, each with its partitions' logs. `rng`: what is lost."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random(0)
        self.topics: dict[str, list[Log]] = {}
        self.groups: dict[str, Group] = {}
        self.transactions: dict[str, Ongoing] = {}
        self.torn = False  # whether a marker was ever lost

    def create(self, topic: str, partitions: int) -> None:
        """A topic."""
        self.topics[topic] = [Log(topic, number) for number in range(partitions)]

    def log(self, topic: str, number: int) -> Log:
        """One partition."""
        return self.topics[topic][number]

    def group(self, name: str) -> Group:
        """A group, made when it is first named."""
        return self.groups.setdefault(name, Group(name))

    # -- transactions

    def init(self, transactional_id: str) -> Ongoing:
        """Fence every former producer of this id, and undo what it left open; what was decided is carried out."""
        known = self.transactions.get(transactional_id)
        if known is None:
            known = self.transactions[transactional_id] = Ongoing(len(self.transactions))
        elif known.state is State.ONGOING:
            known.state = State.ABORTING
        self.finish(known)
        known.epoch += 1
        return known

    def check(self, transactional_id: str, epoch: int) -> Ongoing:
        """The transaction state of a producer.

        Raises:
            KafkaException: it is fenced, for good.
        """
        known = self.transactions[transactional_id]
        if known.epoch != epoch:
            raise fatal(KafkaError._FENCED)
        return known

    def enlist(self, known: Ongoing, now_ms: int) -> None:
        """A producer's first word of a transaction, or a later one."""
        self.finish(known)  # the former one's markers go first
        if known.state is State.EMPTY:
            known.state, known.began_ms = State.ONGOING, now_ms

    def append(
        self,
        known: Ongoing,
        place: Place,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None,
        now_ms: int,
    ) -> int:
        """A record within a producer's transaction; its offset."""
        self.enlist(known, now_ms)
        if place not in known.places:
            known.places.append(place)
        return self.log(*place).append(key, value, headers, now_ms, known.producer)

    def offer(
        self, known: Ongoing, group: str, offsets: dict[Place, int], member: tuple[str, int], now_ms: int
    ) -> None:
        """Offsets within a producer's transaction; raises as `Group.offer`."""
        self.enlist(known, now_ms)
        if group not in known.groups:
            known.groups.append(group)
        self.group(group).offer(known.producer, offsets, *member)

    def end(self, known: Ongoing, *, commit: bool) -> None:
        """Decide; the markers are on their way from now on."""
        if known.state is State.ONGOING:
            known.state = State.COMMITTING if commit else State.ABORTING

    def has_decided_to_commit(self, producer: int) -> bool:
        """Whether a producer's transaction is decided so, and its markers may still be on their way."""
        return any(t.producer == producer and t.state is State.COMMITTING for t in self.transactions.values())

    def lose_markers(self, known: Ongoing) -> bool:
        """The tear: the end is decided and told, some of its markers are never written, and it is taken for ended.

        Whether there was any to lose. So it is after a kill of the broker, which begins again with the ends that it
        finds before it knows of all partitions. The transaction hangs where its marker is missing, until another one of
        the same producer ends there.
        """
        if not known.ending or not (known.places or known.groups):
            return False
        ways: list[Place | str] = [*known.places, *known.groups]
        lost = self._rng.sample(ways, self._rng.randint(1, len(ways)))
        self.torn = True
        known.places = [place for place in known.places if place not in lost]
        known.groups = [group for group in known.groups if group not in lost]
        self.finish(known)
        return True

    def write_marker(self, known: Ongoing, at: int) -> Place | str:
        """Write one of the markers that are on their way; which partition's, or group's, it was."""
        commit = known.state is State.COMMITTING
        ways: list[Place | str] = [*known.places, *known.groups]
        way = ways[at % len(ways)]
        if isinstance(way, str):
            self.groups[way].mark(known.producer, commit=commit)
            known.groups.remove(way)
        else:
            self.log(*way).mark(known.producer, commit=commit)
            known.places.remove(way)
        if not known.places and not known.groups:
            known.state = State.EMPTY
        return way

    def finish(self, known: Ongoing) -> None:
        """Write all markers that are on their way."""
        while known.ending:
            if known.places or known.groups:
                self.write_marker(known, 0)
            else:
                known.state = State.EMPTY

    def expire(self, known: Ongoing) -> None:
        """Undo what is open for longer than its timeout, and fence its producer."""
        if known.state is State.ONGOING:
            known.state = State.ABORTING
            known.epoch += 1
