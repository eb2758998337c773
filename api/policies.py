"""The policies that hold now: read to their end before the first answer, then followed on a thread of their own.

What is read from here is a whole that never changes, so an answer that takes long is made by one set of policies.
"""

from __future__ import annotations

import structlog

from api.following import Following
from inventory.policies import Policies
from schemas.codec import Codec
from schemas.policy_log import Change, PolicyLog, read
from stockweave import metrics
from stockweave.errors import Retriable
from stockweave.settings import Settings

log = structlog.get_logger(__name__)

WAIT_S = 0.2
RETRY_S = 1.0


class PolicyView(Following):
    """Follows inventory.policies.

    Args:
        settings: of the deployment.
        bootstrap_servers: of its Kafka.
        codec: of `Policy`.

    Raises:
        Retriable: Kafka or the registry does not answer.
    """

    def __init__(self, settings: Settings, bootstrap_servers: str, codec: Codec) -> None:
        super().__init__("policies")
        self.current = Policies()
        """What holds; the follower's thread puts another in its place."""
        self._take(read(settings, bootstrap_servers, codec))
        self._log = PolicyLog(settings, bootstrap_servers, codec)

    def _follow(self) -> None:
        """Raises Fatal: the topic is gone, or may not be read."""
        try:
            while not self._stopping.is_set():
                try:
                    self._take(self._log.poll(WAIT_S))
                except Retriable as why:
                    log.info("policies_wait", why=str(why))
                    self._stopping.wait(RETRY_S)
        finally:
            self._log.close()

    def _take(self, changes: list[Change]) -> None:
        before, self.current = self.current, self.current.heard(changes)
        if self.current is not before:
            metrics.POLICIES_REVISION.set(self.current.revision)
            newer = [change.policy.scope for change in changes if change.revision > before.revision]
            log.info("policies_changed", scopes=newer[:20], revision=self.current.revision)
