"""Laws of CSV: however it is cut into blocks, each record is a row with the cells that were written, or is broken."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.formats import delimited
from connectors.formats.delimited import DelimitedConfig, read
from connectors.formats.rows import Rows
from stockweave.errors import Rejected

CELLS = st.one_of(st.text("ab ,;\"'\n\u00e9", max_size=6), st.just("plain"))
TABLES = st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=30)


def blocks(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def written(rows: list[tuple[str, ...]], delimiter: str = ",", end: str = "\n") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    return out.getvalue()


def cells(found: list[Rows], *paths: str) -> list[tuple[Any, ...]]:
    return [row for rows in found for row in zip(*(rows.columns[path].to_pylist() for path in paths), strict=True)]


def config(**fields: Any) -> DelimitedConfig:
    return DelimitedConfig.model_validate(fields)


@settings(max_examples=200, deadline=None)
@given(TABLES, st.integers(1, 40), st.integers(1, 60), st.sampled_from(["\n", "\r\n", "\r"]))
def test_cells_are_those_that_were_written_however_the_file_is_cut(
    rows: list[tuple[str, ...]], size: int, block_bytes: int, end: str
) -> None:
    data = written([("a", "b", "c"), *rows], end=end).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK_BYTES", block_bytes)
        found = list(read(blocks(data, size), config(), ["c", "a"]))
    assert cells(found, "c", "a") == [(row[2], row[0]) for row in rows]
    assert [n for part in found for n in part.numbers.to_pylist()] == list(range(len(rows)))
    originals = [part.original(place).decode() for part in found for place in range(len(part.numbers))]
    assert [tuple(next(csv.reader(io.StringIO(each)))) for each in originals] == rows


def test_a_record_with_other_columns_is_broken_and_the_others_are_rows() -> None:
    data = b'sku,n\na,1\n\nb\n"c\nd",2\ne,3,4\nf,5\n'
    [found] = read([data], config(), ["sku", "n"])
    assert cells([found], "sku", "n") == [("a", "1"), ("c\nd", "2"), ("f", "5")]
    assert [(one.number, one.original) for one in found.broken] == [(1, b"b"), (3, b"e,3,4")]
    assert found.numbers.to_pylist() == [0, 2, 4]
    assert [found.original(place) for place in range(3)] == [b"a,1", b'"c\nd",2', b"f,5"]
    assert "it has 3 columns, and 2 are named" in found.broken[1].detail


@pytest.mark.parametrize(
    ("fields", "data", "paths", "expected"),
    [
        ({"delimiter": ";", "encoding": "cp1252"}, "a;b\n\u20ac;1\n".encode("cp1252"), ["a", "b"], [("\u20ac", "1")]),
        ({"delimiter": "\t"}, b"a\tb\nx\t1\n", ["b"], [("1",)]),
        ({}, b"\xef\xbb\xbfa,b\nx,1", ["a"], [("x",)]),
        ({"header": False}, b"x,1\ny,2\n", ["column2", "column1"], [("1", "x"), ("2", "y")]),
        ({"header": False, "columns": ["s", "q"]}, b"x,1\n", ["q", "s"], [("1", "x")]),
        ({"encoding": "utf-16"}, "a,b\nx,1\n".encode("utf-16"), ["a"], [("x",)]),
        ({"quote": ""}, b'a,b\nx",1\n', ["a"], [('x"',)]),
        ({}, b"a,b\n", ["a"], []),
        ({"header": False, "columns": ["a"]}, b"", ["a"], []),
    ],
)
def test_a_file_is_read_as_it_says_that_it_is_written(
    fields: dict[str, Any], data: bytes, paths: list[str], expected: list[tuple[str, ...]]
) -> None:
    assert cells(list(read([data], config(**fields), paths)), *paths) == expected


def test_what_is_quoted_from_another_encoding_is_told_in_that_encoding() -> None:
    data = "a,b\n\u20ac,1\n".encode("cp1252")
    [found] = read([data], config(encoding="cp1252"), ["a"])
    assert found.original(0) == "\u20ac,1".encode("cp1252")


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(Rejected, match=r"column 'stock' is not among 'sku', 'qty'; mend the mapping"):
        list(read([b"sku,qty\na,1\n"], config(), ["sku", "stock"]))
    with pytest.raises(Rejected, match="column 'a' is more than once among"):
        list(read([b"a,a\n1,2\n"], config(), ["a"]))


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_row_with_bytes_of_another_encoding_is_broken_and_the_others_are_rows(size: int) -> None:
    data = b'a,b\nx,1\ncaf\xe9,2\n\xc3\xa9,3\n"p\nq",4\n\xff\xfe,\xf0\n'
    found = list(read(blocks(data, size), config(), ["a", "b"]))
    assert cells(found, "a", "b") == [("x", "1"), ("\u00e9", "3"), ("p\nq", "4")]
    assert [n for part in found for n in part.numbers.to_pylist()] == [0, 2, 3]
    broken = [one for part in found for one in part.broken]
    assert [(one.number, one.original) for one in broken] == [(1, b"caf\xe9,2"), (4, b"\xff\xfe,\xf0")]
    assert broken[0].detail == "byte 0xe9 after 'caf' is not utf-8; mend it, or encoding"
    originals = [part.original(place) for part in found for place in range(len(part.numbers))]
    assert originals == [b"x,1", b"\xc3\xa9,3", b'"p\nq",4']


def test_bytes_that_would_be_text_in_another_encoding_are_not_taken_for_it() -> None:
    [found] = read([b"a\nx\n\xc3\xa9\n"], config(encoding="ascii"), ["a"])
    assert (cells([found], "a"), [one.original for one in found.broken]) == ([("x",)], [b"\xc3\xa9"])
    [found] = read(["a\n\u20ac\n".encode("cp1252") + b"\x81\n"], config(encoding="cp1252"), ["a"])
    assert (cells([found], "a"), [one.original for one in found.broken]) == ([("\u20ac",)], [b"\x81"])


def test_a_header_of_another_encoding_is_refused() -> None:
    with pytest.raises(Rejected, match="of the header, byte 0xe9 after 'a,pi' is not utf-8; mend it, or encoding"):
        list(read([b"a,pi\xe9\nx,1\n"], config(), ["a"]))


def test_half_a_character_at_the_end_of_a_file_is_refused() -> None:
    with pytest.raises(Rejected, match="is not utf-16"):
        list(read(["a\nb\n".encode("utf-16") + b"\x41"], config(encoding="utf-16"), ["a"]))


def test_a_file_without_even_its_header_is_refused() -> None:
    for blocks in ([], [b""], [b"\xef\xbb\xbf"]):
        with pytest.raises(Rejected, match="not even the header is there"):
            list(read(blocks, config(), ["a"]))


def test_a_quote_that_is_never_closed_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 100)
    monkeypatch.setattr(delimited, "RECORD_BYTES_MAX", 1_000)
    with pytest.raises(Rejected, match="longer than 1000 bytes; a quote may be missing"):
        list(read((b'x,"y\n' if n == 0 else b"x,1\n" for n in range(10_000)), config(header=False), ["column1"]))


def test_an_encoding_that_nobody_knows_is_refused_when_the_configuration_is_read() -> None:
    with pytest.raises(ValidationError, match="is no encoding"):
        config(encoding="latin-one")
