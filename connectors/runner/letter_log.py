"""Reads stretches of inventory.dead-letters, and the notes of which letters are settled.

Each time with a consumer of its own: it is seldom, and most feeds never do. Invariant: what is given at once is
bounded, in letters and in bytes. Used by `parked`, in a thread.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self, cast

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from connectors.publisher import Publisher
from schemas.admin import Deployed
from schemas.small_topic import check
from stockweave.clients import CLIENT_LOGGER, Config, reading_config
from stockweave.errors import Retriable

SOME_MAX, SOME_BYTES_MAX = 2_000, 8 << 20
ANSWER_S = 15.0
POLL_S = 0.1


@dataclass(frozen=True)
class LetterLog:
    """Where letters are, for all feeds of a process.

    `letters`: the topic as deployed; `settled`: that of the notes, and `notes` writes there. `turn`: one feed at a time
    reads, so that what they hold of it together is bounded.
    """

    bootstrap_servers: str
    letters: Deployed
    settled: Deployed
    notes: Publisher
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Some(NamedTuple):
    """Messages that follow one another. `after`: the offset after them; `is_end`: there is nothing behind it now."""

    messages: list[Message]
    after: int
    is_end: bool


class LetterReader:
    """`with` leaves Kafka at the end."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._consumer = Consumer(_config(bootstrap_servers), logger=CLIENT_LOGGER)
        self._servers = bootstrap_servers
        self._at: tuple[str, int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def some(self, topic: str, partition: int, first: int, most: int = SOME_MAX) -> Some:
        """What is at an offset and behind it, `most` messages.

        Raises:
            Retriable: Kafka does not answer.
            Fatal: the topic is gone, or may not be read.
        """
        if self._at != (topic, partition, first):
            self._consumer.assign([TopicPartition(topic, partition, first)])
        found: list[Message] = []
        after, size, give_up_s = first, 0, time.monotonic() + ANSWER_S
        is_end = False
        while not is_end and len(found) < most and size < SOME_BYTES_MAX:
            message = self._consumer.poll(POLL_S)
            if message is None:
                if time.monotonic() > give_up_s:
                    raise Retriable(f"Kafka at {self._servers} does not bring {topic}; is it running?")
                continue
            if (error := message.error()) is None:
                found.append(message)
                after, size = cast("int", message.offset()) + 1, size + len(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                after, is_end = max(after, message.offset() or 0), True
            else:
                check(topic, error)
        self._at = None if is_end else (topic, partition, after)
        return Some(found, after, is_end)


def _config(bootstrap_servers: str) -> Config:
    return reading_config(bootstrap_servers, "stockweave-parked") | {
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 20,
        "queued.max.messages.kbytes": SOME_BYTES_MAX >> 10,
    }
