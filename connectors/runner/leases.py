"""Whose feeds are whose: processes share the partitions of inventory.feeds as one consumer group.

So the feeds of a supplier, which have their partition by his name, are run by one of them, within his one budget; and
the partition holds how far each has come.

Invariant: a partition is given back only when its feeds have stopped, or the time for that is over; one that is taken
is told of only when it was read to its end. A process that Kafka has given up runs on until it hears of it: what it
sends meanwhile has the ids that another one gives it, and counts once. Used by `supervisor`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from connectors.runner.progress import Kept, Order, note
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal, Rejected

log = structlog.get_logger(__name__)

HANDOVER_S = 20.0  # for feeds to stop, of the time that the group waits
SESSION_MS = 10_000
POLL_S = 0.1
FATAL = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION)


class Granted(NamedTuple):
    """A partition is ours. `kept`: of each feed that it holds, by name."""

    partition: int
    kept: Mapping[str, Kept]


class Revoked(NamedTuple):
    """Partitions are ours no more. `done`: to be set once their feeds have stopped."""

    partitions: list[int]
    done: threading.Event


class Ordered(NamedTuple):
    """A person has decided what becomes of a feed's snapshot."""

    feed: str
    order: Order


class Broken(NamedTuple):
    """There will be no more leases."""

    why: Fatal


Event = Granted | Revoked | Ordered | Broken


class Leases:
    """A member of the group, on a thread of its own.

    Args:
        bootstrap_servers: of its Kafka.
        topic: inventory.feeds as deployed.
        group: of all connector processes.
        tell: takes each event; called on that thread.
    """

    def __init__(self, bootstrap_servers: str, topic: str, group: str, tell: Callable[[Event], None]) -> None:
        self._topic = topic
        self._tell = tell
        self._stopping = threading.Event()
        self._reading: dict[int, dict[str, Kept]] = {}  # partitions that are not read to their end yet
        self._consumer = Consumer(_config(bootstrap_servers, group), logger=CLIENT_LOGGER)
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Join the group."""
        self._thread.start()

    async def stop(self) -> None:
        """Leave it: others take over at once. The feeds have stopped before."""
        self._stopping.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )
        try:
            while not self._stopping.is_set():
                for message in self._consumer.consume(1_000, POLL_S):
                    self._hear(message)
        except Fatal as why:
            self._tell(Broken(why))
        finally:
            self._consumer.close()

    def _hear(self, message: Message) -> None:
        partition, error = message.partition() or 0, message.error()
        reading = self._reading.get(partition)
        if error is None:
            kept: dict[str, Kept] = {} if reading is None else reading
            try:
                feed = note(kept, message)
            except Rejected as why:
                log.warning("progress_unreadable", why=str(why))
                return
            if reading is None and (order := kept[feed].order) is not None:  # the rest we have written ourselves
                self._tell(Ordered(feed, order))
        elif error.code() == KafkaError._PARTITION_EOF:
            if reading is not None:
                del self._reading[partition]
                self._tell(Granted(partition, reading))
        elif error.fatal() or error.code() in FATAL:
            raise Fatal(f"the leases of feeds in {self._topic} cannot be had: {error.str()}; grant the right to it")

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign([TopicPartition(p.topic, p.partition, OFFSET_BEGINNING) for p in partitions])
        self._reading.update((p.partition, {}) for p in partitions)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """As well when they are lost: the feeds that still run here are to stop, whoever has them now."""
        for each in partitions:
            self._reading.pop(each.partition, None)
        done = threading.Event()
        self._tell(Revoked([p.partition for p in partitions], done))
        if not done.wait(HANDOVER_S):
            log.warning("feeds_do_not_stop", partitions=[p.partition for p in partitions], waited_s=HANDOVER_S)
        consumer.incremental_unassign(partitions)


def _config(bootstrap_servers: str, group: str) -> dict[str, str | int | float | bool]:
    return client_config(bootstrap_servers) | {
        "group.id": group,
        "partition.assignment.strategy": "cooperative-sticky",  # whoever comes takes its share, and no more stop
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": 1_000,
        "max.poll.interval.ms": 60_000,
        "fetch.wait.max.ms": 100,
    }
