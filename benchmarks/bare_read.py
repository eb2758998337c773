"""The limits beside replay and recovery: a consumer that only counts, and a reader of files that only reads."""

from __future__ import annotations

import time
from pathlib import Path

from confluent_kafka import Consumer, Message, TopicPartition

from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal

BATCH = 10_000
LOOK_S = 0.1
STALLED_S = 30.0
BLOCK_BYTES = 1 << 20


def consume_all(bootstrap_servers: str, topic: str, *, with_values: bool = False) -> tuple[int, float]:
    """Records of a topic, and the seconds that a loop took which only counts them.

    The topic ends with a record and not with a transaction's marker; what was compacted away meanwhile is not missed.
    With `with_values` it looks at each record's error and value, as whoever uses them must.

    Raises:
        Fatal: nothing comes.
    """
    config = client_config(bootstrap_servers) | {
        "group.id": "benchmark-bare",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.queue.backoff.ms": 5,
    }
    consumer = Consumer(config, logger=CLIENT_LOGGER)
    try:
        places = [
            TopicPartition(topic, number, 0)
            for number in consumer.list_topics(topic, STALLED_S).topics[topic].partitions
        ]
        ends = [consumer.get_watermark_offsets(place, timeout=STALLED_S)[1] for place in places]
        began_s = heard_at_s = time.monotonic()
        consumer.assign(places)
        count = 0
        while any(max(at.offset, 0) < end for at, end in zip(consumer.position(places), ends, strict=True)):
            messages = consumer.consume(BATCH, LOOK_S)
            if with_values:
                count += len([value for value in map(_value, messages) if value])
            else:
                count += len(messages)
            heard_at_s = time.monotonic() if messages else heard_at_s
            if time.monotonic() - heard_at_s > STALLED_S:
                raise Fatal(f"{topic} has brought {count:,} records, and not its end; is the broker well?")
        return count, time.monotonic() - began_s
    finally:
        consumer.close()


def _value(message: Message) -> bytes | None:
    return message.value() if message.error() is None else None


def read_folder(folder: Path) -> tuple[int, float]:
    """Bytes of all files below, and the seconds that it took to read them; most come from the system's cache."""
    began_s, count = time.monotonic(), 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as stream:
                while block := stream.read(BLOCK_BYTES):
                    count += len(block)
    return count, time.monotonic() - began_s
