"""Feeds of EDI files in a folder, through a real Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.connectors.formats.edi.samples import FOLDER
from tests.connectors.running import Running, told, units

X12 = {
    "source": {"kind": "folder", "path": "in", "settle_s": 0.0, "pattern": "*.edi"},
    "format": {"format": "x12", "quantities": ["33"]},
    "poll": {"every_s": 0.2},
    "mapping": {
        "version": 1,
        "sku": "LIN.VN",
        "location": "N1.WH",
        "quantity": "QTY",
        "observed_at": {"path": "DTM.007", "zone": "America/Los_Angeles"},
        "incoming": [{"quantity": "QTY.29", "expected_at": "QTY.29/DTM.018"}],
    },
}
EDIFACT = {
    "source": {"kind": "folder", "path": "in", "settle_s": 0.0, "pattern": "*.edi"},
    "format": {"format": "edifact", "quantities": ["145"]},
    "poll": {"every_s": 0.2},
    "mapping": {
        "version": 1,
        "sku": {"path": "PIA.SA", "default": "without-number", "default_when": "absent"},
        "location": {"path": "LOC.18"},
        "quantity": {"path": "QTY", "below_zero": "zero", "fraction": "down"},
        "observed_at": {"path": "DTM.137", "zone": "Europe/Berlin"},
    },
}


def feed(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    return config | {"source": config["source"] | {"path": str(path)}}


async def test_an_inventory_advice_in_a_folder_becomes_updates_and_dead_letters(
    running: Running, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    data = (FOLDER / "x12_4010_lines.edi").read_bytes()
    (tmp_path / "in" / "a.edi").write_bytes(data + data.replace(b"SE*27*", b"SE*28*"))
    running.configure("northwind", stock=feed(tmp_path / "in", X12))
    async with running:
        updates = await running.until_updates(3)
        await running.until(lambda: len(running.letters()) >= 2)
    assert units(updates) == {"NW-1001": 125, "NW-1002": 0, "NW-2000": 7}
    [kettle] = [update for update in updates if update["sku"] == "NW-1001"]
    assert (kettle["location_id"], kettle["observed_at"]) == ("PDX1", 1_795_185_600_000)  # 06:40 at Portland
    assert kettle["incoming"] == [{"expected_at": 1_796_342_400_000, "quantity": 48}]
    letters = {told(letter)["stockweave.row"]: letter for letter in running.letters()}
    assert letters["3"].value() == b"LIN*4*VN*NW-2001*UP*012345678936~\nQTY*33*12.5*EA~"
    assert told(letters["3"])["__connect.errors.exception.class.name"] == "not_whole"
    assert (letters["4"].value() or b"").startswith(b"ST*846*0001~\nBIA*")
    assert told(letters["4"])["__connect.errors.exception.class.name"] == "malformed_row"
    assert len(letters) == 2


async def test_an_inventory_report_in_a_folder_becomes_updates(running: Running, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.edi").write_bytes((FOLDER / "edifact_d96a_lines.edi").read_bytes())
    running.configure("nordlicht", stock=feed(tmp_path / "in", EDIFACT))
    async with running:
        updates = await running.until_updates(4)
    assert {(update["sku"], update["location_id"], update["quantity"]) for update in updates} == {
        ("NW+1001", "A-07", 125),
        ("NW:1002?", "B-01", 0),
        ("without-number", "HAMBURG-2", 0),
        ("NW'2000", "HAMBURG-2", 2),
    }
    assert {update["observed_at"] for update in updates} == {1_795_153_200_000}  # 06:40 at Hamburg
    assert running.letters() == []
