"""Laws of XML: rows wherever their elements are, however the document is cut, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.formats import xml_rows
from connectors.formats.rows import Rows
from connectors.formats.xml_rows import XmlConfig, read
from stockweave.errors import Rejected

TEXTS = st.text("ab <&>\"'\u00e9", max_size=6)


def blocks(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def cells(found: list[Rows], *paths: str) -> list[tuple[Any, ...]]:
    return [row for rows in found for row in zip(*(rows.columns[path].to_pylist() for path in paths), strict=True)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12), st.integers(1, 40), st.integers(1, 5))
def test_cells_are_those_that_were_written_however_the_document_is_cut(
    rows: list[tuple[str, str]], size: int, at_once: int
) -> None:
    items = "".join(f"<item sku={quoteattr(sku)}><q>{escape(text)}</q></item>" for sku, text in rows)
    data = f"<feed><made>today</made><group><items>{items}</items></group></feed>".encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xml_rows, "ROWS_AT_ONCE", at_once)
        found = list(read(blocks(data, size), XmlConfig(row="item"), ["@sku", "q", "/feed/made", "w"]))
    assert cells(found, "@sku", "q", "/feed/made", "w") == [(sku, text, "today", None) for sku, text in rows]
    assert [n for part in found for n in part.numbers.to_pylist()] == list(range(len(rows)))


def test_a_row_has_its_own_bytes() -> None:
    [found] = read([b'<a>\n <i n="1"><q>5</q></i>\n <i n="2"/>\n</a>'], XmlConfig(row="i"), ["@n"])
    assert [found.original(place) for place in range(2)] == [b'<i n="1"><q>5</q></i>', b'<i n="2"/>']


def test_names_of_a_namespace_are_told_by_it() -> None:
    config = XmlConfig(row="{urn:stock}item", namespaces={"s": "urn:stock"})
    [found] = read(
        [b'<f xmlns="urn:stock"><item><q>5</q></item></f>'], config, ["s:q", "sum(s:q) * 2", "count(s:w) = 0"]
    )
    assert cells([found], *found.columns) == [("5", "10", "true")]


@pytest.mark.parametrize(
    ("data", "path", "said"),
    [
        (b"<a><i></a>", "q", "not XML"),
        (b"<a><i/>", "q", "breaks off"),
        (b"<a><i><q/><q/></i></a>", "q", "finds 2 places in a row; name one"),
        (b"<a><i/></a>", "q[", "is no XPath here"),
        (b"<a><i/></a>", "s:q", "is no XPath here"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, path: str, said: str) -> None:
    with pytest.raises(Rejected, match=said):
        list(read([data], XmlConfig(row="i"), [path]))


def test_entities_of_a_document_are_not_expanded_and_files_not_read() -> None:
    own = b'<!DOCTYPE a [<!ENTITY x "boo"><!ENTITY f SYSTEM "file:///etc/hostname">]>'
    rows = b"<i><q>1</q></i><i><q>&x;&f;</q></i><i><q>R&amp;D</q><more>&x;</more></i>"
    [found] = read([own + b"<a>" + rows + b"</a>"], XmlConfig(row="i"), ["q"])
    [broken] = found.broken
    assert (broken.number, broken.original) == (1, b"<i><q>&x;&f;</q></i>")
    assert "&x; is an entity" in broken.detail
    assert (found.numbers.to_pylist(), found.original(1)) == ([0, 2], b"<i><q>R&amp;D</q><more>&x;</more></i>")


def test_rows_that_were_given_are_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_rows, "ROWS_AT_ONCE", 10)
    groups = (b"<g><i><q>" + b"x" * 100 + b"</q></i></g>" for _ in range(5_000))
    kept = [rows.original(0) for rows in read(iter([b"<a>", *groups, b"</a>"]), XmlConfig(row="i"), ["count(//q)"])]
    [*_, last] = read(
        iter([b"<a>", *(b"<g><i><q/></i></g>" for _ in range(95)), b"</a>"]), XmlConfig(row="i"), ["count(//q)"]
    )
    assert len(kept) == 500
    assert {int(float(text)) for text in last.columns["count(//q)"].to_pylist()} == {5}


def test_a_row_tells_the_names_of_its_own_fields_mapped_or_not() -> None:
    body = b'<r><p id="1"><qty>5</qty><more><deep/></more></p><p id="2"><qty/></p></r>'
    [rows] = read([body], XmlConfig(row="p"), ["qty"])
    assert rows.names == (2, {"qty": 2, "@id": 2, "more": 1})
