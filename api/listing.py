"""Pages of the list: the partitions' rows merged in the order of their SKUs, filtered, a bounded number per request.

What exists the whole time is found exactly once over all pages, whatever else changes: a SKU lies in one partition, and
a page begins after the last SKU that the former one looked at. Runs off the event loop; called by the routes.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

from api.answers import Answers, Item
from api.partition import ViewPartition
from schemas.keys import SOURCE_SEPARATOR
from schemas.rows import PackedRow, decode_packed_row, decode_row

ROWS_SCANNED_MAX = 100_000  # per request; a sparse filter goes on by the cursor
SCAN_S_MAX = 0.4  # likewise: the scan shares the interpreter with every other answer
CHUNK_ROWS_MIN, CHUNK_ROWS_MAX = 16, 256


class Filters(NamedTuple):
    """What a row must be; None where anything will do.

    `supplier`, `location`: it has a source of that supplier, of that location, and of both in one when both are given.
    `in_stock`: whether its available quantity is above zero. `updated_since`: changed at or after that time, in ms.
    """

    supplier: str | None = None
    location: str | None = None
    in_stock: bool | None = None
    updated_since: int | None = None

    def match(self, row: PackedRow) -> bool:
        """Whether a row passes all but `in_stock`, for which it has to be decoded further."""
        if self.updated_since is not None and row.changed_at < self.updated_since:
            return False
        if self.supplier is None and self.location is None:
            return True
        for key in row.sources:
            supplier, _, location = key.partition(SOURCE_SEPARATOR)
            if self.supplier in (None, supplier) and self.location in (None, location):
                return True
        return False


def page(
    partitions: Sequence[ViewPartition], filters: Filters, after: str, limit: int, answers: Answers
) -> tuple[list[Item], str | None]:
    """The items after SKU `after` ("" for the beginning), and the last SKU looked at, None if there are no more.

    Raises:
        Retriable: a partition has not caught up.
    """
    first = after.encode() + b"\0" if after else b""
    chunk = min(CHUNK_ROWS_MAX, max(CHUNK_ROWS_MIN, limit // len(partitions) + 1))
    merged = heapq.merge(*(_ordered(p, first, chunk) for p in partitions), key=itemgetter(0))
    items: list[Item] = []
    last = b""
    give_up_s = time.monotonic() + SCAN_S_MAX
    for scanned, (key, value) in enumerate(merged):
        if len(items) == limit or scanned == ROWS_SCANNED_MAX or (scanned and time.monotonic() > give_up_s):
            return items, last.decode()
        last = key
        if not filters.match(decode_packed_row(value)):
            continue
        row = decode_row(value)
        answer = answers.available(row)
        if filters.in_stock is None or filters.in_stock is (answer.available > 0):
            items.append(answers.item(row, answer))
    return items, None


def _ordered(partition: ViewPartition, first: bytes, chunk_rows: int) -> Iterator[tuple[bytes, bytes]]:
    rows = partition.page(first, chunk_rows)
    while rows:
        yield from rows
        if len(rows) < chunk_rows:
            return
        rows = partition.page(rows[-1][0] + b"\0", chunk_rows)
