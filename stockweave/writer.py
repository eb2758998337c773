"""Transactions of a command, under an id of what it writes: so that a later command ends a former.

Invariant: of two commands at once only the one that took an id over last can write what belongs to it; whatever the
other left open is undone. Records are committed whole or not at all, and again when Kafka wanted them undone. A rebuild
has an id for each partition and one for the record, the policies have one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from stockweave.clients import CLIENT_LOGGER, make_known
from stockweave.errors import Fatal, Retriable
from stockweave.settings import Settings
from stockweave.world import SystemClock, TransactionalProducer
from streams.transaction import Aborted, Transaction, Watchdog, hung_s, producer_config

TRANSACTION_MS = 60_000  # of up to `refold.WAITING_BYTES_MAX`; a dead command's next self does not wait for it
PATIENCE_S = 60.0
ABORTS_MAX = 5  # in a row
FENCED = (
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
)

Produce = Callable[..., None]
"""`Transaction.produce`: topic, value, key, partition, and `on_delivery` if need be."""


class Writer:
    """Writes under one transactional id; on one thread.

    Args:
        settings: `bootstrap_servers` answers.
        topic: one that it writes to, by its catalogue name.
        what: the end of the id.
        taken_over: what is said when another has taken the id over.
    """

    def __init__(self, settings: Settings, topic: str, what: str, taken_over: str) -> None:
        self._topic, self._bootstrap_servers = settings.topic(topic), settings.bootstrap_servers or ""
        self._taken_over = taken_over
        config = producer_config(self._bootstrap_servers, f"{settings.topic_prefix}stockweave-{what}", TRANSACTION_MS)
        self._producer = Producer(config, logger=CLIENT_LOGGER)
        producer = cast("TransactionalProducer", self._producer)
        clock = SystemClock()
        self._transaction = Transaction(producer, clock, Watchdog(clock, hung_s=hung_s(TRANSACTION_MS)), PATIENCE_S)

    def take_over(self) -> None:
        """End every other writer of this id, and undo what it left open.

        Raises:
            Retriable: Kafka does not answer.
        """
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                make_known(self._topic, self._producer, self._bootstrap_servers)
                return self._transaction.take_over()
            except Retriable:
                if time.monotonic() > deadline_s:
                    raise

    def commit(self, records: Callable[[Produce], None]) -> None:
        """Commit what `records` produces; it is called again when Kafka wanted that undone.

        Raises:
            Fatal: another command has taken over.
            Retriable: Kafka does not answer, or will not take it.
        """
        for _ in range(ABORTS_MAX):
            with self._fenced_is_told():
                self._transaction.begin()
                try:
                    records(self._transaction.produce)
                    return self._transaction.commit_records()
                except Aborted as why:
                    said = str(why)
                    self._transaction.abort()
        raise Retriable(f"a transaction was aborted {ABORTS_MAX} times in a row, last for {said}; see the broker's log")

    def close(self) -> None:
        """Write no more; an open transaction is left to the next `take_over`."""
        self._transaction.close()

    @contextmanager
    def _fenced_is_told(self) -> Iterator[None]:
        try:
            yield
        except Fatal as error:
            cause = error.__cause__
            if isinstance(cause, KafkaException) and cause.args[0].code() in FENCED:
                raise Fatal(self._taken_over) from error
            raise


class Anchor:
    """Keeps the offset that a record was given: `produce(..., on_delivery=anchor)`."""

    def __init__(self) -> None:
        self.offset = -1

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        """It is delivered, or failed."""
        if error is None:
            self.offset = cast("int", message.offset())
