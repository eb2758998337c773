"""What every Kafka client of ours starts from: addresses, quick reconnects, and a logger in place of raw stderr."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from stockweave.errors import Retriable

Config = dict[str, str | int | float | bool]

ANSWER_S = 5.0
SEND_S = 15.0
REPEAT_AFTER_S = 30.0


class _OnceInAWhile(logging.Filter):
    """Lets a client's complaint of one kind through once in `REPEAT_AFTER_S`.

    While a broker is away every connection of every client fails many times a second, and says the same each time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said_at_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it. librdkafka's messages begin with their kind: `FAIL [rdkafka#consumer-1] …`."""
        kind = record.getMessage().partition(" ")[0]
        now_s = time.monotonic()
        if now_s - self._said_at_s.get(kind, -REPEAT_AFTER_S) < REPEAT_AFTER_S:
            return False
        self._said_at_s[kind] = now_s
        return True


CLIENT_LOGGER = logging.getLogger("stockweave.kafka")
"""Given to every client as `logger=`; librdkafka would print each failed connection to stderr itself."""
CLIENT_LOGGER.addFilter(_OnceInAWhile())


def client_config(bootstrap_servers: str) -> Config:
    """Settings that all clients share; callers add their own."""
    return {
        "bootstrap.servers": bootstrap_servers,
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 1_000,  # a restarted broker is found again within a second
        "topic.metadata.refresh.interval.ms": 30_000,
    }


def reading_config(bootstrap_servers: str, group: str) -> Config:
    """Settings of a consumer that reads by itself: committed data only, the end of a partition is an event.

    Args:
        bootstrap_servers: of its Kafka.
        group: librdkafka wants one; nothing is ever committed under it.
    """
    return client_config(bootstrap_servers) | {
        "group.id": group,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "fetch.queue.backoff.ms": 5,
    }


def send_all(
    bootstrap_servers: str, topic: str, records: Iterable[tuple[bytes | str | None, bytes | None]], partition: int = -1
) -> None:
    """Write a few records, each a key and a value, with a producer of their own; returns once Kafka has them all.

    Raises:
        Retriable: it did not take all; some may be there.
    """
    failed: list[str] = []

    def report(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error.str())

    config = {"acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random", "linger.ms": 5}
    producer = Producer(client_config(bootstrap_servers) | config, logger=CLIENT_LOGGER)
    for key, value in records:
        producer.produce(topic, value, key, partition, on_delivery=report)
        producer.poll(0)
    if producer.flush(SEND_S) or failed:
        why = failed[0] if failed else "it does not answer"
        raise Retriable(f"Kafka at {bootstrap_servers} did not take all of it ({why}); do it again")


def make_known(topic: str, client: Consumer | Producer, bootstrap_servers: str) -> None:
    """Connect, and ask for the topic's leaders, now: by itself a client looks for what it misses half a second later.

    Raises:
        Retriable: Kafka does not answer.
    """
    try:
        client.list_topics(topic, timeout=ANSWER_S)
    except KafkaException as error:
        why = error.args[0].str()
        raise Retriable(f"Kafka at {bootstrap_servers} does not answer: {why}; is it running?") from error
