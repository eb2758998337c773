"""What storefronts ask for, read beside the updates by a consumer of its own, so that it never waits behind them.

The consumer is in no group: it reads the partitions that are ready, each from the offset in its position record, and
the fence of a transaction is the group's offsets of the updates, whose partitions have the same numbers. Used by the
processor, on its thread.
"""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import Message, TopicPartition

from stockweave.world import FollowerConsumer
from streams.cursor import Cursor, by_partition, is_error


class Commands:
    """Reads inventory.commands.

    Args:
        consumer: with `auto.offset.reset=earliest`: what was not decided while Kafka kept it never will be.
        topic: as deployed.
    """

    def __init__(self, consumer: FollowerConsumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic
        self._cursors: dict[int, Cursor] = {}

    def serve(self, wanted: Mapping[int, int]) -> None:
        """Read these partitions and no others; each that is new from its offset on."""
        left = self._cursors.keys() - wanted.keys()
        if left:
            self._consumer.incremental_unassign([TopicPartition(self._topic, number) for number in sorted(left)])
        added = wanted.keys() - self._cursors.keys()
        if added:
            self._consumer.incremental_assign(
                [TopicPartition(self._topic, number, wanted[number]) for number in sorted(added)]
            )
        if left or added:
            self._cursors = {number: self._cursors.get(number) or Cursor(wanted[number]) for number in wanted}

    def poll(self, messages_max: int, timeout_s: float) -> dict[int, list[Message]]:
        """What follows in each partition, waiting for the first message only.

        Raises:
            Fatal: Kafka says that reading can never go on.
        """
        if not self._cursors:
            return {}
        messages = self._consumer.consume(1, timeout_s)  # asked for more, it would wait for them all
        if messages:
            messages += self._consumer.consume(messages_max - 1, 0)
        messages = [message for message in messages if not is_error(message, self._topic)]
        found = {}
        for number, of_partition in by_partition(messages).items():
            cursor = self._cursors.get(number)
            if cursor is None:
                continue  # fetched before it was let go of
            taken, is_off = cursor.following(of_partition)
            if taken:
                found[number] = taken
            if is_off:
                self._read_again(number)
        return found

    def committed(self, number: int, next_offset: int) -> None:
        """A transaction has decided all below `next_offset`."""
        if number in self._cursors:
            self._cursors[number].next_offset = next_offset

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _read_again(self, number: int) -> None:
        at = TopicPartition(self._topic, number, self._cursors[number].next_offset)
        self._consumer.incremental_unassign([at])
        self._consumer.incremental_assign([at])
