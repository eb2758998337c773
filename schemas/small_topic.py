"""Reads a small topic, most have one partition: from its beginning, and on. For what every process has to know of.

`Reading` goes on, on one thread; `read_all` gives what is committed now, for starts and commands. Used by
`schemas.generation_log`, `schemas.policy_log` and `schemas.feed_health_log`; `check` by other readers as well.
"""

from __future__ import annotations

import time
from typing import cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from stockweave.clients import CLIENT_LOGGER, client_config, make_known, reading_config
from stockweave.errors import Fatal, Retriable

ANSWER_S = 3.0
WAIT_S = 15.0
POLL_S = 0.05
FETCH_WAIT_MS = 100  # the end of a topic is told only after so long without news
QUICK_FETCH_WAIT_MS = 5
MESSAGES_MAX = 1_000
GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)


class Reading:
    """Reads the topic from its beginning, as committed; on one thread.

    Args:
        topic: the deployed name.
        bootstrap_servers: of its Kafka.
        quick: be at the end as soon as can be, which asks more of the broker from then on.
        partitions: of the topic.

    Raises:
        Retriable: quick, and Kafka does not answer.
    """

    def __init__(self, topic: str, bootstrap_servers: str, *, quick: bool = False, partitions: int = 1) -> None:
        self._topic = topic
        self._ended_at = dict.fromkeys(range(partitions), -1)
        config = reading_config(bootstrap_servers, f"stockweave-{topic}") | {
            "fetch.wait.max.ms": QUICK_FETCH_WAIT_MS if quick else FETCH_WAIT_MS,
        }
        self._consumer = Consumer(config, logger=CLIENT_LOGGER)
        if quick:
            make_known(topic, self._consumer, bootstrap_servers)
        self._consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])

    @property
    def ended_at(self) -> int:
        """The offset up to which the topic was once read to its end, of several partitions the lowest; -1 before."""
        return min(self._ended_at.values())

    def poll(self, timeout_s: float) -> list[Message]:
        """What has come, waiting for the first message only.

        Raises:
            Fatal: the topic is gone, or may not be read.
        """
        messages = self._consumer.consume(1, timeout_s)
        if messages:
            messages += self._consumer.consume(MESSAGES_MAX, 0)
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                number = message.partition() or 0
                self._ended_at[number] = max(self._ended_at[number], message.offset() or 0)
            else:
                check(self._topic, error)
        return records

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()


def check(topic: str, error: KafkaError) -> None:
    """Raises Fatal if reading can never go on; whatever can pass, librdkafka tries again by itself."""
    if error.code() in GONE:
        raise Fatal(f"topic {topic} is gone: {error.str()}; restart to create it")
    if error.fatal() or error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION):
        raise Fatal(f"topic {topic} cannot be read: {error.str()}; grant the right to read it")


def read_all(topic: str, bootstrap_servers: str) -> list[Message]:
    """The records that the topic holds now, as committed; none where there is no such topic.

    Raises:
        Retriable: Kafka does not answer, or a transaction is under way in the topic and does not end.
        Fatal: the topic may not be read.
    """
    end = _end(topic, bootstrap_servers)
    if end <= 0:
        return []
    reading = Reading(topic, bootstrap_servers, quick=True)
    records: list[Message] = []
    deadline = time.monotonic() + WAIT_S
    try:
        while reading.ended_at < end:
            if time.monotonic() > deadline:
                raise Retriable(
                    f"topic {topic} could not be read to its end at {bootstrap_servers} within {WAIT_S:g} s; is Kafka "
                    "running, and is somebody just writing it? Try again"
                )
            records += reading.poll(POLL_S)
        return records
    finally:
        reading.close()


def _end(topic: str, bootstrap_servers: str) -> int:
    """The topic's end with what is not committed yet; -1 where there is no such topic."""
    admin = AdminClient(client_config(bootstrap_servers), logger=CLIENT_LOGGER)
    asked = TopicPartition(topic, 0)
    try:
        if asked.topic not in admin.list_topics(timeout=ANSWER_S).topics:
            return -1
    except KafkaException as error:
        raise _unanswered(bootstrap_servers, error) from error
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    uncommitted = IsolationLevel.READ_UNCOMMITTED
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            found = admin.list_offsets({asked: latest}, isolation_level=uncommitted, request_timeout=ANSWER_S)
            answer = found[asked].result()
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise _unanswered(bootstrap_servers, error) from error
            time.sleep(POLL_S)  # a broker leads a partition a moment after the controller has created it
        else:
            if answer.offset >= 0:  # below: how librdkafka tells of a broker that stands still
                return cast("int", answer.offset)
            raise Retriable(f"Kafka at {bootstrap_servers} does not answer in time; is it running?")


def _unanswered(bootstrap_servers: str, error: KafkaException) -> Retriable:
    return Retriable(f"Kafka at {bootstrap_servers} does not answer: {error.args[0].str()}; is it running?")
