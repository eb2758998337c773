"""Asks Kafka how far inventory.stock goes, and whether it is still the same topic; on the event loop, without blocking.

The ends are the high watermarks, asked read_uncommitted: read_committed tells the last stable offset, which lags behind
rows that are committed already. Called by `api.view`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from schemas.admin import Deployed, generation_of
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal, Retriable

ASK_S = 2.0
GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)


class Ends:
    """Questions about one deployed topic."""

    def __init__(self, bootstrap_servers: str, topic: Deployed) -> None:
        self._admin = AdminClient(client_config(bootstrap_servers), logger=CLIENT_LOGGER)
        self._topic = topic
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        self._latest = {TopicPartition(topic.name, p): latest for p in range(topic.partitions)}

    async def ask(self) -> dict[int, int]:
        """The offset after the last record, committed or not, by partition.

        Raises:
            Retriable: Kafka does not answer.
        """
        futures: Mapping[TopicPartition, Future[Any]] = self._admin.list_offsets(
            self._latest, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=ASK_S
        )
        answers = await self._all(futures.values())
        if any(answer.offset < 0 for answer in answers):  # how librdkafka tells of a broker that stands still
            raise Retriable("Kafka does not answer in time; is it running?")
        return {asked.partition: answer.offset for asked, answer in zip(futures, answers, strict=True)}

    async def check_generation(self) -> None:
        """Raise Fatal if the topic was deleted, also when a namesake has taken its place.

        To be called after any failed `ask`: it makes the client learn the leaders anew, and without it every ask fails
        for ever once a broker was restarted ("leader epoch is older than broker epoch").

        Raises:
            Retriable: Kafka does not answer.
        """
        futures = self._admin.describe_topics(TopicCollection([self._topic.name]), request_timeout=ASK_S)
        [described] = await self._all(futures.values())
        if generation_of(described) != self._topic.generation:
            raise Fatal(f"topic {self._topic.name} was created anew; restart, and the view is read from it")

    async def _all(self, futures: Iterable[Future[Any]]) -> list[Any]:
        try:
            return await asyncio.gather(*map(asyncio.wrap_future, futures))
        except KafkaException as raised:
            error = raised.args[0]
            if error.code() in GONE:
                raise Fatal(
                    f"topic {self._topic.name} is gone: {error.str()}; restart to create it, and the view is read anew"
                ) from raised
            raise Retriable(f"Kafka does not answer: {error.str()}; is it running?") from raised
