"""How far a generation is folded: its last position records, read from the tails of its topic without its rows.

Invariant: a position that is told is committed. A partition's log ends with the position record of its last
transaction, so a short tail has it; a longer one is read where aborted transactions lie behind it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple, cast

from confluent_kafka import Consumer, KafkaError, TopicPartition

from schemas import keys
from schemas.rows import Position, decode_position
from schemas.topics import UPDATES
from stockweave.clients import CLIENT_LOGGER
from stockweave.errors import Retriable
from stockweave.replay.ends import ends
from stockweave.replay.facts import STALLED_S, reader_config

TAIL_RECORDS = 16
LONGER = 16
CHUNK_RECORDS = 1_000
CHUNK_WAIT_S = 0.2


def positions(bootstrap_servers: str, topic: str, partitions: Sequence[int]) -> dict[int, Position]:
    """The newest committed position by partition; a partition that nothing was folded into is left out.

    Args:
        bootstrap_servers: of Kafka.
        topic: the deployed name of a generation's topic.
        partitions: their numbers.

    Raises:
        Retriable: Kafka does not answer.
    """
    # Short waits: the end, where an aborted transaction lies before it, is told only after one.
    small = {"queued.max.messages.kbytes": 8 << 10, "fetch.message.max.bytes": 1 << 20, "fetch.wait.max.ms": 5}
    consumer = Consumer(reader_config(bootstrap_servers) | small, logger=CLIENT_LOGGER)
    found: dict[int, Position] = {}
    tail = TAIL_RECORDS
    try:
        # What lies behind a transaction that is open is not waited for.
        stable = {p: ends(consumer, topic, p) for p in partitions}
        left = {p: (low, high) for p, (low, high) in stable.items() if high > low}
        while left:
            starts = {p: max(low, high - tail) for p, (low, high) in left.items()}
            found |= _read(consumer, topic, starts, {p: high for p, (_, high) in left.items()})
            left = {p: (low, high) for p, (low, high) in left.items() if p not in found and starts[p] > low}
            tail *= LONGER
    finally:
        consumer.close()
    return found


def offsets(found: dict[int, Position], partitions: Sequence[int]) -> dict[int, int]:
    """The offset of updates that each partition is folded up to; 0 where nothing was."""
    return {p: found[p].offsets.get(UPDATES.name, 0) if p in found else 0 for p in partitions}


class Reach(NamedTuple):
    """How far a partition is: the offset of updates that it is folded up to, and facts of reservations applied.

    `forgotten_to`: as in `Position`; it is nothing to catch up with, for what is there all the same is forgotten later.
    """

    updates: int
    facts: int
    forgotten_to: int = 0

    def behind(self, other: Reach) -> int:
        """Updates and facts that the other has, and this has not."""
        return max(0, other.updates - self.updates) + max(0, other.facts - self.facts)


def reaches(found: dict[int, Position], partitions: Sequence[int]) -> dict[int, Reach]:
    """How far each partition is."""
    at = offsets(found, partitions)
    return {p: Reach(at[p], *((found[p].facts, found[p].forgotten_to) if p in found else (0,))) for p in partitions}


def _read(consumer: Consumer, topic: str, starts: dict[int, int], ends: dict[int, int]) -> dict[int, Position]:
    """The last position in each stretch."""
    consumer.assign([TopicPartition(topic, p, start) for p, start in starts.items()])
    found: dict[int, Position] = {}
    waiting = set(starts)
    deadline_s = time.monotonic() + STALLED_S
    while waiting:
        if time.monotonic() > deadline_s:
            raise Retriable(
                f"the ends of {topic} could not be read within {STALLED_S:.0f} s (partitions {sorted(waiting)}); "
                "is Kafka well, or a transaction left open?"
            )
        messages = consumer.consume(1, CHUNK_WAIT_S)  # with a larger number it would wait for them all
        if messages:
            messages += consumer.consume(CHUNK_RECORDS, 0)
        for message in messages:
            partition, error, offset = cast("int", message.partition()), message.error(), cast("int", message.offset())
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(partition)
                continue  # librdkafka goes on by itself after the rest
            if message.key() == keys.POSITION:
                found[partition] = decode_position(message.value() or b"")
            if offset >= ends[partition] - 1:
                waiting.discard(partition)
    return found
