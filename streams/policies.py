"""The policies by which commands are decided: read to their end at the start, then followed on the pump's thread."""

from __future__ import annotations

import structlog

from inventory.policies import Policies
from schemas.codec import Codec
from schemas.policy_log import Change, PolicyLog, read
from stockweave.errors import Retriable
from stockweave.settings import Settings

log = structlog.get_logger(__name__)


class FollowedPolicies:
    """Those that this worker knows of.

    Args:
        settings: of the deployment.
        bootstrap_servers: of its Kafka.
        codec: of `Policy`.

    Raises:
        Retriable: Kafka or the registry does not answer.
    """

    def __init__(self, settings: Settings, bootstrap_servers: str, codec: Codec) -> None:
        self._current = Policies()
        self._take(read(settings, bootstrap_servers, codec))
        self._log = PolicyLog(settings, bootstrap_servers, codec)

    def now(self) -> Policies:
        """What holds, as far as it was heard."""
        return self._current

    def look(self) -> None:
        """Take what has changed, without waiting.

        Raises:
            Fatal: the topic is gone.
        """
        try:
            self._take(self._log.poll(0))
        except Retriable as why:
            log.info("policies_wait", why=str(why))

    def close(self) -> None:
        """Leave Kafka."""
        self._log.close()

    def _take(self, changes: list[Change]) -> None:
        self._current = self._current.heard(changes)
