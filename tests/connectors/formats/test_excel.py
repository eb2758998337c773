"""Laws of workbooks: the cells of a row are those that were written, and a workbook that is none says so."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import pytest
from openpyxl import Workbook

from connectors.formats import excel
from connectors.formats.excel import ExcelConfig, read
from stockweave.errors import Rejected


def book(*rows: list[Any], sheet: str = "stock") -> bytes:
    workbook = Workbook()
    active = workbook.active
    assert active is not None
    active.title = sheet
    for row in rows:
        active.append(row)
    out = io.BytesIO()
    workbook.save(out)
    return out.getvalue()


def test_cells_are_those_that_were_written() -> None:
    at = datetime(2026, 9, 21, 14, 13, 20)
    data = book(
        ["of today"], ["sku", "qty", "at"], ["a", 5, at], [None, None, None], ["b", 2.5, None], [7, True, " x "]
    )
    [found] = read([data[:100], data[100:]], ExcelConfig(sheet="stock", header_row=2), ["sku", "qty", "at"])
    assert [found.columns[path].to_pylist() for path in ("sku", "qty", "at")] == [
        ["a", "b", "7"],
        ["5", "2.5", "true"],
        ["2026-09-21T14:13:20", "", "x"],
    ]
    assert found.original(1) == b'["b","2.5",null]'


@pytest.mark.parametrize(
    ("fields", "data", "said"),
    [
        ({"sheet": "other"}, book(["sku"]), "sheet 'other' is not among 'stock'"),
        ({}, book(["qty"]), "column 'sku' is not among 'qty'"),
        ({"header_row": 9}, book(["sku"]), "the sheet has 1 rows; mend header_row"),
        ({}, b"<html>", "it is no workbook"),
    ],
)
def test_what_cannot_be_read_says_why(fields: dict[str, Any], data: bytes, said: str) -> None:
    with pytest.raises(Rejected, match=said):
        list(read([data], ExcelConfig(**fields), ["sku"]))


def test_a_workbook_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excel, "BOOK_BYTES_MAX", 100)
    with pytest.raises(Rejected, match="ask for CSV"):
        list(read([b" " * 60, b" " * 60], ExcelConfig(), ["sku"]))
