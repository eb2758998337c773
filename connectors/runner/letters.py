"""What of a feed cannot be used, as a dead letter: its original bytes, where they stood, and why.

The headers are those of the worker's letters (Kafka Connect's names), and the feed's own: what is needed to read the
row again once the mapping is mended, with the id that it would have had. Used by `intake`, and by `stockweave dlq`.
"""

from __future__ import annotations

from typing import NamedTuple

from connectors.documents import Document
from connectors.publisher import Headers
from schemas.dead_letters import DETAIL, DETAIL_CHARACTERS_MAX, REASON, STAGE, TRUNCATED

CONNECTOR = "connector"  # the stage
BYTES_MAX = 1 << 20  # of what is kept of one; rows are far smaller, and of a document the beginning tells what it is
HEAD_BYTES_MAX = 64 << 10
FEED, ORIGIN, ROW, HEAD = "stockweave.feed", "stockweave.origin", "stockweave.row", "stockweave.head"
SKU = "stockweave.sku"  # of a row whose SKU the map does not know: that SKU
OBSERVED_AT, RECEIVED_AT = "stockweave.observed-at", "stockweave.received-at"


class Letter(NamedTuple):
    """One. `number`: of the row, from 0; None when it is the whole document that is of no use. `head`: as of `Rows`.

    `sku`: the supplier's, of a row that waits for the map.
    """

    original: bytes
    number: int | None
    reason: str
    detail: str
    head: bytes = b""
    sku: str | None = None


def headers(letter: Letter, feed: str, document: Document) -> Headers:
    """`feed`: its whole name and the mapping's version."""
    told: Headers = [
        (STAGE, CONNECTOR),
        (REASON, letter.reason),
        (DETAIL, letter.detail[:DETAIL_CHARACTERS_MAX]),
        (FEED, feed),
        (ORIGIN, document.origin),
        (OBSERVED_AT, str(document.observed_at)),
        (RECEIVED_AT, str(document.received_at)),
    ]
    if letter.number is not None:
        told.append((ROW, str(letter.number)))
    if letter.sku is not None:
        told.append((SKU, letter.sku))
    if letter.head:
        told.append((HEAD, letter.head[:HEAD_BYTES_MAX]))
    if len(letter.original) > BYTES_MAX or len(letter.head) > HEAD_BYTES_MAX:
        told.append((TRUNCATED, f"the first {BYTES_MAX} of {len(letter.original)} bytes or more"))
    return told
