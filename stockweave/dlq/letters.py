"""The dead letters that nobody has settled, as `stockweave dlq` shows them. Used by `command` and `retry`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition

from connectors.runner.letters import FEED
from schemas.admin import Deployed
from schemas.small_topic import read_all
from schemas.topics import DEAD_LETTERS, SETTLED
from stockweave.clients import CLIENT_LOGGER, client_config, make_known, reading_config
from stockweave.errors import Rejected, Retriable

WAIT_S = 15.0  # without a record
ERRORS = "__connect.errors."
NOTE = "stockweave.note"  # of a record that is no letter


class Letter(NamedTuple):
    """One. `id`: its partition and offset. `headers`: of one name the last."""

    id: str
    at_ms: int
    key: bytes | None
    original: bytes | None
    headers: Mapping[str, bytes]

    def told(self, name: str) -> str:
        """A header as text; empty where there is none."""
        return (self.headers.get(name) or b"").decode(errors="replace")

    @property
    def stage(self) -> str:
        """Who refused it."""
        return self.told(f"{ERRORS}stage")

    @property
    def reason(self) -> str:
        """The stable code."""
        return self.told(f"{ERRORS}exception.class.name")

    @property
    def detail(self) -> str:
        """What is wrong, and the remedy."""
        return self.told(f"{ERRORS}exception.message")

    @property
    def feed(self) -> str:
        """The whole name of its feed; empty if it is none of a feed's."""
        return self.told(FEED).rpartition("@")[0]


@dataclass(frozen=True)
class Wanted:
    """Which letters: all that fit everything that is given."""

    ids: frozenset[str] = frozenset()
    feed: str | None = None
    reason: str | None = None
    key: str | None = None

    def fits(self, letter: Letter) -> bool:
        """Whether it is meant."""
        return (
            (not self.ids or letter.id in self.ids)
            and self.feed in (None, letter.feed)
            and self.reason in (None, letter.reason)
            and (self.key is None or letter.key == self.key.encode())
        )

    @property
    def is_all(self) -> bool:
        """Whether nothing was given."""
        return self == Wanted()


def unsettled(topics: Mapping[str, Deployed], bootstrap_servers: str, wanted: Wanted) -> Iterator[Letter]:
    """The letters that are wanted and not settled, partition by partition, the oldest first.

    Raises:
        Retriable: Kafka does not answer.
    """
    settled = set()
    if SETTLED.name in topics:
        settled = {message.key() for message in read_all(topics[SETTLED.name].name, bootstrap_servers)}
    topic = topics[DEAD_LETTERS.name]
    for partition in range(topic.partitions):
        for message in _records(topic.name, partition, bootstrap_servers):
            letter = _letter(message)
            if NOTE not in letter.headers and letter.id.encode() not in settled and wanted.fits(letter):
                yield letter


def settle(topics: Mapping[str, Deployed], bootstrap_servers: str, letters: list[Letter], did: str) -> None:
    """Note what was done with letters: they are shown no more.

    Raises:
        Retriable: Kafka does not take it; they may be retried once more, which changes nothing.
    """
    producer = Producer(client_config(bootstrap_servers) | {"acks": "all"}, logger=CLIENT_LOGGER)
    topic, at_ms = topics[SETTLED.name].name, time.time_ns() // 1_000_000
    for letter in letters:
        producer.produce(topic, orjson.dumps({"did": did, "at_ms": at_ms}), letter.id)
    if producer.flush(WAIT_S):
        raise Retriable(f"Kafka at {bootstrap_servers} did not take all; do it again, a repeat changes nothing")


def _records(topic: str, partition: int, bootstrap_servers: str) -> Iterator[Message]:
    """As committed, up to the present end."""
    config = reading_config(bootstrap_servers, f"stockweave-{topic}") | {"fetch.wait.max.ms": 5}
    consumer = Consumer(config, logger=CLIENT_LOGGER)
    try:
        make_known(topic, consumer, bootstrap_servers)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
        heard_s = time.monotonic()
        while True:
            messages = consumer.consume(1_000, 0.1)
            if not messages and time.monotonic() - heard_s > WAIT_S:
                raise Retriable(f"topic {topic} cannot be read on for {WAIT_S:g} s; is Kafka running?")
            heard_s = time.monotonic() if messages else heard_s
            for message in messages:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
    finally:
        consumer.close()


def _letter(message: Message) -> Letter:
    headers = dict(cast("list[tuple[str, bytes]]", message.headers() or []))
    at_ms = message.timestamp()[1]
    return Letter(f"{message.partition()}-{message.offset()}", at_ms, message.key(), message.value(), headers)


def one(topics: Mapping[str, Deployed], bootstrap_servers: str, letter_id: str) -> Letter:
    """A letter by its id.

    Raises:
        Rejected: there is none that is not settled.
        Retriable: Kafka does not answer.
    """
    found = next(unsettled(topics, bootstrap_servers, Wanted(frozenset({letter_id}))), None)
    if found is None:
        raise Rejected("unknown_letter", f"there is no letter {letter_id}, or it is settled; see `stockweave dlq list`")
    return found
