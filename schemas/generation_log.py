"""Reads and writes the record of generations in inventory.generations, a compacted topic of one partition.

`read` gives the newest committed record, for starts and commands; `GenerationLog` goes on reading, for whoever follows
it (`state.generations`); `write` is for a writer that no other may get in the way of.
"""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import KafkaError, Message, Producer

from schemas.generations import KEY, Generations, decode, encode, first
from schemas.small_topic import WAIT_S, Reading, read_all
from schemas.topics import GENERATIONS
from stockweave.clients import CLIENT_LOGGER, client_config, make_known
from stockweave.errors import Retriable
from stockweave.settings import Settings


class GenerationLog:
    """Reads the topic from its beginning, and goes on; on one thread.

    Args:
        settings: of the deployment.
        bootstrap_servers: of its Kafka.
    """

    def __init__(self, settings: Settings, bootstrap_servers: str) -> None:
        self._settings = settings
        self._reading = Reading(settings.topic(GENERATIONS.name), bootstrap_servers)
        self.newest = first(settings)

    @property
    def ended_at(self) -> int:
        """As of `Reading`."""
        return self._reading.ended_at

    def poll(self, timeout_s: float) -> bool:
        """Read what is there, waiting for the first message only; whether `newest` or `ended_at` moved.

        Raises:
            Fatal: the topic is gone, or the record cannot be read.
        """
        ended_at = self.ended_at
        records = self._reading.poll(timeout_s)
        self.newest = _newest(records, self.newest, self._settings)
        return bool(records) or self.ended_at != ended_at

    def close(self) -> None:
        """Leave Kafka."""
        self._reading.close()


def read(settings: Settings, bootstrap_servers: str) -> Generations:
    """The newest committed record; `first` where there is none, or no such topic.

    Raises:
        Retriable: Kafka does not answer, or a write of the record is under way and does not end.
        Fatal: the record cannot be read.
    """
    return _newest(read_all(settings.topic(GENERATIONS.name), bootstrap_servers), first(settings), settings)


def _newest(records: Iterable[Message], newest: Generations, settings: Settings) -> Generations:
    for record in records:
        if record.key() == KEY:
            newest = decode(record.value(), settings)
    return newest


def write(settings: Settings, bootstrap_servers: str, generations: Generations) -> None:
    """Write the record and wait until all in-sync replicas have it.

    Raises:
        Retriable: Kafka did not confirm it.
    """
    producer = Producer(client_config(bootstrap_servers) | {"enable.idempotence": True}, logger=CLIENT_LOGGER)
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    topic = settings.topic(GENERATIONS.name)
    make_known(topic, producer, bootstrap_servers)
    producer.produce(topic, encode(generations), KEY, 0, on_delivery=delivered)
    if producer.flush(WAIT_S) or failed:
        why = failed[0].str() if failed else f"no answer within {WAIT_S:g} s"
        raise Retriable(f"the record of generations was not confirmed by {topic}: {why}; read it, and try again")
