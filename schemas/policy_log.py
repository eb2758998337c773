"""Reads the policies in inventory.policies, a compacted topic of one partition, whose order is that of the changes.

A record that cannot be used changes nothing: the policy that its scope had before stays, and the log says why. Used by
whatever computes availability; commands write it (`stockweave.policies`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import structlog
from confluent_kafka import Message

from schemas.codec import Codec
from schemas.policies import Policy, of_record
from schemas.small_topic import Reading, read_all
from schemas.topics import POLICIES
from stockweave.errors import Rejected
from stockweave.settings import Settings

log = structlog.get_logger(__name__)


class Change(NamedTuple):
    """A policy, and what the log of policies is with it: `revision` grows with every change of any of them."""

    revision: int
    policy: Policy


class PolicyLog:
    """Reads the topic from its beginning, and goes on; on one thread.

    Args:
        settings: of the deployment.
        bootstrap_servers: of its Kafka.
        codec: of `Policy`.
    """

    def __init__(self, settings: Settings, bootstrap_servers: str, codec: Codec) -> None:
        self._reading = Reading(settings.topic(POLICIES.name), bootstrap_servers)
        self._codec = codec
        self._pending: list[Message] = []

    def poll(self, timeout_s: float) -> list[Change]:
        """What has changed, waiting for the first record only.

        Raises:
            Fatal: the topic is gone.
            Retriable: the registry does not answer; what has come is told by a later call.
        """
        self._pending += self._reading.poll(timeout_s)
        changes = _changes(self._pending, self._codec)
        self._pending = []
        return changes

    def close(self) -> None:
        """Leave Kafka."""
        self._reading.close()


def read(settings: Settings, bootstrap_servers: str, codec: Codec) -> list[Change]:
    """All changes that the topic still has, in order; at least the newest of every scope.

    Raises:
        Retriable: Kafka does not answer, or a change is under way and does not end.
        Fatal: the topic may not be read.
    """
    return _changes(read_all(settings.topic(POLICIES.name), bootstrap_servers), codec)


def _changes(records: Sequence[Message], codec: Codec) -> list[Change]:
    changes = []
    for record, decoded in zip(records, codec.decode([record.value() for record in records]), strict=True):
        at = cast("int", record.offset())
        try:
            if isinstance(decoded, Rejected):
                raise decoded
            policy = of_record(decoded)
            if policy.scope.encode() != record.key():
                raise Rejected("invalid_policy", f"scope is {policy.scope!r} under the key {record.key()!r}", "scope")
        except Rejected as why:
            log.warning("policy_passed_over", offset=at, why=str(why), remedy="set it again: stockweave policies set")
        else:
            changes.append(Change(at + 1, policy))
    return changes
