from __future__ import annotations

import io
from itertools import combinations
from typing import Any

import fastavro
import pytest
from fastavro.read import SchemaResolutionError
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from schemas.compatibility import incompatibilities
from schemas.registry import versions
from tests.schemas.strategies import PRIMITIVES, changed, schemas, values

LONG: dict[str, Any] = {"name": "n", "type": "long"}
SAMPLES = dict(zip(PRIMITIVES, (None, True, 7, 7, 0.5, 0.5, b"x", "x"), strict=True))
TEXT: dict[str, Any] = {"name": "n", "type": "string"}


def record(*fields: dict[str, Any], name: str = "R") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


@pytest.mark.parametrize("name", versions())
def test_every_released_version_reads_what_each_earlier_one_wrote(name: str) -> None:
    released = versions()[name]
    for writer, reader in combinations(released, 2):
        assert incompatibilities(reader, writer) == []
    assert incompatibilities(released[-1], released[-1]) == []


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_what_is_said_to_be_compatible_can_be_read(data: st.DataObject) -> None:
    writer = data.draw(schemas())
    reader = data.draw(changed(writer))
    assume(not incompatibilities(reader, writer))
    written = io.BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(writer), data.draw(values(writer)))
    written.seek(0)
    fastavro.schemaless_reader(written, fastavro.parse_schema(writer), fastavro.parse_schema(reader))
    assert written.read() == b""


@pytest.mark.parametrize("reader", PRIMITIVES)
@pytest.mark.parametrize("writer", PRIMITIVES)
def test_one_plain_type_is_read_as_another_exactly_when_that_is_said(reader: str, writer: str) -> None:
    written = io.BytesIO()
    fastavro.schemaless_writer(written, writer, SAMPLES[writer])
    written.seek(0)
    try:
        fastavro.schemaless_reader(written, writer, reader)
    except SchemaResolutionError:
        assert incompatibilities(reader, writer)
    else:
        assert incompatibilities(reader, writer) == []


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        (record(LONG, {"name": "m", "type": "string", "default": ""}), record(LONG)),
        (record(), record(LONG)),
        (record({"name": "n", "type": "double"}), record(LONG)),
        (record({"name": "n", "type": ["null", "long"]}), record(LONG)),
        (record({"name": "m", "type": "long", "aliases": ["n"]}), record(LONG)),
    ],
    ids=["field added with a default", "field removed", "long widened", "made optional", "renamed with an alias"],
)
def test_a_compatible_change_is_accepted(reader: dict[str, Any], writer: dict[str, Any]) -> None:
    assert incompatibilities(reader, writer) == []


@pytest.mark.parametrize(
    ("reader", "writer", "said"),
    [
        (record(LONG, {"name": "m", "type": "string"}), record(LONG), "m: new, without a default"),
        (record({"name": "n", "type": "string"}), record(LONG), "n: was long, is string"),
        (record({"name": "n", "type": "int"}), record(LONG), "n: was long, is int"),
        (record(LONG), record({"name": "n", "type": ["null", "long"]}), "n: was null, is long"),
        (record({"name": "n", "type": ["null", "string"]}), record(LONG), "n: long is in no branch"),
        (record(LONG, name="S"), record(LONG), "schema: renamed from R"),
        (
            record({"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["X"]}}),
            record({"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["X", "Y"]}}),
            "e: symbols ['Y'] are gone",
        ),
        (
            record({"name": "l", "type": {"type": "array", "items": record(TEXT, name="I")}}),
            record({"name": "l", "type": {"type": "array", "items": record(LONG, name="I")}}),
            "l[].n: was long, is string",
        ),
    ],
)
def test_an_incompatible_change_is_named_with_its_field(
    reader: dict[str, Any], writer: dict[str, Any], said: str
) -> None:
    assert any(said in problem for problem in incompatibilities(reader, writer))


def test_a_type_is_the_same_however_many_times_it_is_said_to_be_one() -> None:
    array = {"type": "array", "items": "long"}
    assert incompatibilities(record({"name": "n", "type": {"type": array}}), record({"name": "n", "type": array})) == []
    assert incompatibilities(record({"name": "n", "type": {"type": LONG}}), record(TEXT)) == ["n: was string, is long"]


@pytest.mark.parametrize("stray", [{"fields": 5}, {"fields": [["a"]]}, {"items": 5}, {"values": {}}])
def test_what_belongs_to_another_kind_of_type_is_not_looked_at(stray: dict[str, Any]) -> None:
    kind: dict[str, Any] = {"type": "long", **stray}
    assert incompatibilities(record({"name": "n", "type": kind}), record(LONG)) == []
