from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import reservations, rows
from schemas.registry import versions
from tests.schemas.strategies import values

ROW = versions()["StockRow"][-1]
POSITION = versions()["Position"][-1]


def field(schema: dict[str, Any], name: str) -> Any:
    return next(f["type"] for f in schema["fields"] if f["name"] == name)


HOLD = versions()["Hold"][-1]
LINE = field(HOLD, "lines")["items"]
SOURCE = field(ROW, "sources")["values"]
SHAPES: dict[type[msgspec.Struct], dict[str, Any]] = {
    rows.StockRow: ROW,
    rows.PackedRow: ROW,
    rows.Source: SOURCE,
    rows.Count: field(SOURCE, "count")[1],
    rows.Delta: field(SOURCE, "deltas")["items"],
    rows.Receipt: field(SOURCE, "incoming")["items"],
    rows.Open: field(ROW, "reserved")["values"]["items"],
    rows.Position: POSITION,
    reservations.Hold: HOLD,
    reservations.Part: field(HOLD, "parts")["items"],
    reservations.Step: field(HOLD, "steps")["items"],
    reservations.Unchanged: field(HOLD, "unchanged")["items"],
    reservations.Line: LINE,
    reservations.Question: field(LINE, "asked")["items"],
}
NAMED = {"HoldPart": SHAPES[reservations.Part]}  # types that a schema uses again, by their name


@pytest.mark.parametrize("struct", SHAPES, ids=lambda struct: struct.__name__)
def test_a_structs_fields_are_its_schemas_in_names_order_and_defaults(struct: type[msgspec.Struct]) -> None:
    def default(found: msgspec.structs.FieldInfo) -> list[object]:
        if found.default is not msgspec.NODEFAULT:
            return [found.default]
        return [] if found.default_factory is msgspec.NODEFAULT else [found.default_factory()]

    of_struct = [(f.encode_name, default(f)) for f in msgspec.structs.fields(struct)]
    of_schema = [(f["name"], [f["default"]] if "default" in f else []) for f in SHAPES[struct]["fields"]]
    assert of_struct == of_schema
    assert struct.__struct_config__.array_like


def positional(schema: Any, value: Any) -> Any:
    """A value as its wire form: each record an array of its fields in order, a source within a byte string."""
    if isinstance(schema, list):
        return None if value is None else positional(next(b for b in schema if b != "null"), value)
    schema = NAMED.get(schema, schema) if isinstance(schema, str) else schema
    match schema if isinstance(schema, str) else schema["type"]:
        case "record":
            return [positional(f["type"], value[f["name"]]) for f in schema["fields"]]
        case "array":
            return [positional(schema["items"], item) for item in value]
        case "map":
            items = {key: positional(schema["values"], item) for key, item in value.items()}
            is_source = schema["values"] == SOURCE
            return {key: msgspec.msgpack.encode(item) for key, item in items.items()} if is_source else items
        case _:
            return value


@given(values(ROW))
def test_a_row_of_the_schema_is_read_and_written_as_it_is(row: dict[str, Any]) -> None:
    wire = msgspec.msgpack.encode(positional(ROW, row))
    assert rows.encode_row(rows.decode_row(wire)) == wire
    assert rows.encode(rows.decode_packed_row(wire)) == wire
    sources = rows.decode_row(wire).sources
    packed = rows.decode_packed_row(wire).sources
    assert {key: rows.decode_source(raw) for key, raw in packed.items()} == sources


@given(values(POSITION))
def test_a_position_of_the_schema_is_read_and_written_as_it_is(position: dict[str, Any]) -> None:
    wire = msgspec.msgpack.encode(positional(POSITION, position))
    assert rows.encode(rows.decode_position(wire)) == wire


@given(values(HOLD))
def test_a_hold_of_the_schema_is_read_and_written_as_it_is(hold: dict[str, Any]) -> None:
    wire = msgspec.msgpack.encode(positional(HOLD, hold))
    assert rows.encode(reservations.decode_hold(wire)) == wire


@given(st.lists(values(ROW).map(lambda row: msgspec.msgpack.encode(positional(ROW, row))), max_size=5))
def test_rows_that_are_decoded_together_are_as_each_alone(encoded: list[bytes]) -> None:
    assert rows.decode_packed_rows(encoded) == [rows.decode_packed_row(row) for row in encoded]


def test_bytes_from_before_a_field_was_appended_get_its_default() -> None:
    assert rows.decode_source(msgspec.msgpack.encode([None, []])) == rows.Source()
    assert rows.decode_position(msgspec.msgpack.encode([{}, {}])) == rows.Position({}, {}, 0, 0, "")
    assert rows.decode_row(msgspec.msgpack.encode(["a", 1, 0, 2, {}])) == rows.StockRow("a", 1, 0, 2, {}, {}, 0, [])


def test_bytes_from_after_a_field_was_appended_are_read_without_it() -> None:
    row = {
        "sku": "a",
        "version": 1,
        "on_hand": 0,
        "changed_at": 2,
        "sources": {},
        "reserved": {},
        "alert": 0,
        "oversold": [],
    }
    later = [*positional(ROW, row), "new"]
    assert rows.decode_row(msgspec.msgpack.encode(later)) == rows.StockRow("a", 1, 0, 2, {})


@given(st.integers(-9, 9), st.integers(-9, 9), st.lists(st.integers(-9, 9), max_size=3))
def test_on_hand_is_count_carried_and_deltas(count: int, carried: int, deltas: list[int]) -> None:
    entries = [rows.Delta(i, str(i), quantity) for i, quantity in enumerate(deltas)]
    assert rows.Source(None, entries, carried).on_hand == carried + sum(deltas)
    assert rows.Source(rows.Count(0, "u", 1, count), entries, carried).on_hand == count + carried + sum(deltas)


def test_a_positions_events_are_the_sum_of_its_outcomes() -> None:
    assert len(rows.OUTCOMES) == 4
    assert rows.Position({}, {"a": [1, 2, 3, 4], "": [0, 0, 0, 5]}).events() == 15
