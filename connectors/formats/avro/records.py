"""Records of one Avro schema: taken apart, and their fields as text, for a mapping to read.

Invariant: a body is looked at before it is decoded, so a bad one is itself alone, and what it costs is bounded by its
length (`schemas.shape`). Times become RFC 3339, decimals plain digits. Used by `container` and `messages`.
"""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

import fastavro
import orjson
import pyarrow as pa
from fastavro.schema import parse_schema

from connectors.formats.json_rows import ABSENT, finder
from connectors.formats.rows import NAMED_ROWS, Broken, Names, Rows
from schemas.codec import UNPARSED, UNREADABLE
from schemas.shape import Shape
from schemas.zigzag import zigzag
from stockweave.errors import Rejected

ENTRIES_MAX = 10_000  # of an array or a map
ROWS_AT_ONCE = 4_096
SHOWN_MAX = 200  # characters of what a library says


class Unread(str):
    """Why a body is no record, in its place."""

    __slots__ = ()


Record = dict[str, Any]
Body = tuple[int, bytes]


class Decoder:
    """Of the bodies of one schema.

    Args:
        schema: as JSON.

    Raises:
        Rejected: it is none, or one that cannot be read within bounds.
    """

    def __init__(self, schema: bytes) -> None:
        try:
            whole = json.loads(schema)
            self._shape = Shape(whole, ENTRIES_MAX, skipped=False, logical=True)
            self._one = parse_schema(self._shape.plain)
            self._several = parse_schema({"type": "array", "items": self._shape.plain})
        except (*UNPARSED, RecursionError, Rejected) as error:
            detail = f"the schema cannot be used: {str(error)[:SHOWN_MAX]}; mend it, or ask the supplier to"
            raise Rejected("unusable_schema", detail) from None

    def cut(self, data: bytes, count: int) -> Iterator[bytes]:
        """So many bodies that lie end to end.

        Raises:
            Rejected: one does not fit, or something else follows.
        """
        at = 0
        for _ in range(count):
            end = self._shape.end(data, at)
            if end is None:
                raise Rejected("undecodable", "what follows does not fit the schema; ask the supplier to write it anew")
            yield data[at:end]
            at = end
        if at < len(data):
            raise Rejected("undecodable", "more bytes follow than the records have; ask the supplier to write it anew")

    def decode(self, bodies: Sequence[bytes]) -> list[Record | Unread]:
        """Each body's record, in order, or why there is none."""
        faults = list(map(self._shape.fault, bodies))
        whole = iter(self._all([body for body, fault in zip(bodies, faults, strict=True) if fault is None]))
        return [next(whole) if fault is None else _unread(fault) for fault in faults]

    def _all(self, bodies: Sequence[bytes]) -> list[Record | Unread]:
        """All in one call; one by one where that fails."""
        stream = io.BytesIO(b"".join((zigzag(len(bodies)), *bodies, b"\0" if bodies else b"")))
        try:
            decoded: Any = fastavro.schemaless_reader(stream, self._several, None)
        except (*UNREADABLE, ArithmeticError):
            return [self._each(body) for body in bodies]
        return [_record(each) for each in decoded]

    def _each(self, body: bytes) -> Record | Unread:
        try:
            return _record(fastavro.schemaless_reader(io.BytesIO(body), self._one, None))
        except (*UNREADABLE, ArithmeticError) as error:
            return _unread(f"{type(error).__name__}: {str(error)[:SHOWN_MAX]}")


@lru_cache(256)
def decoder(schema: bytes) -> Decoder:
    """Of this schema, kept; raises as `Decoder`."""
    return Decoder(schema)


def rows(
    found: Sequence[Record | Unread], numbers: Sequence[int], paths: Sequence[str], original: Callable[[int], bytes]
) -> Rows:
    """Of records, each with its number; `original`: of one of them, by its place."""
    places = [place for place, row in enumerate(found) if not isinstance(row, Unread)]
    broken = [Broken(numbers[p], original(p), str(row)) for p, row in enumerate(found) if isinstance(row, Unread)]
    columns = {
        path: pa.array([_cell(find(found[place])) for place in places], pa.string())
        for path, find in ((path, finder(path)) for path in paths)
    }
    kept = pa.array([numbers[place] for place in places], pa.int64())
    looked = [found[place] for place in places[:: len(places) // NAMED_ROWS + 1]]
    return Rows(columns, kept, lambda row: original(places[row]), broken, names=_names(looked))


def _cell(found: object) -> str | None:
    """As a column has it: None where there is no such field."""
    return None if found is ABSENT else text(found) or ""


def text(value: object) -> str | None:
    """As a mapping reads it. Bytes are as Avro's JSON has them: a character each."""
    match value:
        case None | str():
            return value
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return f"{value:f}"
        case bytes():
            return value.decode("latin-1")
        case UUID():
            return str(value)
        case float() if not math.isfinite(value):
            return str(value)  # which is no number, and is told as that
        case _:
            return orjson.dumps(value, default=text).decode()


def _names(looked: Sequence[object]) -> Names:
    """Of fields, and of those of records in them: a message's stand within its value."""
    counts = Counter(name for row in looked for name in _within("$", row))
    return Names(len(looked), counts)


def _within(path: str, row: object) -> Iterator[str]:
    for name, value in row.items() if isinstance(row, Mapping) else ():
        if path == "$" and name == "value" and isinstance(value, Mapping):
            yield from _within("$.value", value)
        elif value is not None:
            yield f"{path}.{name}"


def _record(found: object) -> Record | Unread:
    return found if isinstance(found, dict) else Unread("the schema is of no record; mend which one it is")


def _unread(why: str) -> Unread:
    return Unread(f"it does not fit its schema ({why}); ask the supplier which it was written with")
