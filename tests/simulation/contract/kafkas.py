"""Both Kafkas behind one face: the calls of a test go to confluent_kafka's clients or to the simulated ones."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from state.follower import follower_config
from stockweave.clients import client_config
from stockweave.world import GroupConsumer, TransactionalProducer
from streams.assembly import group_config
from streams.transaction import producer_config
from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.consumer import SimulatedConsumer
from tests.simulation.kafka.producer import SimulatedProducer
from tests.simulation.process import Clock, Process

PATIENCE_S = 100.0
TRANSACTION_MS = 200_000


class Kafka(Protocol):
    """What a test may do."""

    def topic(self, partitions: int = 1, *, compacted: bool = False) -> str:
        """Create one."""
        ...

    def producer(self, transactional_id: str) -> TransactionalProducer: ...
    def follower(self) -> GroupConsumer:
        """A reader of committed data that tells ends."""
        ...

    def uncommitted(self) -> GroupConsumer: ...
    def member(self, group: str) -> GroupConsumer: ...
    def compact(self, topic: str) -> None:
        """Have a topic's partition 0 compacted, some time soon."""
        ...

    def trim(self, topic: str, before: int) -> None:
        """Delete what partition 0 has below an offset."""
        ...

    def tick(self) -> None:
        """Let Kafka do a little of what it does by itself."""
        ...


class Simulated:
    """The simulated one. Nothing fails in it: no process of the schedule is at work here."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self._clock = Clock()
        self._nobody = Process("nobody", lambda: None, lambda: None)
        self._rng = random.Random(0)

    def topic(self, partitions: int = 1, *, compacted: bool = False) -> str:
        name = f"topic-{len(self.cluster.topics)}"
        self.cluster.create(name, partitions)
        return name

    def producer(self, transactional_id: str) -> TransactionalProducer:
        return SimulatedProducer(self.cluster, self._clock, self._nobody, transactional_id)

    def follower(self) -> GroupConsumer:
        return self._consumer(ends=True)

    def uncommitted(self) -> GroupConsumer:
        return self._consumer(committed=False)

    def member(self, group: str) -> GroupConsumer:
        return self._consumer(group=group, member_id=uuid.uuid4().hex)

    def compact(self, topic: str) -> None:
        self.cluster.log(topic, 0).compact(1 << 60, 1 << 60)

    def trim(self, topic: str, before: int) -> None:
        self.cluster.log(topic, 0).trim(before)

    def tick(self) -> None:
        """One marker more is in its log."""
        for known in self.cluster.transactions.values():
            if known.ending and (known.places or known.groups):
                self.cluster.write_marker(known, 0)
                return

    def _consumer(self, **options: Any) -> GroupConsumer:
        return SimulatedConsumer(self.cluster, self._clock, self._nobody, self._rng, **options)


class Real:
    """The embedded broker; `close` ends the clients."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._admin = AdminClient(client_config(bootstrap_servers))
        self._name = f"contract-{uuid.uuid4().hex[:8]}"
        self._topics = 0
        self._consumers: list[Consumer] = []

    def topic(self, partitions: int = 1, *, compacted: bool = False) -> str:
        self._topics += 1
        name = f"{self._name}-{self._topics}"
        config = {
            "cleanup.policy": "compact",
            "min.cleanable.dirty.ratio": "0.001",
            "segment.ms": "100",
            "max.compaction.lag.ms": "200",
        }
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config if compacted else {})
        for created in self._admin.create_topics([new]).values():
            created.result()
        return name

    def producer(self, transactional_id: str) -> TransactionalProducer:
        config = producer_config(self._bootstrap_servers, f"{self._name}-{transactional_id}", TRANSACTION_MS)
        return cast("TransactionalProducer", Producer(config))

    def follower(self) -> GroupConsumer:
        return self._consumer(follower_config(self._bootstrap_servers))

    def uncommitted(self) -> GroupConsumer:
        config = client_config(self._bootstrap_servers)
        return self._consumer(config | {"group.id": self._name, "isolation.level": "read_uncommitted"})

    def member(self, group: str) -> GroupConsumer:
        return self._consumer(group_config(self._bootstrap_servers, f"{self._name}-{group}"))

    def compact(self, topic: str) -> None:
        """The broker does it by itself once there is a newer segment."""
        producer = Producer(client_config(self._bootstrap_servers))
        time.sleep(0.15)  # segment.ms: the next record begins a new one
        producer.produce(topic, b"newer segment", b"newer segment", 0)
        producer.flush()

    def trim(self, topic: str, before: int) -> None:
        for deleted in self._admin.delete_records([TopicPartition(topic, 0, before)]).values():
            deleted.result()

    def tick(self) -> None:
        """It needs no help."""

    def close(self) -> None:
        for consumer in self._consumers:
            consumer.close()

    def _consumer(self, config: dict[str, Any]) -> GroupConsumer:
        consumer = Consumer(config)
        self._consumers.append(consumer)
        return cast("GroupConsumer", consumer)


def until(kafka: Kafka, done: Callable[[], bool]) -> None:
    """Repeat `done`, which may poll, until it is."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline_s, "it did not come about"
        kafka.tick()


def read(kafka: Kafka, consumer: GroupConsumer, count: int) -> list[Message]:
    """The next messages that are no errors."""
    found: list[Message] = []

    def enough() -> bool:
        found.extend(m for m in consumer.consume(100, 0.1) if m.error() is None)
        return len(found) >= count

    until(kafka, enough)
    return found


def first_error(kafka: Kafka, consumer: GroupConsumer) -> int:
    """The code of the first error that a reader is told."""
    codes: list[int] = []

    def told() -> bool:
        codes.extend(e.code() for m in consumer.consume(10, 0.1) if (e := m.error()) is not None)
        return bool(codes)

    until(kafka, told)
    return codes[0]


def nothing_comes(consumer: GroupConsumer, tries: int = 5) -> bool:
    """Whether a reader is brought nothing for a while."""
    return not [m for _ in range(tries) for m in consumer.consume(100, 0.1) if m.error() is None]


def started(kafka: Kafka, transactional_id: str = "t") -> TransactionalProducer:
    producer = kafka.producer(transactional_id)
    producer.init_transactions(20)
    return producer


def write(producer: TransactionalProducer, topic: str, *values: bytes, key: bytes = b"k", partition: int = 0) -> None:
    """A transaction of its own."""
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, key, partition)
    assert producer.flush(20) == 0
    producer.commit_transaction(20)


def reader(kafka: Kafka, topic: str, at: int = OFFSET_BEGINNING, partition: int = 0) -> GroupConsumer:
    consumer = kafka.follower()
    consumer.incremental_assign([TopicPartition(topic, partition, at)])
    return consumer


def values(messages: list[Message]) -> list[bytes | None]:
    return [message.value() for message in messages]
