"""The rows of a generation as they are now, read from its compacted topic while workers go on writing it.

Invariant: the rows and the position of a partition are of one moment. That is so at the end of the partition, which for
a read_committed consumer is the last stable offset, below which every transaction is whole; and after any position
record, for it is the last record of its transaction in its partition. What comes first ends the reading: where
transactions follow one another closely, the end is never seen. A reading that takes long goes on to what is the end by
then, for what it has passed may have been compacted meanwhile (`state.catching_up`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from confluent_kafka import KafkaError, Message, TopicPartition

from schemas import keys
from state.catching_up import PASS_S
from state.follower import Follower, open_consumer
from state.store import PartitionStore
from stockweave.errors import Retriable
from stockweave.replay.ends import log_ends
from stockweave.replay.facts import STALLED_S
from stockweave.world import FollowerConsumer

RECORDS_MAX = 20_000
STEP_WAIT_S = 0.2


def read_live(
    bootstrap_servers: str,
    topic: str,
    stores: Mapping[int, PartitionStore],
    on_records: Callable[[int], None] = lambda _: None,
    pass_s: float = PASS_S,
) -> dict[int, int]:
    """Follow `topic` into `stores`, each to the end that the partition has now, or a little further.

    The position of a partition is afterwards its store's `position`, None where nothing was ever folded.

    Args:
        bootstrap_servers: of Kafka.
        topic: the deployed name of a generation's topic.
        stores: by partition; they stay the caller's to close.
        on_records: told how many records each step brought.
        pass_s: a reading that takes longer goes on.

    Returns:
        The offset in `topic` that each partition was read up to.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: the topic is gone or may not be read.
    """
    asked_at_s = time.monotonic()
    consumer = _UpTo(open_consumer(bootstrap_servers, topic), topic, _highs(bootstrap_servers, topic, stores))
    follower = Follower(consumer, topic)
    try:
        for number, store in stores.items():
            follower.add(number, store, time.time_ns() // 1_000_000)
        heard_at_s = time.monotonic()
        while len(consumer.ended) < len(stores):
            records = follower.step(RECORDS_MAX, STEP_WAIT_S)
            on_records(records)
            if records:
                heard_at_s = time.monotonic()
            elif time.monotonic() - heard_at_s > STALLED_S:
                waiting = sorted(set(stores) - set(consumer.ended))
                raise Retriable(
                    f"{topic} has brought nothing for {STALLED_S:.0f} s, and partitions {waiting} are not at their "
                    f"end; is Kafka at {bootstrap_servers} well, or a transaction left open?"
                )
            if len(consumer.ended) == len(stores) and time.monotonic() - asked_at_s > pass_s:
                asked_at_s = time.monotonic()
                consumer.go_on(_highs(bootstrap_servers, topic, stores))
    finally:
        follower.close()
    return consumer.ended


def _highs(bootstrap_servers: str, topic: str, stores: Mapping[int, PartitionStore]) -> dict[int, int]:
    """The high watermarks: the last stable offset may lag behind rows that are committed already."""
    return {number: high for number, (_, high) in log_ends(bootstrap_servers, topic, list(stores)).items()}


class _UpTo:
    """A follower's consumer that hides what comes after the end of the reading.

    Args:
        consumer: with `state.follower.follower_config`.
        topic: as deployed.
        targets: by partition, what is to be read at least.
    """

    def __init__(self, consumer: FollowerConsumer, topic: str, targets: Mapping[int, int]) -> None:
        self._consumer = consumer
        self._topic = topic
        self._targets = targets
        self.ended: dict[int, int] = {}
        self.incremental_assign = consumer.incremental_assign
        self.close = consumer.close

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        messages = self._consumer.consume(num_messages, timeout)
        if len(self._targets) == 1 and messages and not self.ended:
            [target] = self._targets.values()
            if (messages[-1].offset() or 0) + 1 < target:  # the last is the furthest: none of them is the end
                return messages
        return [message for message in messages if self._shown(message)]

    def go_on(self, targets: Mapping[int, int]) -> None:
        """Read on from where the reading has ended, for what came after that was hidden."""
        places = [TopicPartition(self._topic, number, end) for number, end in self.ended.items()]
        self._targets = targets
        self.ended.clear()
        self._consumer.incremental_unassign(places)
        self._consumer.incremental_assign(places)

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        for again in partitions:  # the follower reads it from the beginning
            self.ended.pop(again.partition, None)
        self._consumer.incremental_unassign(partitions)

    def _shown(self, message: Message) -> bool:
        number, offset, error = message.partition(), message.offset(), message.error()
        if number in self.ended:
            return False
        if number is None or offset is None or number not in self._targets:
            return True
        if error is None and message.key() == keys.POSITION:
            end = offset + 1
        elif error is not None and error.code() == KafkaError._PARTITION_EOF:
            end = offset
        else:
            return True
        if end >= self._targets[number]:
            self.ended[number] = end
        return True
