"""Reads and writes the record of generations in inventory.generations, a compacted topic of one partition.

`read` gives the newest committed record, for starts and commands; `GenerationLog` goes on reading, for whoever follows
it (`state.generations`); `write` is for a writer that no other may get in the way of.
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
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from schemas.generations import KEY, Generations, decode, encode, first
from schemas.topics import GENERATIONS
from stockweave.clients import CLIENT_LOGGER, client_config, make_known
from stockweave.errors import Fatal, Retriable
from stockweave.settings import Settings

ANSWER_S = 3.0
WAIT_S = 15.0
POLL_S = 0.05
FETCH_WAIT_MS = 100  # the end of a topic is told only after so long without news
QUICK_FETCH_WAIT_MS = 5
GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)


class GenerationLog:
    """Reads the topic from its beginning, and goes on; on one thread.

    Args:
        settings: of the deployment.
        bootstrap_servers: of its Kafka.
        quick: be at the end as soon as can be, which asks more of the broker from then on.

    Raises:
        Retriable: quick, and Kafka does not answer.
    """

    def __init__(self, settings: Settings, bootstrap_servers: str, *, quick: bool = False) -> None:
        self._settings = settings
        self._topic = settings.topic(GENERATIONS.name)
        self.newest = first(settings)
        self.ended_at = -1
        """The offset up to which the topic was once read to its end; -1 before."""
        config = client_config(bootstrap_servers) | {
            "group.id": "stockweave-generations",  # librdkafka wants one; nothing is ever committed under it
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": QUICK_FETCH_WAIT_MS if quick else FETCH_WAIT_MS,
        }
        self._consumer = Consumer(config, logger=CLIENT_LOGGER)
        if quick:
            make_known(self._topic, self._consumer, bootstrap_servers)
        self._consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])

    def poll(self, timeout_s: float) -> bool:
        """Read what is there, waiting for the first message only; whether `newest` or `ended_at` moved.

        Raises:
            Fatal: the topic is gone, or the record cannot be read.
        """
        messages = self._consumer.consume(1, timeout_s)
        if messages:
            messages += self._consumer.consume(1_000, 0)
        moved = False
        for message in messages:
            error = message.error()
            if error is None:
                moved |= self._take(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self.ended_at = max(self.ended_at, message.offset() or 0)
                moved = True
            else:
                self._check(error)
        return moved

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _take(self, message: Message) -> bool:
        if message.key() != KEY:
            return False
        self.newest = decode(message.value(), self._settings)
        return True

    def _check(self, error: KafkaError) -> None:
        """Librdkafka retries by itself whatever can pass; the rest ends the process."""
        if error.code() in GONE:
            raise Fatal(f"topic {self._topic} is gone: {error.str()}; restart to create it")
        if error.fatal() or error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION):
            raise Fatal(f"topic {self._topic} cannot be read: {error.str()}; grant the right to read it")


def read(settings: Settings, bootstrap_servers: str) -> Generations:
    """The newest committed record; `first` where there is none, or no such topic.

    Raises:
        Retriable: Kafka does not answer, or a write of the record is under way and does not end.
        Fatal: the record cannot be read.
    """
    end = _end(settings, bootstrap_servers)
    if end <= 0:
        return first(settings)
    log = GenerationLog(settings, bootstrap_servers, quick=True)
    deadline = time.monotonic() + WAIT_S
    try:
        while log.ended_at < end:
            if time.monotonic() > deadline:
                raise Retriable(
                    f"topic {settings.topic(GENERATIONS.name)} could not be read to its end at {bootstrap_servers} "
                    f"within {WAIT_S:g} s; is Kafka running, and is a rebuild at its switch? Try again"
                )
            log.poll(POLL_S)
        return log.newest
    finally:
        log.close()


def write(settings: Settings, bootstrap_servers: str, generations: Generations) -> None:
    """Write the record and wait until all in-sync replicas have it.

    Raises:
        Retriable: Kafka did not confirm it.
    """
    producer = Producer(client_config(bootstrap_servers) | {"enable.idempotence": True}, logger=CLIENT_LOGGER)
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    topic = settings.topic(GENERATIONS.name)
    make_known(topic, producer, bootstrap_servers)
    producer.produce(topic, encode(generations), KEY, 0, on_delivery=delivered)
    if producer.flush(WAIT_S) or failed:
        why = failed[0].str() if failed else f"no answer within {WAIT_S:g} s"
        raise Retriable(f"the record of generations was not confirmed by {topic}: {why}; read it, and try again")


def _end(settings: Settings, bootstrap_servers: str) -> int:
    """The topic's end with what is not committed yet; -1 where there is no such topic."""
    admin = AdminClient(client_config(bootstrap_servers), logger=CLIENT_LOGGER)
    asked = TopicPartition(settings.topic(GENERATIONS.name), 0)
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
