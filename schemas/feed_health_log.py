"""Reads the health of feeds in inventory.feeds, and passes over all else in it. Used by the API."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import structlog
from confluent_kafka.admin import AdminClient

from schemas.feed_health import MARK, FeedHealth, decode
from schemas.small_topic import ANSWER_S, Reading
from schemas.topics import FEEDS
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal
from stockweave.settings import Settings

log = structlog.get_logger(__name__)


class Told(NamedTuple):
    """The newest of a feed. `health`: None where there is no such feed any more."""

    feed: str
    health: FeedHealth | None


class FeedHealthLog:
    """Reads the topic from its beginning, and goes on; on one thread.

    Args:
        settings: of the deployment.
        bootstrap_servers: of its Kafka.

    Raises:
        KafkaException: Kafka does not answer.
        Fatal: there is no such topic.
    """

    def __init__(self, settings: Settings, bootstrap_servers: str) -> None:
        topic = settings.topic(FEEDS.name)
        admin = AdminClient(client_config(bootstrap_servers), logger=CLIENT_LOGGER)
        found = admin.list_topics(topic, timeout=ANSWER_S).topics[topic]
        if found.error is not None or not found.partitions:
            raise Fatal(f"topic {topic} is not there; restart to create it")
        self._reading = Reading(topic, bootstrap_servers, partitions=len(found.partitions))

    @property
    def has_ended(self) -> bool:
        """Whether all was read once that there is."""
        return self._reading.ended_at >= 0

    def poll(self, timeout_s: float) -> list[Told]:
        """What is new, waiting for the first record only.

        Raises:
            Fatal: the topic is gone, or may not be read.
        """
        told = []
        for record in self._reading.poll(timeout_s):
            key, value = record.key() or b"", record.value()
            if not key.endswith(MARK.encode()):
                continue
            feed = key.decode(errors="replace").removesuffix(MARK)
            try:
                told.append(Told(feed, decode(value) if value else None))
            except msgspec.DecodeError as why:
                log.warning("health_unreadable", feed=feed, why=str(why))
        return told

    def close(self) -> None:
        """Leave Kafka."""
        self._reading.close()
