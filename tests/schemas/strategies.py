"""Hypothesis strategies over Avro: values of a schema, schemas, and changed versions of a schema.

Used by the tests of the codec and of the compatibility rules.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

from hypothesis import strategies as st

Json = Any

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
_FIELD_NAMES = ("a", "b", "c", "d")
_SYMBOLS = ("X", "Y", "Z")
_PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "bytes": st.text(max_size=8).map(str.encode),  # UTF-8, or the promotion to string could not hold
    "string": st.text(max_size=12),
}


def values(schema: Json, names: dict[str, Json] | None = None) -> st.SearchStrategy[Any]:
    """Values that fit a schema, in the form that fastavro takes and gives."""
    names = {} if names is None else names
    if isinstance(schema, list):
        return st.one_of([values(branch, names) for branch in schema])
    if isinstance(schema, str):
        return _PLAIN[schema] if schema in _PLAIN else values(names[schema], names)
    if "name" in schema:
        names[schema["name"]] = schema
    match schema["type"]:
        case "record":
            return st.fixed_dictionaries({f["name"]: values(f["type"], names) for f in schema["fields"]})
        case "enum":
            return st.sampled_from(schema["symbols"])
        case "fixed":
            return st.binary(min_size=schema["size"], max_size=schema["size"])
        case "array":
            return st.lists(values(schema["items"], names), max_size=3)
        case "map":
            return st.dictionaries(st.text(max_size=4), values(schema["values"], names), max_size=3)
        case inner:
            return values(inner, names)


def _enum(symbols: list[str]) -> Json:
    return {"type": "enum", "name": "?", "symbols": symbols}


def _record(fields: list[tuple[str, Json]]) -> Json:
    return {"type": "record", "name": "?", "fields": [{"name": name, "type": kind} for name, kind in fields]}


_leaves: st.SearchStrategy[Json] = st.one_of(
    st.sampled_from(PRIMITIVES),
    st.lists(st.sampled_from(_SYMBOLS), min_size=1, unique=True).map(_enum),
    st.integers(1, 3).map(lambda size: {"type": "fixed", "name": "?", "size": size}),
)


def _fields(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[list[tuple[str, Json]]]:
    return st.lists(st.tuples(st.sampled_from(_FIELD_NAMES), inner), min_size=1, unique_by=lambda f: f[0])


_any: st.SearchStrategy[Json] = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        inner.map(lambda items: {"type": "array", "items": items}),
        inner.map(lambda items: {"type": "map", "values": items}),
        inner.map(lambda s: s if s == "null" or isinstance(s, list) else ["null", s]),
        _fields(inner).map(_record),
    ),
    max_leaves=6,
)


@st.composite
def schemas(draw: st.DrawFn) -> Json:
    """A record schema whose named types have names of their own."""
    schema = _record(draw(_fields(_any)))
    for part, number in zip(_named(schema), itertools.count()):
        part["name"] = f"N{number}"
    return schema


def _named(schema: Json) -> list[dict[str, Any]]:
    """Every named type, outermost first."""
    if isinstance(schema, list):
        return [found for branch in schema for found in _named(branch)]
    if not isinstance(schema, dict):
        return []
    own = [schema] if "name" in schema else []
    inner = [f["type"] for f in schema.get("fields", ())] + [schema[k] for k in ("items", "values") if k in schema]
    return own + [found for part in inner for found in _named(part)]


@st.composite
def changed(draw: st.DrawFn, schema: Json) -> Json:
    """A later version of a schema: some of its parts changed, compatibly or not."""
    schema = copy.deepcopy(schema)
    for part in _named(schema):
        if part["type"] == "record":
            _change_record(draw, part)
        elif part["type"] == "enum" and draw(st.booleans()):
            part["symbols"] = draw(st.lists(st.sampled_from(_SYMBOLS), min_size=1, unique=True))
            if draw(st.booleans()):
                part["default"] = part["symbols"][0]
        elif part["type"] == "fixed" and draw(st.integers(0, 3)) == 0:
            part["size"] += 1
        if draw(st.integers(0, 9)) == 0:
            part["name"] += "Renamed"
    return schema


def _change_record(draw: st.DrawFn, record: dict[str, Any]) -> None:
    fields = record["fields"]
    match draw(st.sampled_from(("keep", "keep", "drop", "add", "add_default", "alias", "retype", "union", "order"))):
        case "drop":
            fields.pop(draw(st.integers(0, len(fields) - 1)))
        case "add":
            fields.insert(0, {"name": "added", "type": "long"})
        case "add_default":
            default = draw(st.sampled_from([("long", 7), ("string", "new"), (["null", "long"], None)]))
            fields.insert(0, {"name": "added", "type": default[0], "default": default[1]})
        case "alias":
            field = draw(st.sampled_from(fields))
            field |= {"name": field["name"] + "_new", "aliases": [field["name"]]}
        case "retype":
            draw(st.sampled_from(fields))["type"] = draw(st.sampled_from(PRIMITIVES))
        case "union":
            field = draw(st.sampled_from(fields))
            if not isinstance(field["type"], list) and field["type"] != "null":
                field["type"] = draw(st.permutations(["null", field["type"]]))
        case "order":
            record["fields"] = draw(st.permutations(fields))
