"""The Kafka of a benchmark: an embedded broker of its own in a temporary folder, and small readers of its topics."""

from __future__ import annotations

import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from stockweave.broker.kafka import EmbeddedKafka
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal
from stockweave.ports import free_port

OFFSETS_TOPIC = "__consumer_offsets"
ANSWER_S = 30.0
LOOK_S = 0.2
HEAP_MB = 1_024
BATCH = 10_000
ABSENT = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND}
NOT_YET = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NON_EMPTY_GROUP,
}
"""What a deletion may be told while the broker or the group's last member is not through."""


@contextmanager
def own_broker() -> Iterator[tuple[EmbeddedKafka, Path]]:
    """A started broker and a folder to work in; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="stockweave-bench-") as name:
        folder = Path(name)
        with EmbeddedKafka(folder / "kafka", free_port(), heap_mb=HEAP_MB) as broker:
            yield broker, folder


def read_to_end(bootstrap_servers: str, topic: str) -> Iterator[Message]:
    """Every record of all partitions up to the present end.

    Raises:
        Fatal: nothing comes, or an error that does not pass.
    """
    consumer = Consumer(
        client_config(bootstrap_servers)
        | {
            "group.id": "benchmark-reader",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 5,
        },
        logger=CLIENT_LOGGER,
    )
    try:
        partitions = list(consumer.list_topics(topic, ANSWER_S).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        unfinished, heard_at_s = set(partitions), time.monotonic()
        while unfinished:
            messages = consumer.consume(BATCH, LOOK_S)
            if messages:
                heard_at_s = time.monotonic()
            elif time.monotonic() - heard_at_s > ANSWER_S:
                raise Fatal(f"{topic} has brought nothing for {ANSWER_S:.0f} s; is the broker well?")
            for message in messages:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    unfinished.discard(message.partition() or 0)
                elif not error.retriable():
                    raise Fatal(f"{topic} cannot be read: {error.str()}")
    finally:
        consumer.close()


def commit_times_ms(bootstrap_servers: str, group: str) -> list[int]:
    """When the group's offsets were committed, by the broker's clock: a commit's offsets share one time."""
    times = set()
    for message in read_to_end(bootstrap_servers, OFFSETS_TOPIC):
        key = message.key()
        if key is None or message.value() is None or struct.unpack_from(">h", key)[0] > 1:
            continue  # the group's own metadata, or an offset that was removed
        (length,) = struct.unpack_from(">h", key, 2)
        if key[4 : 4 + length].decode() == group:
            times.add(message.timestamp()[1])
    return sorted(times)


def forget(bootstrap_servers: str, topics: Sequence[str], groups: Sequence[str]) -> None:
    """Delete topics and groups of an earlier run; those that are not there are no matter.

    Raises:
        Fatal: one is there to stay.
    """
    admin = AdminClient(client_config(bootstrap_servers), logger=CLIENT_LOGGER)
    for name in topics:
        _delete(lambda name=name: admin.delete_topics([name])[name])  # type: ignore[misc]
    for name in groups:
        _delete(lambda name=name: admin.delete_consumer_groups([name])[name])  # type: ignore[misc]


def _delete(delete: Callable[[], Future[Any]]) -> None:
    deadline_s = time.monotonic() + ANSWER_S
    while True:
        try:
            delete().result(ANSWER_S)
        except KafkaException as raised:
            error = raised.args[0]
            if error.code() in ABSENT:
                return
            if error.code() not in NOT_YET or time.monotonic() > deadline_s:
                raise Fatal(
                    f"what an earlier run left cannot be deleted: {error.str()}; see the broker's log"
                ) from raised
            time.sleep(LOOK_S)
        else:
            return


def begin_at(bootstrap_servers: str, group: str, topic: str, offsets: Sequence[int]) -> None:
    """Have a group that is not there yet begin at these offsets, by partition."""
    admin = AdminClient(client_config(bootstrap_servers), logger=CLIENT_LOGGER)
    places = [TopicPartition(topic, number, offset) for number, offset in enumerate(offsets)]
    for altered in admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)]).values():
        altered.result(ANSWER_S)
