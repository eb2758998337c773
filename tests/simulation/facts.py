"""Facts and commands as the topics have them, and what makes a fact wrong; for the ledger and its parts."""

from __future__ import annotations

from typing import Any

Fact = dict[str, Any]
Command = dict[str, Any]


class Unlawful(AssertionError):
    """A fact that may not be; the message says which, and why."""


def has_lapsed(fact: Fact, now_ms: int) -> bool:
    """Whether what a fact tells has lapsed since."""
    return fact["state"] in ("HELD", "PENDING") and fact["expires_at"] is not None and fact["expires_at"] <= now_ms
