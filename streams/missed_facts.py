"""Facts that the rows of a partition do not have, read before it is served.

Rows that were rebuilt have the facts up to some moment, and what was decided since then is in inventory.reservations
alone; so is what a broker that lost markers has committed there and not beside the rows. They are applied with the
first batch, before any command is read: nothing that was decided is decided again. Used by the restorer.
"""

from __future__ import annotations

from typing import cast

from confluent_kafka import KafkaError, TopicPartition

from inventory.reservations.facts import Fact
from schemas import keys
from schemas.codec import Codec
from stockweave.errors import Fatal, Rejected
from stockweave.world import FollowerConsumer
from streams.cursor import by_partition, is_error

RECORDS_MAX = 5_000


class MissedFacts:
    """Reads the end of inventory.reservations.

    Args:
        consumer: tells ends; of committed data.
        topic: as deployed.
        codec: of ReservationFact.
    """

    def __init__(self, consumer: FollowerConsumer, topic: str, codec: Codec) -> None:
        self._consumer = consumer
        self._topic = topic
        self._codec = codec
        self._found: dict[int, list[Fact]] = {}
        self._ended: set[int] = set()

    def add(self, number: int, first_offset: int) -> None:
        """Read a partition from an offset on."""
        self.remove(number)
        self._found[number] = []
        self._consumer.incremental_assign([TopicPartition(self._topic, number, first_offset)])

    def step(self, timeout_s: float) -> None:
        """Read what there is, waiting for the first record only.

        Raises:
            Fatal: it can never be read, or something is no fact.
            Retriable: the registry does not answer.
        """
        messages = self._consumer.consume(1, timeout_s)
        if messages:
            messages += self._consumer.consume(RECORDS_MAX, 0)
        facts = []
        for message in messages:
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                self._ended.update({cast("int", message.partition())} & self._found.keys())
            elif not is_error(message, self._topic) and message.key() != keys.UNDONE:
                facts.append(message)
        for number, of_partition in by_partition(facts).items():
            if number in self._found:
                decoded = self._codec.decode([message.value() for message in of_partition])
                self._found[number] += [_fact(self._topic, number, fact) for fact in decoded]

    def found(self, number: int) -> list[Fact] | None:
        """The facts, in order, once a partition is read to its end; it is let go of then."""
        if number not in self._ended:
            return None
        facts = self._found[number]
        self.remove(number)
        return facts

    def remove(self, number: int) -> None:
        """Let go of a partition."""
        if self._found.pop(number, None) is not None:
            self._consumer.incremental_unassign([TopicPartition(self._topic, number)])
        self._ended.discard(number)

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()


def _fact(topic: str, number: int, fact: Fact | Rejected) -> Fact:
    if isinstance(fact, Rejected):
        raise Fatal(f"partition {number} of {topic} holds what is no fact ({fact}); only workers may write there")
    return fact
