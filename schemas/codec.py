"""Avro in the Confluent wire format: 0x00, the schema id (4 bytes, big-endian), the body; whole batches at once.

Bodies of one schema laid end to end are the block of an Avro array, so one call decodes them all. What cannot be
decoded comes back in its place as the `Rejected` that says why: one bad message never takes its batch with it. Called
by the publisher (encode) and by the fold (decode).
"""

from __future__ import annotations

import io
import secrets
import struct
from collections.abc import Sequence
from typing import Any, cast

import fastavro
import pyarrow as pa
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException, UnknownType, parse_schema

from schemas.columns import ColumnDecoder
from schemas.registry import Registry, Schema
from schemas.zigzag import zigzag
from stockweave.errors import Rejected

FRAME = struct.Struct(">bI")
UNREADABLE = (EOFError, IndexError, SchemaResolutionError, ValueError)
"""What fastavro raises on a malformed body: all that came of five million truncated, changed and random ones."""

GUARD = "end_of_body"
GUARD_BYTES = 8

Record = dict[str, Any]


class Codec:
    """Encodes and decodes one record type.

    Args:
        name: of the schema, e.g. `StockUpdate`; the newest packaged version is the reader's schema.
        registry: where ids come from.
    """

    def __init__(self, name: str, registry: Registry) -> None:
        self.name = name
        self._registry = registry
        self.schema_id = registry.id_of(name)
        self._reader = registry.schema_of(self.schema_id)
        self._write = parse_schema(self._reader)
        self._frame = FRAME.pack(0, self.schema_id)
        self._blocks: dict[bytes, _Block] = {}
        self._columns = ColumnDecoder(self._reader)

    def encode(self, record: Record) -> bytes:
        """A framed message; raises ValueError, TypeError or OverflowError on a record that does not fit."""
        out = io.BytesIO()
        out.write(self._frame)
        fastavro.schemaless_writer(out, self._write, record)
        return out.getvalue()

    def arrow(self, values: Sequence[bytes | None]) -> pa.RecordBatch | None:
        """All values as Arrow columns, one a field; None where `decode` has to look at each.

        That is so when any is malformed, or written with another schema than the newest one here.
        """
        if not all(values):
            return None
        return self._columns.decode(self._frame, cast("Sequence[bytes]", values))

    def decode(self, values: Sequence[bytes | None]) -> list[Record | Rejected]:
        """Each value decoded, in order, or the `Rejected` that says why not.

        Raises:
            Retriable: the registry has to be asked for an id, and does not answer.
        """
        if values and values[0] is not None and len(values[0]) >= FRAME.size:
            frame = values[0][: FRAME.size]
            if all(value is not None and value.startswith(frame) for value in values):
                return self._decode_same(frame, values)  # the common case: one schema id in the whole batch
        decoded: list[Record | Rejected] = [Rejected("empty", "the message has no value")] * len(values)
        by_frame: dict[bytes, list[int]] = {}
        for i, value in enumerate(values):
            if value is not None:
                by_frame.setdefault(value[: FRAME.size], []).append(i)
        for frame, places in by_frame.items():
            for i, record in zip(places, self._decode_same(frame, [values[i] for i in places]), strict=True):
                decoded[i] = record
        return decoded

    def _decode_same(self, frame: bytes, values: Sequence[bytes | None]) -> list[Record | Rejected]:
        block = self._blocks.get(frame)
        if block is None:
            try:
                block = _Block(*self._writer_schema(frame), self._reader)
            except Rejected as reason:
                return [reason] * len(values)
            self._blocks[frame] = block
        bodies = [value[FRAME.size :] for value in values if value is not None]
        return block.all(bodies) or [block.one(body) for body in bodies]

    def _writer_schema(self, frame: bytes) -> tuple[int, Schema]:
        if len(frame) < FRAME.size or frame[0] != 0:
            raise Rejected("not_framed", f"the value begins with {frame.hex()!r}, not with 00 and a 4-byte schema id")
        schema_id: int = FRAME.unpack(frame)[1]
        schema = self._registry.schema_of(schema_id)
        if schema.get("type") != "record" or schema.get("name", "").rpartition(".")[2] != self.name:
            found = schema.get("name", schema.get("type"))
            raise Rejected("wrong_schema", f"schema id {schema_id} is {found}; the record {self.name} is expected")
        return schema_id, schema


class _Block:
    """Decodes bodies of one writer schema.

    In a block every body is followed by a guard, read as one more field of its record: a body that is too short or too
    long misses it. Else two bad messages whose bytes make two good ones end to end would pass in one batch and fail in
    two, and a replay would end with other rows.
    """

    def __init__(self, schema_id: int, writer: Schema, reader: Schema) -> None:
        same = writer == reader
        try:
            self._writer, self._reader = parse_schema(writer), None if same else parse_schema(reader)
            self._writers, self._readers = _guarded(writer), None if same else _guarded(reader)
        except (SchemaParseException, UnknownType) as error:
            raise Rejected("unknown_schema_id", f"schema id {schema_id} cannot be parsed: {error!r}") from error
        self._guard = secrets.token_bytes(GUARD_BYTES)  # drawn, so that no body can hold it but by chance

    def all(self, bodies: list[bytes]) -> list[Record | Rejected] | None:
        """All bodies in one call, or None if any may be malformed."""
        guard = self._guard
        stream = io.BytesIO(b"".join((zigzag(len(bodies)), guard.join(bodies), guard, b"\0")))
        try:
            decoded: Any = fastavro.schemaless_reader(stream, self._writers, self._readers)
        except UNREADABLE:
            return None
        for record in decoded:
            if record.pop(GUARD) != guard:
                return None
        records: list[Record | Rejected] = decoded
        return records

    def one(self, body: bytes) -> Record | Rejected:
        stream = io.BytesIO(body)
        try:
            decoded: Any = fastavro.schemaless_reader(stream, self._writer, self._reader)
        except UNREADABLE as error:
            return Rejected("undecodable", f"the body does not fit its schema: {type(error).__name__}: {error}")
        if rest := stream.read():
            return Rejected("undecodable", f"{len(rest)} bytes follow the body; is the schema id right?")
        record: Record = decoded
        return record


def _guarded(schema: Schema) -> Any:  # noqa: ANN401 - fastavro's parsed schemas are untyped
    guard = {"name": GUARD, "type": {"type": "fixed", "name": "stockweave.Guard", "size": GUARD_BYTES}}
    return parse_schema({"type": "array", "items": schema | {"fields": [*schema["fields"], guard]}})
