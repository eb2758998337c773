"""Laws of EDIFACT's INVRPT: what each path of a mapping finds, from the quantity outwards."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.formats.edi.edifact import EdifactConfig
from connectors.formats.reader import check_path
from stockweave.errors import Rejected
from tests.connectors.formats.edi.samples import edifact as document
from tests.connectors.formats.edi.samples import found

ITEM = (
    "DTM+137:20261120:102'RFF+CT:K1'NAD+WH+401::9'NAD+BY+++Shop'LIN+1++4012345000108:EN'PIA+1+A?+1:SA+88:IN'"
    "LOC+18+BER'DTM+366:20261119:102'QTY+145:12:PCE'INV+2++11'LOC+18+A-07'NAD+WH+402::9'QTY+21:40'"
    "DTM+11:202612040642:203'LIN+2++4012345000115:SRV'QTY+145:0'"
)
INV_FIRST = "LIN+1++A:EN'DTM+366:20261119:102'INV+2++11'QTY+145:1'LOC+18+X'INV+2++12'QTY+145:2'QTY+198:3'"


def one(path: str, item: str = ITEM, head: str = "") -> list[Any]:
    rows, broken = found(head.encode() + document(item), EdifactConfig(), path)
    assert broken == []
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("path", "cells"),
    [
        ("LIN", ["4012345000108", "4012345000108", "4012345000115"]),
        ("LIN.EN", ["4012345000108", "4012345000108", None]),
        ("LIN.SRV", [None, None, "4012345000115"]),
        ("LIN01", ["1", "1", "2"]),
        ("LIN03-2", ["EN", "EN", "SRV"]),
        ("PIA.SA", ["A+1", "A+1", None]),
        ("PIA.IN", ["88", "88", None]),
        ("QTY", ["12", "40", "0"]),
        ("QTY.qualifier", ["145", "21", "145"]),
        ("QTY.unit", ["PCE", None, None]),
        ("QTY01", ["145", "21", "145"]),
        ("DTM.137", ["2026-11-20"] * 3),
        ("DTM.366", ["2026-11-19", "2026-11-19", None]),
        ("DTM.11", [None, "2026-12-04T06:42:00", None]),
        ("LOC.18", ["A-07", "BER", None]),
        ("NAD.WH", ["402", "401", "401"]),
        ("NAD.BY", ["Shop"] * 3),
        ("RFF.CT", ["K1"] * 3),
        ("INV03", ["11", None, None]),
        ("BGM02", ["R"] * 3),
        ("UNB.date", ["2026-11-20T06:42:00"] * 3),
        ("UNB02", ["A"] * 3),
        ("QTY.21", ["40", "40", None]),
        ("QTY.21/DTM.11", ["2026-12-04T06:42:00", "2026-12-04T06:42:00", None]),
    ],
)
def test_a_path_finds_what_is_nearest_to_the_quantity(path: str, cells: list[str | None]) -> None:
    assert one(path) == cells


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ("20261120:102", "2026-11-20"),
        ("261120:101", "2026-11-20"),
        ("202611200642:203", "2026-11-20T06:42:00"),
        ("20261120064233:204", "2026-11-20T06:42:33"),
        ("2611200642:201", "2026-11-20T06:42:00"),
        ("261120064233:202", "2026-11-20T06:42:33"),
        ("202611200642?+0130:205", "2026-11-20T06:42:00+01:30"),
        ("20261120064233-0500:208", "2026-11-20T06:42:33-05:00"),
        ("202611200642UTC:303", "2026-11-20T06:42:00Z"),
        ("201126:2", "2026-11-20"),
        ("112026:3", "2026-11-20"),
        ("20112026:4", "2026-11-20"),
        # what is of another shape is left to the mapping
        ("20261120:203", "20261120"),
        ("202611200642CET:303", "202611200642CET"),
        ("202647:616", "202647"),
        ("20261120", "20261120"),
    ],
)
def test_a_date_is_a_time_of_rfc_3339_by_its_format(told: str, read: str) -> None:
    assert one("DTM.366", f"LIN+1++A'QTY+145:1'DTM+366:{told}'") == [read]


def test_a_quantity_begins_with_its_inv_where_that_stands_first() -> None:
    rows, broken = found(document(INV_FIRST), EdifactConfig(), "QTY", "INV03", "LOC.18", "DTM.366")
    assert (rows, broken) == (
        [("1", "11", "X", "2026-11-19"), ("2", "12", None, "2026-11-19"), ("3", "12", None, "2026-11-19")],
        [],
    )


def test_quantities_of_packages_are_no_rows() -> None:
    packed = "CPS+1'PAC+2'QTY+52:6'"
    assert one("QTY", f"{packed}LIN+1++A'QTY+145:12'{packed}LIN+2++B'QTY+145:7'") == ["12", "7"]
    assert one("QTY", f"{packed}LIN+1++A'LOC+18+BER'") == [None]
    assert one("QTY", f"LIN+1++A'INV+2'QTY+145:12'{packed}INV+2'QTY+145:7'QTY+198:1'") == ["12", "7", "1"]


def test_only_the_quantities_that_count_are_rows_and_an_item_without_any_is_one_without_a_quantity() -> None:
    rows, broken = found(document(ITEM), EdifactConfig(quantities=["21"]), "LIN", "QTY", "QTY.145", "LOC.18")
    assert (rows, broken) == ([("4012345000108", "40", "12", "BER"), ("4012345000115", None, "0", None)], [])


def test_a_decimal_mark_is_a_point_where_una_says_that_it_is_a_comma() -> None:
    item = "LIN+1++A'QTY+145:1,5'"
    assert one("QTY", item, "UNA:+,? '") == ["1.5"]
    assert one("QTY", item) == ["1,5"]


def test_releases_before_marks_are_no_part_of_what_is_meant() -> None:
    assert one("LIN", "LIN+1++A?'?+?:??'QTY+145:1'") == ["A'+:?"]
    assert one("LIN", "LIN+1++A??'QTY+145:1'") == ["A?"]
    assert one("LIN", "LIN+1++A???''QTY+145:1'".replace("???''", "???'B'")) == ["A?'B"]


@pytest.mark.parametrize(("code", "encoding"), [("UNOA", "latin-1"), ("UNOC", "latin-1"), ("UNOD", "iso8859-2"),
                                                ("UNOY", "utf-8"), ("UNOW", "utf-8")])  # fmt: skip
def test_texts_are_of_the_encoding_that_unb_names(code: str, encoding: str) -> None:
    data = document("LIN+1++Gr\u00f6\u00dfe'QTY+145:1'").decode("latin-1").replace("UNOC", code).encode(encoding)
    assert found(data, EdifactConfig(), "LIN") == ([("Gr\u00f6\u00dfe",)], [])


def test_an_encoding_that_is_configured_holds_before_that_of_unb() -> None:
    data = document("LIN+1++\u00e9'QTY+145:1'").replace(b"UNOC", b"KECA")
    assert found(data, EdifactConfig(encoding="latin-1"), "LIN")[0] == [("\u00e9",)]
    with pytest.raises(Rejected, match="UNB names the encoding 'KECA', which is none; set encoding"):
        found(data, EdifactConfig(), "LIN")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("UNB|UNOC", "UNB has marks of its own, and no UNA names them"),
        ("UNA:+", "and not with UNA of 9 characters"),
        ("UNA:::: :UNB", "as marks, which cannot be"),
        ("UNAABCDEFUNB", "as marks, which cannot be"),
        ("UIB+UNOA:4'", 'it begins with "UIB'),
        ("sku,stock\n", "it begins with 'sku,stock"),
    ],
)
def test_what_does_not_begin_as_it_should_says_so(head: str, said: str) -> None:
    with pytest.raises(Rejected, match=said):
        found(head.encode(), EdifactConfig(), "QTY")


@pytest.mark.parametrize("path", ["lin", "LIN.", "QTY.", "LIN00", "DTM", "LOC.TOOLONG", "$.sku", "QTY.21/x"])
def test_a_path_that_leads_nowhere_is_told_when_the_configuration_is_read(path: str) -> None:
    with pytest.raises(Rejected, match=r"is no path here; send one such as LIN, PIA\.SA"):
        check_path(EdifactConfig(), path)
