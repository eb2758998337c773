"""A feed's dead letter once more: its row through the mapping as it is now, with the id that it would have had.

Used by `parked`, and by `stockweave dlq retry`.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from connectors.configuration.load import Feed
from connectors.formats.reader import read_again
from connectors.mapping.mapper import Mapper, Read
from connectors.runner.letters import HEAD, OBSERVED_AT, ORIGIN, RECEIVED_AT, ROW
from schemas.dead_letters import TRUNCATED
from stockweave.errors import Rejected


def once_more(headers: Mapping[str, bytes], original: bytes | None, feed: Feed, mapper: Mapper) -> pa.RecordBatch:
    """The update of a row.

    Args:
        headers: of the letter.
        original: its value.
        feed: that it is of, as it is configured now.
        mapper: made of it.

    Raises:
        Rejected: it is of no use still, with the reason that a letter would have.
    """
    if not {ROW, ORIGIN, OBSERVED_AT, RECEIVED_AT} <= headers.keys():
        raise Rejected("whole_document", "it is a whole document: have the feed read it again")
    if TRUNCATED in headers or original is None:
        raise Rejected("truncated", "not all of it was kept: have the feed read its document again")
    number = pa.array([int(headers[ROW])], pa.int64())
    read = Read(headers[ORIGIN].decode(errors="replace"), int(headers[OBSERVED_AT]), int(headers[RECEIVED_AT]))
    for rows in read_again(headers.get(HEAD, b""), original, feed.config.format, feed.config.mapping.paths):
        if rows.broken:
            raise Rejected("malformed_row", rows.broken[0].detail)
        mapped = mapper.map(rows.columns, number, read)
        if mapped.faults:
            raise Rejected(mapped.faults[0][0].reason, "; ".join(fault.detail for fault in mapped.faults[0]))
        return mapped.updates
    raise Rejected("malformed_row", "there is no row in it; mend format")
