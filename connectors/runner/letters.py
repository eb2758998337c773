"""What of a feed cannot be used, as a dead letter: its original bytes, where they stood, and why.

The headers are those of the worker's letters (Kafka Connect's names), and the feed's own. Used by `intake`.
"""

from __future__ import annotations

from typing import NamedTuple

from connectors.publisher import Headers

BYTES_MAX = 1 << 20  # of what is kept of one; rows are far smaller, and of a document the beginning tells what it is
DETAIL_CHARACTERS_MAX = 500


class Letter(NamedTuple):
    """One. `number`: of the row, from 0; None when it is the whole document that is of no use."""

    original: bytes
    number: int | None
    reason: str
    detail: str


def headers(letter: Letter, feed: str, origin: str) -> Headers:
    """`feed`: its whole name and the mapping's version; `origin`: of the document."""
    told: Headers = [
        ("__connect.errors.stage", "connector"),
        ("__connect.errors.exception.class.name", letter.reason),
        ("__connect.errors.exception.message", letter.detail[:DETAIL_CHARACTERS_MAX]),
        ("stockweave.feed", feed),
        ("stockweave.origin", origin),
    ]
    if letter.number is not None:
        told.append(("stockweave.row", str(letter.number)))
    if len(letter.original) > BYTES_MAX:
        told.append(("stockweave.truncated", f"the first {BYTES_MAX} of {len(letter.original)} bytes or more"))
    return told
