"""The policies that hold, made of their log. Used by all commands that compute availability."""

from __future__ import annotations

from collections.abc import Sequence

from inventory.policies import Policies
from schemas.policy_log import Change


def policies_of(changes: Sequence[Change], as_of_ms: int | None = None) -> Policies:
    """Those that hold now, or held at a time, ms since the epoch, inclusive (what Kafka still has of them)."""
    known = [change for change in changes if as_of_ms is None or change.policy.changed_at <= as_of_ms]
    return Policies().changed(*(c.policy for c in known), revision=known[-1].revision if known else 0)
