"""How far each feed has come, as a record of inventory.feeds: the newest of each feed stays.

Invariant: a record says no more than Kafka has: it is written after the updates that it stands for are acknowledged.
Whoever takes a feed over goes on from it; what comes twice then has the ids that it had, and counts once. So a process
that was thought dead, and writes an older one, costs but a repeat. Written by `feed`, read by `leases`.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from connectors.documents import State
from stockweave.errors import Rejected


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Of one feed.

    `state`: what its kind goes on from. `origin`, `rows`: of the document that is being read, how many of its rows
    Kafka has; None: none is. `at_ms`: when it was written, since the epoch.
    """

    feed: str
    state: State = {}
    origin: str | None = None
    rows: int = 0
    at_ms: int = 0


class ProgressCodec:
    """Writes it as JSON, which people read as well."""

    def encode(self, record: dict[str, Any]) -> bytes:
        """A record's value."""
        return orjson.dumps(record)


def decode(value: bytes) -> Progress:
    """Raises `Rejected` for a record that is none."""
    try:
        return msgspec.json.decode(value, type=Progress)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected("invalid_progress", f"a record of inventory.feeds is no progress: {error}") from None
