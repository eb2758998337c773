"""Laws of a body's shape: what it lets pass decoders read to the end, and what would hurt them it does not let pass."""

from __future__ import annotations

import io
import json
import time
import tracemalloc
from copy import deepcopy
from typing import Any

import fastavro
import pytest
from fastavro.schema import parse_schema
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from inventory.stock import INCOMING_MAX
from schemas.codec import ENTRIES_MAX, FRAME, Codec
from schemas.registry import versions
from schemas.shape import DEPTH_MAX, Shape
from stockweave.errors import Rejected
from tests.fuzz.avro import CODEC, FOREIGN_ID, SCHEMA, Foreign
from tests.fuzz.junk import text, varint
from tests.schemas.strategies import schemas, values
from tests.schemas.test_codec import body_of, sample

HUGE = 2**62
IDS = text(b"A-1") + text(b"acme") + text(b"default") + text(b"u1")
NUMBERS = varint(7) + varint(1) + varint(2)
HEAD = IDS + varint(0) + NUMBERS + varint(0)
"""Of a body, up to its order_ref."""
LIST, TAIL = HEAD + varint(0), varint(0) + text(b"push")
"""A body up to its incoming, and what comes after."""
GOOD = LIST + varint(0) + TAIL


def decoded(body: bytes, schema: object = None) -> Any:
    """By records, alone and beside a good one; both must say the same."""
    codec = CODEC if schema is None else Codec("StockUpdate", Foreign(schema))
    frame = FRAME.pack(0, CODEC.schema_id if schema is None else FOREIGN_ID)
    good = CODEC.encode(sample())
    before, between, after = codec.decode([good, frame + body, good])
    assert before == after == sample()
    [alone] = codec.decode([frame + body])
    assert str(alone) == str(between)
    return alone


def rejected(body: bytes, schema: object = None) -> str:
    one = decoded(body, schema)
    assert isinstance(one, Rejected), one
    assert one.reason == "undecodable"
    return str(one)


def changed(**types: object) -> dict[str, Any]:
    """The schema with other types of some fields, and those that it lacks at its end."""
    schema = deepcopy(SCHEMA)
    for name, kind in types.items():
        field = next((f for f in schema["fields"] if f["name"] == name), None)
        if field is None:
            schema["fields"].append({"name": name, "type": kind})
        else:
            field["type"] = kind
    return schema


def usable(schema: object) -> Shape | None:
    """None for a schema with a list of entries that take no bytes."""
    try:
        return Shape(schema, 100, skipped=True)
    except Rejected as why:
        if "no bytes" in str(why):
            return None
        raise


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_what_passes_is_what_fastavro_writes_and_reads_to_its_last_byte(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    value = data.draw(values(schema))
    shape = usable(schema)
    assume(shape is not None)
    assert shape is not None
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parse_schema(deepcopy(schema)), value)
    body = out.getvalue()
    assert shape.fault(body) is None
    spoilt = data.draw(st.binary(max_size=20)) if data.draw(st.booleans()) else body[: data.draw(st.integers(0, 40))]
    for one in (body, spoilt):
        stream = io.BytesIO(one)
        if shape.fault(one) is None:
            try:
                fastavro.schemaless_reader(stream, parse_schema(shape.plain), None)
            except UnicodeDecodeError:
                continue
            assert stream.read() == b""


@pytest.mark.parametrize("name", versions())
def test_every_schema_of_ours_can_be_used_and_keeps_its_encoding(name: str) -> None:
    for schema in versions()[name]:
        plain = Shape(schema, 1, skipped=False).plain
        assert [f["name"] for f in plain["fields"]] == [f["name"] for f in schema["fields"]]
        assert "doc" not in json.dumps(plain)


def test_every_update_that_the_rule_takes_has_room() -> None:
    assert ENTRIES_MAX["StockUpdate"] >= INCOMING_MAX
    entries = [{"expected_at": 1, "quantity": 1}] * ENTRIES_MAX["StockUpdate"]
    assert decoded(body_of(sample(incoming=entries))) == sample(incoming=entries)
    assert CODEC.arrow([CODEC.encode(sample(incoming=entries))]) is not None
    beyond = CODEC.encode(sample(incoming=[*entries, *entries[:1]]))
    assert CODEC.arrow([CODEC.encode(sample()), beyond]) is None, "columns would take what records do not"
    assert "at most 200" in rejected(beyond[FRAME.size :])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        # A number below zero picked an item from the end: what was no update at all withdrew a supplier's stock.
        (IDS + varint(-1) + NUMBERS + varint(0) + varint(0) + varint(0) + TAIL, "symbol -1"),
        (IDS + varint(3) + NUMBERS + varint(0) + varint(0) + varint(0) + TAIL, "symbol 3"),
        (HEAD + varint(-1) + text(b"order") + varint(0) + TAIL, "branch -1"),
        (HEAD + varint(HUGE) + varint(0) + TAIL, f"branch {HUGE}"),
        (varint(-5) + GOOD, "-5 bytes"),
        (varint(-(2**63)) + GOOD, "bytes"),
        (varint(HUGE) + GOOD, "too early"),
        (LIST + varint(HUGE) + TAIL, "entries"),
        (LIST + varint(-HUGE) + varint(HUGE) + TAIL, "entries"),
        (LIST + varint(201) + b"\0\0" * 201 + varint(0) + TAIL, "201 entries"),
        (LIST + (varint(1) + b"\0\0") * 201 + varint(0) + TAIL, "201 entries"),
        (b"\x80" * 40, "10 bytes"),
        (b"\xff" * 10 + b"\x01", "10 bytes"),
        (text(b"\xff\xfe") + GOOD[4:], "UnicodeDecodeError"),
        (text(b"\xed\xa0\x80") + GOOD[4:], "UnicodeDecodeError"),
        (GOOD + b"x", "1 bytes follow"),
        (b"", "too early"),
    ],
)
def test_a_body_that_is_no_update_is_rejected_with_what_is_wrong(body: bytes, said: str) -> None:
    assert said in rejected(body)
    assert CODEC.arrow([FRAME.pack(0, CODEC.schema_id) + body]) is None


def test_blocks_of_every_form_are_read_by_columns_as_by_records() -> None:
    entry = varint(5) + varint(6)
    for blocks in (
        varint(2) + entry * 2,
        varint(1) + entry + varint(1) + entry,
        varint(-2) + varint(len(entry) * 2) + entry * 2,
        varint(-2) + varint(77) + entry * 2,  # a size that is wrong, and that no reader of this schema looks at
        varint(-(2**63)) + varint(0) + varint(2) + entry * 2,  # the one number that has no opposite
    ):
        message = FRAME.pack(0, CODEC.schema_id) + LIST + blocks + varint(0) + TAIL
        [one], columns = CODEC.decode([message]), CODEC.arrow([message])
        assert isinstance(one, dict)
        assert one["incoming"] == [{"expected_at": 5, "quantity": 6}] * 2
        assert columns is not None
        assert columns.select(list(one)).to_pylist() == [one]


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        ("string", varint(-5)),  # fastavro skipped what followed, the next messages with it
        ("string", varint(HUGE) + b"abc"),  # it took what breaks off for whole
        ("bytes", varint(9)),
        ("double", b"1234567"),
        ({"type": "fixed", "name": "F", "size": 8}, b"1234567"),
        ({"type": "array", "items": "long"}, varint(-1) + varint(0) + b"\0\0"),
        ({"type": "array", "items": "long"}, varint(-1) + varint(-40) + b"\0\0"),
        ({"type": "array", "items": "long"}, varint(-1) + varint(HUGE) + b"\0\0"),
        ({"type": "array", "items": "string"}, varint(-2) + varint(2) + text(b"a") + text(b"b") + b"\0"),
        ({"type": "map", "values": "null"}, varint(2**40) + b"\0"),
        (["null", "long"], varint(-1) + varint(5)),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, varint(-1)),
        ("boolean", b"\x02"),
    ],
)
def test_what_a_reader_skips_is_looked_at_as_well(kind: object, rest: bytes) -> None:
    rejected(GOOD + rest, changed(added=kind))


def recursive(kind: object) -> dict[str, Any]:
    return {"type": "record", "name": "Node", "fields": [{"name": "next", "type": kind}]}


def nested(depth: int) -> object:
    kind: object = "long"
    for _ in range(depth):
        kind = {"type": "array", "items": kind}
    return kind


def doubled(depth: int) -> object:
    """A value of no bytes that has two to the power of `depth` parts."""
    kind: dict[str, Any] = {"type": "record", "name": "D0", "fields": []}
    for i in range(1, depth):
        inner = [{"name": "a", "type": kind}, {"name": "b", "type": kind["name"]}]
        kind = {"type": "record", "name": f"D{i}", "fields": inner}
    return kind


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        # Both ended the process: the first in a moment by its stack, the second never.
        (recursive(["null", "Node"]), GOOD + b"\x02" * 1_000_000, "holds itself"),
        ({"type": "array", "items": "null"}, GOOD + varint(2**40) + b"\0", "no bytes"),
        ("stockweave.StockUpdate", GOOD * 100_000, "holds itself"),
        (recursive({"type": "array", "items": "Node"}), GOOD + b"\x02" * 1_000_000, "holds itself"),
        ({"type": "array", "items": {"type": "record", "name": "E", "fields": []}}, GOOD, "no bytes"),
        ({"type": "array", "items": {"type": "fixed", "name": "Z", "size": 0}}, GOOD, "no size"),
        ({"type": "array", "items": {"type": "array", "items": "null"}}, GOOD, "no bytes"),
        (doubled(30), GOOD, "parts"),
        (nested(DEPTH_MAX + 1), GOOD, "deep"),
        (nested(20_000), GOOD, "deep"),
        ({"type": "fixed", "name": "F", "size": 2**70}, GOOD, "no size"),
        ({"type": "fixed", "name": "F", "size": "3"}, GOOD, "no size"),
        ({"type": "enum", "name": "E"}, GOOD, "no symbols"),
        ({"type": "enum", "name": "E", "symbols": 5}, GOOD, "no symbols"),
        ({"type": "enum", "name": "E", "symbols": [[]]}, GOOD, "a symbol"),
        ({"type": "record", "name": "R"}, GOOD, "no fields"),
        ({"type": "record", "name": "R", "fields": [{"name": "x"}]}, GOOD, "no type"),
        ({"type": "record", "name": "R", "fields": ["x"]}, GOOD, "no fields"),
        ({"type": "record", "name": "stockweave.Kind", "fields": []}, GOOD, "two types"),
        ({"type": "record", "name": 5, "fields": []}, GOOD, "name of a type"),
        ({"type": "array"}, GOOD, "no type"),
        ([], GOOD, "no branch"),
        (["null", ["null"]], GOOD, "branch of a union"),
        (None, GOOD, "no type"),
        (5, GOOD, "no type"),
    ],
)
def test_a_schema_whose_bodies_have_no_bound_is_refused_as_one_that_is_none(
    kind: object, body: bytes, said: str
) -> None:
    one = decoded(body, changed(added=kind))
    assert isinstance(one, Rejected)
    assert one.reason == "unknown_schema_id"
    assert said in str(one)


@pytest.mark.parametrize("schema", [{"type": "record", "name": 5, "fields": []}, {"type": ["null"]}, {"type": None}])
def test_what_has_no_name_is_the_wrong_schema(schema: dict[str, Any]) -> None:
    one = decoded(GOOD, schema)
    assert isinstance(one, Rejected)
    assert one.reason == "wrong_schema"


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("observed_at", {"type": "long", "logicalType": "timestamp-millis"}),  # was a datetime, and stopped the fold
        ("received_at", {"type": "long", "logicalType": "timestamp-micros"}),
        ("sku", {"type": "string", "logicalType": "uuid"}),
        ("feed", {"type": "bytes"}),
        ("quantity", {"type": "int", "logicalType": "date"}),
        ("stale_after_ms", ["null", {"type": "long", "logicalType": "timestamp-millis"}]),
    ],
)
def test_a_writers_logical_types_change_nothing_for_a_reader_without_them(field: str, kind: object) -> None:
    for at in (0, 1, 2**31, HUGE, -HUGE):
        record = sample(**({field: at} if field.endswith(("_at", "_ms")) else {}))
        schema = changed(**{field: kind})
        assert decoded(body_of(record), schema) == record
        frame = FRAME.pack(0, FOREIGN_ID)
        spoilt = frame + text(b"\xff") + body_of(record)[4:]  # beside it, each is read by itself
        assert Codec("StockUpdate", Foreign(schema)).decode([frame + body_of(record), spoilt])[0] == record


def test_what_a_message_takes_is_bounded_by_its_length() -> None:
    length = 1_000_000
    bombs = [
        LIST + varint(length // 2) + b"\0\0" * (length // 2) + varint(0) + TAIL,
        LIST + (varint(1) + b"\0\0") * (length // 3) + varint(0) + TAIL,
        b"\x80" * length,
        varint(length) + b"x" * length + GOOD[4:],
        b"\x02" * length,
        GOOD + varint(length) + b"\0" * length + b"\0",
    ]
    for body in bombs:
        for schema in (None, changed(added={"type": "array", "items": "boolean"})):
            codec = CODEC if schema is None else Codec("StockUpdate", Foreign(schema))
            message = FRAME.pack(0, CODEC.schema_id if schema is None else FOREIGN_ID) + body
            tracemalloc.start()
            began_s = time.process_time()
            codec.decode([message])
            took_s, (_, peak_bytes) = time.process_time() - began_s, tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak_bytes < 6 * len(message), f"{peak_bytes} bytes for one of {len(message)}"
            assert took_s < 2
