"""Laws of the map of SKUs: what is looked up, what becomes of what is not there, and what holds while it changes."""

from __future__ import annotations

import pyarrow as pa
import pytest

from connectors.mapping.mapper import Mapped, Mapper
from connectors.mapping.rules import Mapping
from connectors.mapping.sku_map import SkuMap
from connectors.runner.snapshot import Offers
from schemas.sku_map import Entry
from tests.connectors.mapping.mapped import READ, SIMPLE, columns, mapped

ROWS: list[dict[str, str | None]] = [
    {"code": "x1", "stock": "1"},
    {"code": "x2", "stock": "2"},
    {"code": None, "stock": "3"},
    {"code": "x3", "stock": "many"},
]


def a_map(**known: str) -> SkuMap:
    found = SkuMap()
    found.change(Entry("acme", supplier_sku, sku) for supplier_sku, sku in known.items())
    return found


def mapped_by(skus: SkuMap, unknown: str, rows: list[dict[str, str | None]] = ROWS) -> Mapped:
    mapping = Mapping.model_validate(SIMPLE | {"sku_map": {"unknown": unknown}})
    mapper = Mapper(mapping, "acme", "stock", skus.of("acme"))
    return mapper.map(columns(rows), pa.array(range(len(rows)), pa.int64()), READ)


def skus_of(found: Mapped) -> list[str]:
    return [update["sku"] for update in found.updates.to_pylist()]


def reasons(found: Mapped) -> dict[int, list[str]]:
    return {row: [fault.reason for fault in faults] for row, faults in found.faults.items()}


def test_a_sku_of_the_map_is_ours_and_one_that_is_not_there_passes() -> None:
    found = mapped_by(a_map(x1="A-1", x3="A-3"), "pass")
    assert skus_of(found) == ["A-1", "x2"]
    assert reasons(found) == {2: ["missing"], 3: ["not_a_number"]}
    assert found.named.column("sku").to_pylist() == ["A-3"]


@pytest.mark.parametrize(("unknown", "reason"), [("park", "parked_sku"), ("reject", "unknown_sku")])
def test_what_is_not_in_the_map_is_told_after_what_else_is_wrong_with_its_row(unknown: str, reason: str) -> None:
    found = mapped_by(a_map(x1="A-1"), unknown)
    assert skus_of(found) == ["A-1"]
    assert reasons(found) == {1: [reason], 2: ["missing"], 3: ["not_a_number", reason]}
    assert "'x2'" in found.faults[1][0].detail


def test_another_suppliers_entries_mean_nothing() -> None:
    skus = SkuMap()
    skus.change([Entry("other", "x1", "B-1")])
    assert skus_of(mapped_by(skus, "pass")) == ["x1", "x2"]


def test_an_update_has_the_same_id_whatever_the_map_says() -> None:
    ids = [
        mapped_by(skus, "pass").updates.column("update_id").to_pylist()
        for skus in (SkuMap(), a_map(x1="A-1"), a_map(x1="A-2", x2="A-1"))
    ]
    assert ids[0] == ids[1] == ids[2]
    plain = mapped(ROWS).updates.to_pylist()
    assert plain == mapped_by(SkuMap(), "pass").updates.to_pylist()


def test_an_unknown_sku_leaves_a_snapshot_whole_and_a_row_that_says_none_does_not() -> None:
    whole, broken = Offers(), Offers()
    whole.add(mapped_by(a_map(x1="A-1"), "park", [ROWS[0], ROWS[1], ROWS[3]]), 0)
    assert whole.is_whole
    assert {sku for table in whole.buckets().values() for sku in table.column("sku").to_pylist()} == {"A-1"}
    broken.add(mapped_by(a_map(x1="A-1"), "park"), 0)
    assert not broken.is_whole


def test_what_is_held_sees_no_change_until_it_ends() -> None:
    skus = a_map(x1="A-1", x2="A-2")
    view, other = skus.of("acme"), skus.of("acme")
    asked = ["x1", "x2", "x3", None]
    with view.held():
        skus.change([Entry("acme", "x1", "B-1"), Entry("acme", "x2", None), Entry("acme", "x3", "B-3")])
        skus.change([Entry("acme", "x1", "C-1"), Entry("rival", "x2", "D-2")])
        assert view.look_up(asked) == ["A-1", "A-2", None, None]
        assert other.look_up(asked) == ["C-1", None, "B-3", None]
    assert view.look_up(asked) == other.look_up(asked)
