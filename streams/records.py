"""The records of one transaction, in the order that readers need, and whether Kafka put them where they belong.

Of each partition: rows and holds, what is removed of them, facts, messages between lines and coordinators, alerts,
dead letters, and last the position that they stand for. Used by the processor, anew for each batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from confluent_kafka import KafkaError, Message

from schemas import keys
from schemas.topics import ALERTS, DEAD_LETTERS, RESERVATION_STEPS, RESERVATIONS, STOCK
from stockweave.errors import Fatal
from streams.batch import FoldedPart
from streams.dead_letters import DeadLetter, record
from streams.restore import Assigned
from streams.transaction import Transaction

ANY_PARTITION = -1  # by the key: dead letters may have another number of partitions, and lines lie anywhere


class Records:
    """Of one open transaction.

    Args:
        transaction: begun by the caller.
        topics: deployed name of each topic, by catalogue name.
    """

    def __init__(self, transaction: Transaction, topics: Mapping[str, str]) -> None:
        self._transaction = transaction
        self._topics = topics
        self._names = {deployed: name for name, deployed in topics.items()}
        self._anchors: dict[int, int | None] = {}

    def produce(self, folded: FoldedPart, position: bytes, assigned: Assigned) -> None:
        """All of one part; raises as `Transaction.produce`."""
        number, produce, stock = assigned.number, self._transaction.produce, self._topics[STOCK.name]
        self._transaction.produce_all(stock, folded.rows, number)
        for key in folded.removed:
            produce(stock, None, key, number)
        self._produce_facts(folded, assigned)
        for raised in folded.alerts:
            produce(self._topics[ALERTS.name], raised.value, raised.key, number)
        for letter in folded.dead_letters:
            if self._is_told(letter, assigned):
                continue
            dead = record(letter, "FOLD")
            produce(self._topics[DEAD_LETTERS.name], dead.value, dead.key, ANY_PARTITION, headers=dead.headers)

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                self._anchors[number] = message.offset()

        produce(stock, position, keys.POSITION, number, on_delivery=delivered)

    def _produce_facts(self, folded: FoldedPart, assigned: Assigned) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                assigned.facts_end = max(assigned.facts_end, cast("int", message.offset()) + 1)

        if folded.decided is not None:
            topic, produce = self._topics[RESERVATIONS.name], self._transaction.produce
            for key, fact in folded.decided.facts:
                produce(topic, fact, key, assigned.number, on_delivery=delivered)
            for key, step in folded.decided.steps:
                produce(self._topics[RESERVATION_STEPS.name], step, key, ANY_PARTITION)

    def _is_told(self, letter: DeadLetter, assigned: Assigned) -> bool:
        """Whether a former generation of the rows has written it."""
        message = letter.message
        topic = self._names[cast("str", message.topic())]
        return cast("int", message.offset()) < assigned.quiet_below.get(topic, 0)

    def anchors(self, folded: Sequence[FoldedPart]) -> dict[int, int]:
        """The offsets that the position records were given, after a flush; what failed to be delivered has none.

        Raises:
            Fatal: they are below what was there already; nothing is committed, and the next start reads what is left.
        """
        stock, checked = self._topics[STOCK.name], {}
        for part in folded:
            number, end = part.part.partition, part.part.store.mark.next_offset
            if number not in self._anchors:
                continue  # the commit will ask for an abort
            anchor = self._anchors[number]
            if anchor is None or anchor < 0:
                raise Fatal(
                    f"Kafka does not say at which offset of {stock}, partition {number}, it put the position; "
                    "the worker has to start again"
                )
            if anchor < end:
                raise Fatal(
                    f"Kafka lost the end of {stock}: partition {number} had records up to offset {end}, and the "
                    f"next ones were put at {anchor}; the worker has to start again, and reads what is left"
                )
            checked[number] = anchor
        return checked
