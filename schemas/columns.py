"""Avro bodies of one schema straight to columns, by pyruhvro (Avro to Arrow, in Rust): a tenth of the cost of records.

It says yes or no to a batch as a whole; on a no, `schemas.codec` decodes one by one with fastavro, which is its oracle.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyruhvro import deserialize_array

from schemas.registry import Schema
from schemas.shape import Shape
from schemas.zigzag import zigzag

GUARD = "end_of_body"
BYTES_MAX = 1 << 30  # of a batch: where a column's text passes 2 GiB, pyruhvro panics, which no `except` expects


class ColumnDecoder:
    """Decodes bodies written with `schema`, if no array of theirs has more than `entries_max` entries.

    Every body is followed by a guard, read as one more field, for pyruhvro itself ignores bytes that follow a body.
    """

    def __init__(self, schema: Schema, entries_max: int) -> None:
        self._entries_max = entries_max
        plain = Shape(schema, entries_max, skipped=False).plain
        self._is_columnar = _is_columnar(plain)
        self._schema = json.dumps(plain | {"fields": [*plain["fields"], {"name": GUARD, "type": "long"}]})
        self._guard = secrets.randbits(62)  # drawn, so that no body can hold it but by chance
        self._guard_bytes = zigzag(self._guard)

    def decode(self, frame: bytes, values: Sequence[bytes]) -> pa.RecordBatch | None:
        """The fields as Arrow arrays, each as long as `values`; None if any value is malformed.

        Args:
            frame: that each value begins with, if it is not malformed.
            values: each a frame and a body.
        """
        if not self._is_columnar:
            return None
        guard = self._guard_bytes
        bodies = [value.removeprefix(frame) + guard for value in values]
        bodies_bytes = sum(map(len, bodies))
        framed = sum(map(len, values)) + len(values) * (len(guard) - len(frame)) == bodies_bytes
        if not framed or bodies_bytes > BYTES_MAX:
            return None
        try:
            batch = deserialize_array(bodies, self._schema)
            batch.validate(full=True)  # pyruhvro does not look whether a string is UTF-8
        except ValueError:
            return None
        if not (batch.column(GUARD).to_numpy() == self._guard).all():
            return None
        return None if any(_longest(column) > self._entries_max for column in batch.columns) else batch


COLUMNAR = ("int", "long", "float", "double", "boolean", "string")


def _is_columnar(kind: Any) -> bool:  # noqa: ANN401 - Avro schemas are JSON
    """Whether pyruhvro decodes the type in the way that was compared with fastavro's; at some others it panics."""
    if isinstance(kind, list):
        return len(kind) == 2 and "null" in kind and all(k == "null" or _is_columnar(k) for k in kind)
    if not isinstance(kind, dict):
        return kind in COLUMNAR
    if kind["type"] == "record":
        return bool(kind["fields"]) and all(_is_columnar(field["type"]) for field in kind["fields"])
    return kind["type"] == "enum" or (kind["type"] == "array" and _is_columnar(kind["items"]))


def _longest(column: pa.Array) -> int:
    """The most entries that an array in the column has, at any depth."""
    if pa.types.is_struct(column.type):
        return max(map(_longest, column.flatten()), default=0)
    if not pa.types.is_list(column.type) or len(column.flatten()) == 0:
        return 0
    longest: int = pc.max(column.value_lengths()).as_py()
    return max(longest, _longest(column.flatten()))
