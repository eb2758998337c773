"""Laws of X12's 846: what each path of a mapping finds, from the quantity outwards."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.formats.edi import x12
from connectors.formats.edi.x12 import X12Config
from connectors.formats.reader import check_path
from stockweave.errors import Rejected
from tests.connectors.formats.edi.samples import found
from tests.connectors.formats.edi.samples import x12 as document

ITEM = (
    "DTM*007*20261120~N1*WH*EAST*92*PDX1~N1*SU*NORTHWIND~LIN*1*VN*A-1*UP*012345678905~REF*IA**BY NAME~REF*LT*L7~"
    "DTM*018*20261130~QTY*33*12*EA>X~DTM*018*20261201*0642~QTY*29*40~DTM*036****D8*20270101~N1*WH*WEST*92*LAX2~"
    "LIN*2*VN*A-2~QTY*33*0~"
)


def one(path: str, item: str = ITEM) -> list[Any]:
    rows, broken = found(document(item), X12Config(), path)
    assert broken == []
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("path", "cells"),
    [
        ("LIN.VN", ["A-1", "A-1", "A-2"]),
        ("LIN.UP", ["012345678905", "012345678905", None]),
        ("LIN03", ["A-1", "A-1", "A-2"]),
        ("QTY", ["12", "40", "0"]),
        ("QTY.qualifier", ["33", "29", "33"]),
        ("QTY.unit", ["EA", None, None]),
        ("QTY03", ["EA>X", None, None]),
        ("QTY03-2", ["X", None, None]),
        ("DTM.018", ["2026-12-01T06:42:00", "2026-11-30", None]),
        ("DTM.036", [None, "2027-01-01", None]),
        ("DTM.007", ["2026-11-20"] * 3),
        ("REF.LT", ["L7", "L7", None]),
        ("REF.IA", ["BY NAME", "BY NAME", None]),
        ("N1.WH", ["LAX2", "LAX2", "PDX1"]),
        ("N1.SU", ["NORTHWIND"] * 3),
        ("BIA.date", ["2026-11-20"] * 3),
        ("GS.date", ["2026-11-20T06:42:00"] * 3),
        ("ISA.date", ["2026-11-20T06:42:00"] * 3),
        ("ISA13", ["000000017"] * 3),
        ("ST02", ["0001"] * 3),
        ("QTY.29", ["40", "40", None]),
        ("QTY.29/DTM.036", ["2027-01-01", "2027-01-01", None]),
        ("QTY.33/DTM.018", ["2026-12-01T06:42:00", "2026-12-01T06:42:00", None]),
        ("SDQ01", [None] * 3),
    ],
)
def test_a_path_finds_what_is_nearest_to_the_quantity(path: str, cells: list[str | None]) -> None:
    assert one(path) == cells


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ("20261120*0642", "2026-11-20T06:42:00"),
        ("20261120*064233", "2026-11-20T06:42:33"),
        ("20261120*06423375", "2026-11-20T06:42:33.75"),
        ("20261120*0642*UT", "2026-11-20T06:42:00+00:00"),
        ("20261120*0642*01", "2026-11-20T06:42:00+01:00"),
        ("20261120*0642*13", "2026-11-20T06:42:00-12:00"),
        ("20261120*0642*24", "2026-11-20T06:42:00-01:00"),
        ("20261120*0642*ES", "2026-11-20T06:42:00-05:00"),
        ("20261120*0642*ET", "2026-11-20T06:42:00-05:00"),
        ("20260720*0642*ET", "2026-07-20T06:42:00-04:00"),
        ("20260720*0642*PT", "2026-07-20T06:42:00-07:00"),
        ("20261120*0642*LT", "2026-11-20T06:42:00"),
        ("261120", "2026-11-20"),
        ("***DT*202611200642", "2026-11-20T06:42:00"),
        # what cannot be a time is left to the mapping, which says so
        ("20261120*0642*QQ", "2026-11-20T06:42:00QQ"),
        ("20261345*9999*ET", "2026-13-45T99:99:00"),
        ("20261120*6", "2026-11-20T6"),
        ("SOON", "SOON"),
        ("***RD8*20261101-20261130", "20261101-20261130"),
    ],
)
def test_a_date_is_a_time_of_rfc_3339_with_the_offset_of_its_code(told: str, read: str) -> None:
    assert one("DTM.007", f"LIN**VN*A~QTY*33*1~DTM*007*{told}~") == [read]


def test_only_the_quantities_that_count_are_rows_and_an_item_without_any_is_one_without_a_quantity() -> None:
    rows, broken = found(document(ITEM), X12Config(quantities=["29"]), "LIN.VN", "QTY", "QTY.29", "QTY.33")
    assert (rows, broken) == ([("A-1", "40", "40", "12"), ("A-2", None, None, "0")], [])
    rows, broken = found(document("LIN**VN*A~REF*LT*1~"), X12Config(), "LIN.VN", "QTY", "REF.LT")
    assert (rows, broken) == ([("A", None, "1")], [])


@pytest.mark.parametrize(
    "path", ["lin", "LIN.", "QTY.", "QTY.unit.x", "LIN", "LIN00", "REF.TOOLONG", "$.sku", "QTY.29/nothing", "BIA.time"]
)
def test_a_path_that_leads_nowhere_is_told_when_the_configuration_is_read(path: str) -> None:
    with pytest.raises(Rejected, match=r"is no path here; send one such as LIN\.VN"):
        check_path(X12Config(), path)


@pytest.mark.parametrize("head", ["ISA*00*", "ISA", "ISA*" * 5, "ISA" * 60, "ISAA00A" + "0A" * 20, "ISA" + "*" * 40])
def test_a_header_whose_marks_cannot_be_is_told(head: str) -> None:
    with pytest.raises(Rejected, match=r"as marks|and not with"):
        found(head.encode(), X12Config(), "QTY")


def test_a_header_that_is_not_padded_is_read_as_well() -> None:
    data = document("LIN**VN*A~QTY*33*1~").replace(b" ", b"")
    assert found(data, X12Config(), "QTY") == ([("1",)], [])


def test_bytes_of_another_encoding_break_their_item_alone() -> None:
    data = document("LIN**VN*A~PID*F****Gr\u00f6\u00dfe~QTY*33*1~LIN**VN*B~QTY*33*2~").decode().encode("latin-1")
    rows, [broken] = found(data, X12Config(), "LIN.VN", "QTY")
    assert rows == [("B", "2")]
    assert broken[:2] == (0, "LIN**VN*A~PID*F****Gr\u00f6\u00dfe~QTY*33*1~".encode("latin-1"))
    assert "a byte of PID is not utf-8" in broken.detail
    rows, none = found(data, X12Config(encoding="latin-1"), "LIN.VN", "PID05")
    assert (rows, none) == ([("A", "Gr\u00f6\u00dfe"), ("B", None)], [])


def test_bytes_of_another_encoding_in_a_header_break_its_message_alone() -> None:
    data = document("N1*SU*Gr\u00f6\u00dfe~LIN**VN*A~QTY*33*1~", "LIN**VN*B~QTY*33*2~").decode().encode("latin-1")
    rows, [broken] = found(data, X12Config(), "LIN.VN")
    assert (rows, broken.number, broken.original[:6]) == ([("B",)], 0, b"ST*846")
    assert "a byte of N1 is not utf-8" in broken.detail


@pytest.mark.parametrize("name", ["utf-16", "cp037", "nothing"])
def test_an_encoding_in_which_marks_cannot_be_found_is_told(name: str) -> None:
    with pytest.raises(ValueError, match="no encoding that has ASCII in it"):
        X12Config(encoding=name)


def test_the_words_of_time_codes_are_whole() -> None:
    assert {f"{n:02}" for n in range(1, 25)} <= x12._HOURS.keys()
