"""Makes another generation of a deployment's rows by copying the live one, as a rebuild would; and moves the record."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import cast

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from schemas import keys
from schemas.admin import Deployed, create_generation
from schemas.generation_log import write
from schemas.generations import Generation, Generations, name_of
from stockweave.settings import Settings
from tests.deployment import AT_ONCE, consumed

WAIT_S = 30.0


def copy_rows(
    settings: Settings,
    bootstrap_servers: str,
    source: Deployed,
    number: int,
    alter: Callable[[bytes, bytes], bytes] = lambda _, value: value,
) -> Deployed:
    """A generation with the rows and positions that `source` has at this moment, each partition in one transaction."""
    made = create_generation(settings, bootstrap_servers, number)
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "transactional.id": f"{made.name}-{uuid.uuid4().hex[:8]}"}
    )
    producer.init_transactions(WAIT_S)
    for partition in range(source.partitions):
        kept = read_partition(bootstrap_servers, source.name, partition)
        position = kept.pop(keys.POSITION, None)
        producer.begin_transaction()
        for key in sorted(kept):
            producer.produce(made.name, alter(key, kept[key]), key, partition)
            producer.poll(0)
        if position is not None:
            producer.produce(made.name, position, keys.POSITION, partition)
        producer.commit_transaction(WAIT_S)
    return made


def read_partition(bootstrap_servers: str, topic: str, partition: int) -> dict[bytes, bytes]:
    """What a partition holds after a transaction at or past its present end; it may be written to meanwhile."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "test-copier",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            **AT_ONCE,
        }
    )
    at_most = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=WAIT_S)
    assert at_most is not None
    consumer.assign([TopicPartition(topic, partition, 0)])
    kept: dict[bytes, bytes] = {}
    deadline = time.monotonic() + WAIT_S
    try:
        while True:
            assert time.monotonic() < deadline, f"{topic}-{partition} could not be read to its end"
            for message in consumed(consumer):
                error, key, value = message.error(), cast("bytes", message.key()), message.value()
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    return kept
                if value is None:
                    kept.pop(key, None)
                else:
                    kept[key] = value
                if key == keys.POSITION and cast("int", message.offset()) + 2 >= at_most[1]:
                    return kept  # the last record of a transaction; its marker follows
    finally:
        consumer.close()


def tell(
    settings: Settings, bootstrap_servers: str, live: int, candidate: int | None = None, previous: int | None = None
) -> None:
    """Write the record."""

    def named(number: int | None) -> Generation | None:
        return None if number is None else Generation(number, name_of(number, settings))

    now_ms = time.time_ns() // 1_000_000
    said = Generations(Generation(live, name_of(live, settings)), named(candidate), named(previous), now_ms)
    write(settings, bootstrap_servers, said)
