"""The health of all feeds, as their connectors tell it: followed on a thread of its own.

It is told beside the stock, and nothing of the stock hangs on it: a topic that cannot be read, which the log says, ends
no process, and leaves but the health unanswered.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from confluent_kafka import KafkaException

from api.following import Following
from schemas.feed_health import FeedHealth
from schemas.feed_health_log import FeedHealthLog
from stockweave.errors import Fatal, Retriable
from stockweave.settings import Settings

log = structlog.get_logger(__name__)

WAIT_S = 0.5
RETRY_S = 5.0


class FeedsView(Following):
    """Follows what inventory.feeds tells of health.

    Args:
        settings: of the deployment.
        bootstrap_servers: of its Kafka.
    """

    def __init__(self, settings: Settings, bootstrap_servers: str) -> None:
        super().__init__("feeds")
        self._settings = settings
        self._servers = bootstrap_servers
        self._current: Mapping[str, FeedHealth] = {}
        self._has_ended = False

    @property
    def current(self) -> Mapping[str, FeedHealth]:
        """Of each feed, by its whole name; a whole that is replaced, and never changed.

        Raises:
            Retriable: it is still being read.
        """
        if not self._has_ended:
            raise Retriable("the health of feeds is still being read, or cannot be; the log says why. Try again")
        return self._current

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self._read()
            except (Fatal, KafkaException) as why:
                log.warning("health_not_followed", why=str(why), again_s=RETRY_S)
                self._stopping.wait(RETRY_S)

    def _read(self) -> None:
        following = FeedHealthLog(self._settings, self._servers)
        try:
            while not self._stopping.is_set():
                told = following.poll(WAIT_S)
                if told:
                    changed = {**self._current, **dict(told)}
                    self._current = {feed: health for feed, health in changed.items() if health is not None}
                self._has_ended = self._has_ended or following.has_ended
        finally:
            following.close()
