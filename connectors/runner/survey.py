"""All that inventory.feeds keeps, read at once, and a person's orders written to it. For commands.

Used by `stockweave quarantine`.
"""

from __future__ import annotations

import time

import msgspec
import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

from connectors.runner.progress import ORDER, Kept, Order, note
from schemas.admin import Deployed
from schemas.keys import partition_of
from stockweave.clients import CLIENT_LOGGER, client_config, make_known, reading_config
from stockweave.errors import Rejected, Retriable

log = structlog.get_logger(__name__)

WAIT_S = 15.0


def read_feeds(topic: Deployed, bootstrap_servers: str) -> dict[str, Kept]:
    """What is kept of each feed, as of now.

    Raises:
        Retriable: Kafka does not answer.
    """
    consumer = Consumer(
        reading_config(bootstrap_servers, f"stockweave-{topic.name}") | {"fetch.wait.max.ms": 5}, logger=CLIENT_LOGGER
    )
    kept: dict[str, Kept] = {}
    try:
        make_known(topic.name, consumer, bootstrap_servers)
        left = set(range(topic.partitions))
        consumer.assign([TopicPartition(topic.name, number, OFFSET_BEGINNING) for number in left])
        give_up_s = time.monotonic() + WAIT_S
        while left:
            if time.monotonic() > give_up_s:
                raise Retriable(f"topic {topic.name} could not be read to its end in {WAIT_S:g} s; is Kafka running?")
            for message in consumer.consume(1_000, 0.1):
                error = message.error()
                if error is not None:
                    left.discard(message.partition() if error.code() == KafkaError._PARTITION_EOF else -1)
                    continue
                try:
                    note(kept, message)
                except Rejected as why:
                    log.warning("progress_unreadable", why=str(why))
    finally:
        consumer.close()
    return kept


def give_order(topic: Deployed, bootstrap_servers: str, feed: str, order: Order) -> None:
    """Tell whoever runs the feed.

    Raises:
        Retriable: Kafka does not take it.
    """
    producer = Producer(client_config(bootstrap_servers) | {"acks": "all"}, logger=CLIENT_LOGGER)
    value = msgspec.json.encode(order)
    producer.produce(topic.name, value, f"{feed}{ORDER}", partition_of(feed.encode(), topic.partitions))
    if producer.flush(WAIT_S):
        raise Retriable(f"Kafka at {bootstrap_servers} did not take the order; is it running? Give it again")
