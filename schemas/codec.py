"""Avro in the Confluent wire format: 0x00, the schema id (4 bytes, big-endian), the body; whole batches at once.

Bodies of one schema laid end to end are the block of an Avro array, so one call decodes them all. What cannot be
decoded comes back in its place as the `Rejected` that says why: one bad message never takes its batch with it, whatever
its bytes are and whatever schema was registered for it (`schemas.shape`). Called by the publisher (encode) and by the
fold (decode).
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from typing import Any, cast

import fastavro
import pyarrow as pa
import pyarrow.compute as pc
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException, parse_schema
from pyruhvro import serialize_record_batch

from schemas.columns import ColumnDecoder
from schemas.registry import Registry, Schema
from schemas.shape import Shape
from schemas.zigzag import zigzag
from stockweave.errors import Fatal, Rejected

FRAME = struct.Struct(">bI")
UNREADABLE = (EOFError, IndexError, SchemaResolutionError, ValueError)
"""What fastavro raises on a body of the right shape: text that is not UTF-8, and what the reader cannot resolve."""
UNPARSED = (SchemaParseException, AttributeError, KeyError, TypeError, ValueError)
"""What it raises on a schema that is none, or whose defaults, aliases or docs are of no type that it expects."""

ENTRIES_MAX = {"StockUpdate": 200}
"""Of an array or a map, by schema: twice what the rule lets pass (`inventory.stock.INCOMING_MAX`). A decoded entry
takes a hundred times its two bytes, and a batch may be full of them."""
ENTRIES_MAX_ELSE = 10_000

SHOWN_MAX = 200  # characters of what a schema says, in a reason

Record = dict[str, Any]


class Codec:
    """Encodes and decodes one record type.

    Args:
        name: of the schema, e.g. `StockUpdate`; the newest packaged version is the reader's schema.
        registry: where ids come from.

    Raises:
        Fatal: the schema cannot be used.
    """

    def __init__(self, name: str, registry: Registry) -> None:
        self.name = name
        self._registry = registry
        self.schema_id = registry.id_of(name)
        self._reader = registry.schema_of(self.schema_id)
        try:
            self._write = parse_schema(self._reader)
        except UNPARSED as error:
            said = str(error)[:SHOWN_MAX]
            raise Fatal(f"the newest schema of {name} cannot be used: {said}; install the package again") from error
        self._frame = FRAME.pack(0, self.schema_id)
        self._json = json.dumps(self._reader)
        self._blocks: dict[bytes, _Block] = {}
        self._entries_max = ENTRIES_MAX.get(name, ENTRIES_MAX_ELSE)
        self._columns = ColumnDecoder(self._reader, self._entries_max)

    def encode(self, record: Record) -> bytes:
        """A framed message; raises ValueError, TypeError or OverflowError on a record that does not fit."""
        out = io.BytesIO()
        out.write(self._frame)
        fastavro.schemaless_writer(out, self._write, record)
        return out.getvalue()

    def encode_columns(self, batch: pa.RecordBatch) -> list[bytes]:
        """Framed messages of columns, one a field as the schema has them, at a hundredth of the cost of `encode`.

        Raises:
            ValueError: the columns do not fit the schema.
        """
        [bodies] = serialize_record_batch(batch, self._json, 1)
        framed: list[bytes] = pc.binary_join_element_wise(pa.scalar(self._frame), bodies, pa.scalar(b"")).to_pylist()
        return framed

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
                block = _Block(*self._writer_schema(frame), self._reader, self._entries_max)
            except Rejected as reason:
                return [reason] * len(values)
            self._blocks[frame] = block
        return block.decode([value[FRAME.size :] for value in values if value is not None])

    def _writer_schema(self, frame: bytes) -> tuple[int, Schema]:
        if len(frame) < FRAME.size or frame[0] != 0:
            raise Rejected("not_framed", f"the value begins with {frame.hex()!r}, not with 00 and a 4-byte schema id")
        schema_id: int = FRAME.unpack(frame)[1]
        schema = self._registry.schema_of(schema_id)
        kind, found = schema.get("type"), schema.get("name")
        if kind != "record" or not isinstance(found, str) or found.rpartition(".")[2] != self.name:
            found = found if isinstance(found, str) else kind
            said = f"schema id {schema_id} is {str(found)[:SHOWN_MAX]}; the record {self.name} is expected"
            raise Rejected("wrong_schema", said)
        return schema_id, schema


class _Block:
    """Decodes bodies of one writer schema.

    Each is looked at by itself first, so that bodies laid end to end are read one by one. Else two bad messages whose
    bytes make two good ones would pass in one batch and fail in two, and a replay would end with other rows.
    """

    def __init__(self, schema_id: int, writer: Schema, reader: Schema, entries_max: int) -> None:
        same = writer == reader
        try:
            self._shape = Shape(writer, entries_max, skipped=not same)
            self._writer, self._reader = parse_schema(self._shape.plain), None if same else parse_schema(reader)
            self._writers, self._readers = _several(self._shape.plain), None if same else _several(reader)
        except (*UNPARSED, Rejected) as error:
            said = f"schema id {schema_id} cannot be used: {error}"[:SHOWN_MAX]
            raise Rejected("unknown_schema_id", f"{said}; register one that every Avro library reads") from error

    def decode(self, bodies: list[bytes]) -> list[Record | Rejected]:
        """Each body's record, in order, or why there is none."""
        faults = list(map(self._shape.fault, bodies))
        if not any(faults):
            return self._all(bodies)
        decoded = iter(self._all([body for body, fault in zip(bodies, faults, strict=True) if fault is None]))
        return [next(decoded) if fault is None else _undecodable(fault) for fault in faults]

    def _all(self, bodies: list[bytes]) -> list[Record | Rejected]:
        """All in one call; one by one where that fails."""
        stream = io.BytesIO(b"".join((zigzag(len(bodies)), *bodies, b"\0" if bodies else b"")))
        try:
            decoded: Any = fastavro.schemaless_reader(stream, self._writers, self._readers)
        except UNREADABLE:
            return [self._one(body) for body in bodies]
        records: list[Record | Rejected] = decoded
        return records

    def _one(self, body: bytes) -> Record | Rejected:
        try:
            record: Any = fastavro.schemaless_reader(io.BytesIO(body), self._writer, self._reader)
        except UNREADABLE as error:
            return _undecodable(f"{type(error).__name__}: {str(error)[:SHOWN_MAX]}")
        decoded: Record = record
        return decoded


def _undecodable(why: str) -> Rejected:
    return Rejected("undecodable", f"the body does not fit its schema: {why}")


def _several(schema: Schema) -> Any:  # noqa: ANN401 - fastavro's parsed schemas are untyped
    return parse_schema({"type": "array", "items": schema})
