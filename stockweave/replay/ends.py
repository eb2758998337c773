"""Where a partition's log begins and ends, asked of Kafka with patience.

What has no leader at the moment, since it is new or moves, is asked again; any other failure is `Retriable` and names
the topic. A read_committed client is told the last stable offset, a read_uncommitted one the end of all that is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Retriable

WAIT_S = 10.0
LEADER_POLL_S = 0.05
LEADERLESS = (  # _UNKNOWN_PARTITION: the client's own, while a broker that was away describes the topic without it
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
)

Answer = TypeVar("Answer")


def log_ends(
    bootstrap_servers: str, topic: str, partitions: Sequence[int], kept: Consumer | None = None
) -> dict[int, tuple[int, int]]:
    """The first offset and the one after the last, by partition: of all that is there, committed or not.

    From a read_uncommitted client, for a read_committed one, such as `kept` may be, is told the last stable offset,
    which may lag behind what is committed already.

    Raises:
        Retriable: Kafka does not answer.
    """
    config = client_config(bootstrap_servers) | {"group.id": "stockweave-replay", "isolation.level": "read_uncommitted"}
    consumer = Consumer(config, logger=CLIENT_LOGGER) if kept is None else kept
    try:
        return {partition: ends(consumer, topic, partition) for partition in partitions}
    finally:
        if kept is None:
            consumer.close()


def ends(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """The first offset and the one after the last, as this client's isolation has them.

    Raises:
        Retriable: Kafka does not answer.
    """
    asked = TopicPartition(topic, partition)
    return _told(consumer, asked, lambda: consumer.get_watermark_offsets(asked, timeout=WAIT_S))


def offset_at(consumer: Consumer, topic: str, partition: int, at_ms: int) -> int | None:
    """The first offset whose time is `at_ms` (since the epoch, UTC) or later; None: there is none.

    Raises:
        Retriable: Kafka does not answer.
    """

    def answer() -> int:
        [told] = consumer.offsets_for_times([TopicPartition(topic, partition, at_ms)], timeout=WAIT_S)
        if told.error is not None:
            raise KafkaException(told.error)
        return told.offset

    offset = _told(consumer, TopicPartition(topic, partition), answer)
    return offset if offset >= 0 else None


def _told(consumer: Consumer, about: TopicPartition, ask: Callable[[], Answer | None]) -> Answer:
    deadline_s = time.monotonic() + WAIT_S
    while True:
        try:
            answer = ask()
        except KafkaException as raised:
            error = raised.args[0]
            if error.code() in LEADERLESS and time.monotonic() < deadline_s:
                time.sleep(LEADER_POLL_S)
                _look_for_leader(consumer, about.topic)
                continue
            raise Retriable(
                f"{about.topic} partition {about.partition} does not tell its offsets: {error.str()}; is Kafka running?"
            ) from raised
        if answer is None:
            raise Retriable(
                f"{about.topic} partition {about.partition} does not tell its offsets in time; is Kafka running?"
            )
        return answer


def _look_for_leader(consumer: Consumer, topic: str) -> None:
    try:
        consumer.list_topics(topic, timeout=WAIT_S)
    except KafkaException as raised:
        raise Retriable(f"{topic} is not described: {raised.args[0].str()}; is Kafka running?") from raised
