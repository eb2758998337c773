"""Follows partitions of a compacted topic into their stores: the one way that rows reach a disk from Kafka.

A worker that is given a partition follows it to the end and then owns it; the API follows for ever. Rows and position
are read as committed and written in one WriteBatch. A store resumes at its own last position record, and only if the
topic still has that very record there: one that is gone (an aborted commit that was reported as done, a topic that lost
its tail, a store that was away while the topic was compacted) means that the store may hold what never was, or miss
what was removed, so it is deleted and read again. One thread at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from schemas import keys
from schemas.topics import DAY_MS
from state.store import PartitionStore
from stockweave.clients import CLIENT_LOGGER, Config, make_known, reading_config
from stockweave.errors import Fatal, Retriable
from stockweave.world import FollowerConsumer

log = structlog.get_logger(__name__)

LOOKUPS_MAX, LOOKUP_WAIT_S = 20, 0.1  # of a topic's beginning: its leader may hear of it a moment after us
READING_MS_MAX = 4 * 3_600_000  # how long it may take to read what came while a store was away
AWAY_MS_MAX = DAY_MS - READING_MS_MAX  # after delete.retention.ms, a day, a compacted topic forgets its tombstones
CLOCK_BACK_MS_MAX = 60_000  # a clock is set right by less; if by more, how long a store was away is not known


def follower_config(bootstrap_servers: str) -> Config:
    """Settings of a follower's consumer: committed data only, the end of a partition is an event, no group."""
    return reading_config(bootstrap_servers, "stockweave-follower") | {
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 32 << 10,
    }


def open_consumer(bootstrap_servers: str, topic: str) -> Consumer:
    """A follower's consumer that knows the topic already.

    Raises:
        Retriable: Kafka does not answer.
    """
    consumer = Consumer(follower_config(bootstrap_servers), logger=CLIENT_LOGGER)
    try:
        make_known(topic, consumer, bootstrap_servers)
    except Retriable:
        consumer.close()
        raise
    return consumer


@dataclass(frozen=True)
class Progress:
    """What one step brought to a partition: the changed values by key, None where removed."""

    partition: int
    changed: dict[bytes, bytes | None]


class _Followed:
    """A partition under way. `ended_at`: the offset of the last end-of-partition event, -1 before the first."""

    def __init__(self, store: PartitionStore) -> None:
        self.store = store
        self.anchored = store.mark.anchor < 0  # nothing to compare with yet
        self.ended_at = -1
        self.lookups = 0


class Follower:
    """Follows any set of partitions with one consumer.

    Args:
        consumer: with `follower_config`; the follower closes it.
        topic: the deployed name.
        on_progress: called after each write, on the follower's thread.
    """

    def __init__(
        self, consumer: FollowerConsumer, topic: str, on_progress: Callable[[Progress], None] | None = None
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._on_progress = on_progress
        self._followed: dict[int, _Followed] = {}

    def add(self, partition: int, store: PartitionStore, now_ms: int) -> None:
        """Begin to follow; the store stays the caller's to close, after `remove`."""
        away_ms = now_ms - store.mark.saved_at
        if store.mark.saved_at and not -CLOCK_BACK_MS_MAX <= away_ms <= AWAY_MS_MAX:
            log.info("store_away_too_long_deleted", partition=partition, hours=round(away_ms / 3_600_000, 1))
            store.reset()
        self._followed[partition] = _Followed(store)
        anchor = store.mark.anchor
        self._consumer.incremental_assign(
            [TopicPartition(self._topic, partition, anchor if anchor >= 0 else OFFSET_BEGINNING)]
        )

    def remove(self, partition: int) -> None:
        """Stop following; nothing of this partition is written afterwards."""
        if self._followed.pop(partition, None) is not None:
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])

    def reread(self, partition: int) -> None:
        """Delete the store of a followed partition and read it again from the beginning."""
        followed = self._followed[partition]
        self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
        followed.store.reset()
        self._followed[partition] = _Followed(followed.store)
        self._consumer.incremental_assign([TopicPartition(self._topic, partition, OFFSET_BEGINNING)])

    def read_to(self, partition: int) -> int:
        """The offset below which every record is in the store, -1 while the store is not trusted yet.

        Not the end: a topic that is written all the time never shows its end, but what was there can be waited for.
        """
        followed = self._followed[partition]
        return max(followed.ended_at, followed.store.mark.next_offset) if followed.anchored else -1

    def ended_at(self, partition: int) -> int:
        """The offset up to which the partition was once read to its end, -1 before; passes control records too."""
        return self._followed[partition].ended_at

    def step(self, messages_max: int, timeout_s: float) -> int:
        """Read what is there, waiting for the first message only, and write it; returns the number of records.

        Raises:
            Fatal: Kafka says that reading can never go on.
        """
        messages = self._consumer.consume(1, timeout_s)
        if messages and messages_max > 1:
            messages += self._consumer.consume(messages_max - 1, 0)
        by_partition: dict[int, list[Message]] = {}
        for message in messages:
            partition = message.partition()
            if partition is None or partition < 0:
                _check(message.error(), self._topic)
            elif partition in self._followed:
                by_partition.setdefault(partition, []).append(message)
        for partition, of_partition in by_partition.items():
            self._apply(partition, of_partition)
        return len(messages)

    def _apply(self, partition: int, messages: Sequence[Message]) -> None:
        followed = self._followed[partition]
        changed: dict[bytes, bytes | None] = {}
        next_offset, anchor, ended_at = followed.store.mark.next_offset, None, -1
        for message in messages:
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                    if followed.store.mark.next_offset == 0:
                        return self._look_up_again(partition, error)
                    return self._distrust(partition, "the topic ends before the store's position")
                _check(error, self._topic)
                continue
            if not followed.anchored:
                if error is not None or not _is_anchor(message, followed.store):
                    return self._distrust(partition, "the store's last position record is not in the topic")
                followed.anchored = True
            if error is not None:
                next_offset = ended_at = message.offset() or 0
                continue
            key, offset = message.key() or b"", message.offset() or 0
            changed[key] = message.value()
            next_offset = offset + 1
            if key == keys.POSITION:
                anchor = offset
        if changed or next_offset > followed.store.mark.next_offset:
            followed.store.write(changed, max(next_offset, followed.store.mark.next_offset), anchor)
        followed.ended_at = max(followed.ended_at, ended_at)
        if changed and self._on_progress is not None:
            self._on_progress(Progress(partition, changed))
        return None

    def _look_up_again(self, partition: int, error: KafkaError) -> None:
        """The topic has no beginning: a leader that has not heard of it yet, or it was deleted."""
        followed = self._followed[partition]
        followed.lookups += 1
        if followed.lookups > LOOKUPS_MAX:
            raise _gone(self._topic, error)
        time.sleep(LOOKUP_WAIT_S)
        self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
        self._consumer.incremental_assign([TopicPartition(self._topic, partition, OFFSET_BEGINNING)])

    def _distrust(self, partition: int, why: str) -> None:
        log.warning("store_deleted_and_read_again", topic=self._topic, partition=partition, why=why)
        self.reread(partition)

    def close(self) -> None:
        """Leave the topic; the stores stay open, they are the caller's."""
        self._consumer.close()


def _is_anchor(message: Message, store: PartitionStore) -> bool:
    return (
        message.offset() == store.mark.anchor
        and message.key() == keys.POSITION
        and message.value() == store.position_bytes
    )


def _gone(topic: str, error: KafkaError) -> Fatal:
    return Fatal(f"topic {topic} is gone: {error.str()}; restart to create it, and the state is read anew")


def _check(error: KafkaError | None, topic: str) -> None:
    """Librdkafka retries by itself whatever can pass; the rest ends the process."""
    if error is None:
        return
    gone = error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
    if gone:
        raise _gone(topic, error)
    if error.fatal() or error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION):
        raise Fatal(f"topic {topic} cannot be read: {error.str()}")
    log.info("following_interrupted", topic=topic, error=error.name(), text=error.str())
