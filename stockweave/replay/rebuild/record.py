"""Moves the record of generations for a rebuild, and tells which topics it leaves unnamed, to be deleted.

Invariant: of two rebuilds at once only the later moves the record. A topic is unnamed only if it was there before a
record was committed that does not name it: so what a later rebuild makes is never deleted by a former.
"""

from __future__ import annotations

import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from schemas.generation_log import read
from schemas.generations import KEY, Generation, Generations, Plan, encode, name_of, number_of
from schemas.topics import GENERATIONS, STOCK
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Retriable
from stockweave.settings import Settings
from stockweave.writer import Produce, Writer

ANSWER_S = 10.0


class Record:
    """The record, as its only writer; `take_over` comes first.

    Args:
        settings: `bootstrap_servers` answers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bootstrap_servers = settings.bootstrap_servers or ""
        self._writer = rebuild_writer(settings, "record")

    def take_over(self) -> Generations:
        """End every other rebuild's hold on the record; returns it.

        Raises:
            Retriable: Kafka does not answer.
            Fatal: the record cannot be read.
        """
        self._writer.take_over()
        return read(self._settings, self._bootstrap_servers)

    def free_number(self, generations: Generations, above: int) -> int:
        """A number above `above`, all that are named, and all whose topics are still there."""
        there = generation_topics(self._settings)
        return max(generations.next_number(), 1 + max(there.values(), default=0), 1 + above)

    def write(
        self, live: Generation, candidate: Generation | None, previous: Generation | None, plan: Plan | None
    ) -> list[str]:
        """Commit the record; returns the topics of generations that it does not name, for `delete_topics`.

        Raises:
            Fatal: another rebuild has taken over; the record is as it was.
            Retriable: Kafka does not answer; whether the record is written is told by reading it.
        """
        there = generation_topics(self._settings)
        made = Generations(live, candidate, previous, time.time_ns() // 1_000_000, plan)
        topic = self._settings.topic(GENERATIONS.name)

        def record(produce: Produce) -> None:
            produce(topic, encode(made), KEY, 0)

        self._writer.commit(record)
        named = {g.topic for g in (live, candidate, previous) if g is not None}
        return sorted(there.keys() - named, key=lambda name: there[name])

    def close(self) -> None:
        """Write no more."""
        self._writer.close()


def rebuild_writer(settings: Settings, what: str) -> Writer:
    """The writer of the record, or of a partition, by its number."""
    return Writer(
        settings,
        STOCK.name,
        f"rebuild-{what}",
        "another rebuild has begun and taken this one over; that one goes on (`stockweave rebuild --status` tells how "
        "far)",
    )


def generation_topics(settings: Settings) -> dict[str, int]:
    """The number of each generation whose topic is there, by the topic's name.

    Raises:
        Retriable: Kafka does not answer.
    """
    admin = AdminClient(client_config(settings.bootstrap_servers or ""), logger=CLIENT_LOGGER)
    try:
        names = admin.list_topics(timeout=ANSWER_S).topics
    except KafkaException as error:
        raise Retriable(f"Kafka does not list its topics: {error.args[0].str()}; is it running?") from error
    numbers = {name: number_of(name, settings) for name in names}
    return {name: number for name, number in numbers.items() if number is not None}


def delete_topics(settings: Settings, names: list[str]) -> None:
    """Delete topics; one that is gone already is well.

    Raises:
        Retriable: Kafka does not answer, or refuses.
    """
    admin = AdminClient(client_config(settings.bootstrap_servers or ""), logger=CLIENT_LOGGER)
    for name, deleted in admin.delete_topics(names, request_timeout=ANSWER_S).items() if names else ():
        try:
            deleted.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise Retriable(
                    f"topic {name}, which no generation needs any more, is not deleted: {error.args[0].str()}; "
                    "`stockweave rebuild --discard` tries again"
                ) from error


def generation(number: int, settings: Settings) -> Generation:
    """A generation by its number."""
    return Generation(number, name_of(number, settings))
