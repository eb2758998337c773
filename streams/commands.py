"""What storefronts and coordinators ask for, read by a consumer of its own, so that it never waits behind the updates.

The consumer is in no group: it reads the partitions that are ready, each from the offset in its position record, and
the fence of a transaction is the group's offsets of the updates, whose partitions have the same numbers. Used by the
processor, on its thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from confluent_kafka import Message, TopicPartition

from schemas.topics import COMMANDS, RESERVATION_STEPS
from stockweave.world import FollowerConsumer
from streams.cursor import Cursor, by_partition, is_error

Asked = dict[str, list[Message]]
"""Messages by topic, by its name in the catalogue; each list without a gap."""


class Commands:
    """Reads inventory.commands and inventory.reservation-steps.

    Args:
        consumer: with `auto.offset.reset=earliest`: what was not decided while Kafka kept it never will be.
        topics: deployed name of each of these, by its name in the catalogue.
    """

    def __init__(self, consumer: FollowerConsumer, topics: Mapping[str, str]) -> None:
        self._consumer = consumer
        self._topics = dict(topics)
        self._cursors: dict[int, dict[str, Cursor]] = {}
        self._taken: dict[tuple[int, str], int] = {}  # the offset after what the last poll gave

    def serve(self, wanted: Mapping[int, Mapping[str, int]]) -> None:
        """Read these partitions and no others; each that is new from its offsets on, 0 where there is none."""
        left = sorted(self._cursors.keys() - wanted.keys())
        if left:
            self._consumer.incremental_unassign([TopicPartition(t, n) for n in left for t in self._topics.values()])
        added = sorted(wanted.keys() - self._cursors.keys())
        if added:
            places = [(n, name, topic) for n in added for name, topic in self._topics.items()]
            self._consumer.incremental_assign([TopicPartition(t, n, wanted[n].get(name, 0)) for n, name, t in places])
        for number in left:
            del self._cursors[number]
        for number in added:
            self._cursors[number] = {
                name: Cursor(wanted[number].get(name, 0), expects_gaps=name == RESERVATION_STEPS.name)
                for name in self._topics
            }

    def poll(self, messages_max: int, timeout_s: float) -> dict[int, Asked]:
        """What follows in each partition, waiting for the first message only.

        Raises:
            Fatal: Kafka says that reading can never go on.
        """
        if not self._cursors:
            return {}
        self._read_what_was_dropped()
        messages = self._consumer.consume(1, timeout_s)  # asked for more, it would wait for them all
        if messages:
            messages += self._consumer.consume(messages_max - 1, 0)
        messages = [message for message in messages if not is_error(message, message.topic() or COMMANDS.name)]
        found: dict[int, Asked] = {}
        for name, topic in self._topics.items():
            of_topic = [message for message in messages if message.topic() == topic]
            for number, of_partition in by_partition(of_topic).items():
                if number not in self._cursors:
                    continue  # fetched before it was let go of
                taken, is_off = self._cursors[number][name].following(of_partition)
                if taken:
                    found.setdefault(number, {})[name] = taken
                    self._taken[number, name] = cast("int", taken[-1].offset()) + 1
                if is_off:
                    self._read_again(number, name)
        return found

    def committed(self, number: int, next_offsets: Mapping[str, int]) -> None:
        """A transaction has decided all below these."""
        for name, cursor in self._cursors.get(number, {}).items():
            cursor.next_offset = max(cursor.next_offset, next_offsets.get(name, 0))

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _read_what_was_dropped(self) -> None:
        """What the last poll gave, and no transaction has decided, comes again."""
        for (number, name), end in self._taken.items():
            if number in self._cursors and self._cursors[number][name].next_offset < end:
                self._read_again(number, name)
        self._taken.clear()

    def _read_again(self, number: int, name: str) -> None:
        at = TopicPartition(self._topics[name], number, self._cursors[number][name].next_offset)
        self._consumer.incremental_unassign([at])
        self._consumer.incremental_assign([at])
