"""Laws of JSON: rows wherever they are, each with the bytes that it was read from, however the body is cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.formats import json_rows
from connectors.formats.json_rows import DocumentConfig, read_document, read_lines
from connectors.formats.rows import Rows
from stockweave.errors import Rejected

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text('ab\u00e9\n"', max_size=5))


def blocks(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def cells(found: list[Rows], *paths: str) -> list[tuple[Any, ...]]:
    return [row for rows in found for row in zip(*(rows.columns[path].to_pylist() for path in paths), strict=True)]


def text(value: object) -> str:
    """Null is an empty one: it is there."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.fixed_dictionaries({"a": SCALARS}, optional={"b": SCALARS}), max_size=20), st.integers(1, 50))
def test_lines_are_rows_however_they_are_cut(rows: list[dict[str, Any]], size: int) -> None:
    lines = [orjson.dumps(row) for row in rows]
    found = list(read_lines(blocks(b"\n".join(lines), size), ["$.a", "$.b"]))
    assert cells(found, "$.a", "$.b") == [(text(row["a"]), text(row["b"]) if "b" in row else None) for row in rows]
    assert [part.original(place) for part in found for place in range(len(part.numbers))] == lines


@pytest.mark.parametrize("records", ["$.data.items[*]", "$['data']['items'][*]", "$..items[*]"])
def test_rows_of_a_document_are_where_it_says(records: str) -> None:
    body = b'{"data": {"items": [ {"sku": "a", "stock": {"n": 5.0}}, {"sku":7}]}, "next": null}'
    [found] = read_document([body[:9], body[9:]], DocumentConfig(records=records), ["$.sku", "$.stock.n"])
    assert cells([found], "$.sku", "$.stock.n") == [("a", "5.0"), ("7", None)]


def test_a_row_has_its_own_bytes_where_they_can_be_told() -> None:
    body = b'{"items": [ {"sku": "a",  "n": 1e2} , 5]}'
    [found] = read_document([body], DocumentConfig(records="$.items[*]"), ["$.sku"])
    assert found.original(0) == b'{"sku": "a",  "n": 1e2}'
    assert [(one.number, one.original) for one in found.broken] == [(1, b"5")]
    assert "not an object" in found.broken[0].detail


def test_rows_of_an_objects_values_are_rows_too() -> None:
    [found] = read_document([b'{"a": {"n": 1}, "b": {"n": 2}}'], DocumentConfig(records="$[*]"), ["$.n"])
    assert cells([found], "$.n") == [("1",), ("2",)]
    assert found.original(1) == b'{"n":2}'


def test_a_line_that_is_not_json_is_broken_and_the_others_are_rows() -> None:
    [found] = read_lines([b'\xef\xbb\xbf{"a":1}\n\n{"a":\n[1]\n{"a":2}'], ["$.a"])
    assert cells([found], "$.a") == [("1",), ("2",)]
    assert [(one.number, one.original) for one in found.broken] == [(1, b'{"a":'), (2, b"[1]")]
    assert found.original(1) == b'{"a":2}'


def test_what_is_not_json_or_has_no_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Rejected, match="the document is not JSON"):
        list(read_document([b"<html>"], DocumentConfig(), ["$.a"]))
    monkeypatch.setattr(json_rows, "DOCUMENT_BYTES_MAX", 100)
    monkeypatch.setattr(json_rows, "LINE_BYTES_MAX", 100)
    with pytest.raises(Rejected, match="larger than 100 bytes; ask for pages"):
        list(read_document([b" " * 60, b" " * 60], DocumentConfig(), ["$.a"]))
    with pytest.raises(Rejected, match="longer than 100 bytes; end each row"):
        list(read_lines([b" " * 60, b" " * 60], ["$.a"]))


@pytest.mark.parametrize(
    ("records", "body", "said"),
    [
        ("$.items[*]", b'{"error": "closed", "code": 3}', "no 'items' in $, but 'error', 'code'; mend records"),
        ("$.data.items[*]", b'{"data": {}}', "no 'items' in $.data, but nothing; mend records"),
        ("$.items[*]", b"[]", "no 'items' in $, but a list or a value; mend records"),
        ("$.items[*]", b'{"items": "none"}', "what is at $.items is no list; mend records"),
        ("$[*]", b"5", "what is at $ is no list; mend records"),
    ],
)
def test_a_document_without_the_place_of_its_rows_is_refused(records: str, body: bytes, said: str) -> None:
    with pytest.raises(Rejected, match=re.escape(said)):
        list(read_document([body], DocumentConfig(records=records), ["$.sku"]))


@pytest.mark.parametrize(
    ("records", "body"),
    [
        ("$.items[*]", b'{"items": []}'),
        ("$.items[*]", b'{"items": null}'),
        ("$.data.items[*]", b'{"data": null}'),
        ("$[*]", b"[]"),
        ("$..items[*]", b"{}"),
    ],
)
def test_a_document_that_offers_nothing_has_no_rows(records: str, body: bytes) -> None:
    assert list(read_document([body], DocumentConfig(records=records), ["$.sku"])) == []


def test_a_path_that_is_none_is_refused_when_the_configuration_is_read() -> None:
    with pytest.raises(ValidationError, match="is no JSONPath"):
        DocumentConfig(records="$.items[")


@pytest.mark.parametrize("path", ["$..n", "$[*]", "stock["])
def test_a_field_has_one_place(path: str) -> None:
    with pytest.raises(Rejected, match="send one"):
        list(read_lines([b'{"n":1}'], [path]))
