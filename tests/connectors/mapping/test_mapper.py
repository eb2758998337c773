"""Laws of mapping: each row is an update or has faults, what is an update is taken by the fold, nothing is guessed."""

from __future__ import annotations

import json
from typing import Any, cast

import pyarrow as pa
import pyruhvro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.mapping.mapper import UPDATES, Read
from inventory.stock import StockUpdate, refusal
from schemas.codec import Codec
from schemas.registry import FileRegistry
from stockweave.errors import Rejected
from tests.connectors.mapping.mapped import NOW_MS, mapped, mapper

TEXTS = st.one_of(
    st.none(),
    st.sampled_from(
        ["", " ", "0", "5", " 7 ", "-3", "2.5", "1,000", "1e3", "99999999999999", "COUNT", "DELTA", "WITHDRAWN"]
    ),
    st.sampled_from(["2026-09-21T13:33:20Z", "2026-09-21T13:33:20", "1999-01-01T00:00:00Z", "3026-01-01T00:00:00Z"]),
    st.text(max_size=6),
    st.text("ab\u0000\u00e9e\u0301 ", max_size=140),
)
KNOWN = {"path": "w", "values": {"7": "x"}, "otherwise": "reject"}
EVERYTHING: dict[str, Any] = {
    "kind": {"path": "kind", "default": "COUNT", "default_when": "absent"},
    "location": {"path": "place", "default": "default", "default_when": "absent"},
    "observed_at": {"path": "at", "default": "2026-09-21T13:33:20Z", "default_when": "absent"},
    "order_ref": "order",
    "incoming": [{"expected_at": "eta", "quantity": "coming"}],
    "stale_after_s": 60,
}
ROWS = st.lists(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("code", "stock", "kind", "place", "at", "order", "eta", "coming"), TEXTS)
    ),
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(ROWS, st.booleans())
def test_each_row_is_an_update_that_the_fold_takes_or_has_a_fault(
    rows: list[dict[str, str | None]], zero: bool
) -> None:
    quantity = {"path": "stock", "below_zero": "zero" if zero else "reject"}
    found = mapped(rows, quantity=quantity, **EVERYTHING)
    assert sorted([*found.rows.to_pylist(), *found.faults]) == list(range(len(rows)))
    for update in found.updates.to_pylist():
        assert refusal(cast("StockUpdate", update)) is None, update
    assert all(
        faults and all(fault.detail.startswith(f"{fault.field}:") for fault in faults)
        for faults in found.faults.values()
    )


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_a_row_is_mapped_the_same_alone_and_among_others(rows: list[dict[str, str | None]]) -> None:
    together = mapped(rows, **EVERYTHING)
    by_row = dict(zip(together.rows.to_pylist(), together.updates.to_pylist(), strict=True))
    for row, cells in enumerate(rows):
        alone = mapped([cells], row, **EVERYTHING)
        assert alone.updates.to_pylist() == ([by_row[row]] if row in by_row else [])
        assert list(alone.faults.values()) == ([together.faults[row]] if row in together.faults else [])


def test_updates_fit_the_schema_as_they_are() -> None:
    codec = Codec("StockUpdate", FileRegistry())
    updates = mapped([{"code": "a", "stock": "5", "eta": "2026-12-01T00:00:00Z", "coming": "3"}], **EVERYTHING).updates
    [bodies] = pyruhvro.serialize_record_batch(updates, json.dumps(FileRegistry().schema_of(codec.schema_id)), 1)
    frame = codec.encode(cast("dict[str, Any]", updates.to_pylist()[0]))[:5]
    assert codec.decode([frame + bytes(bodies[0].as_py())]) == updates.to_pylist()


def test_a_mapping_says_what_each_field_is_made_of() -> None:
    found = mapped(
        [{"code": " ab-1 ", "stock": "1.200,0", "wh": "7", "when": "21.09.2026 16:13"}],
        sku={"path": "code", "upper": True},
        quantity={"path": "stock", "thousands": ".", "decimal": ",", "pack": 12},
        location={"path": "wh", "values": {"7": "berlin"}, "otherwise": "reject"},
        observed_at={"path": "when", "format": "%d.%m.%Y %H:%M", "zone": "Europe/Berlin"},
        basis={"constant": "AVAILABLE"},
        version=3,
    )
    assert found.updates.to_pylist() == [
        {
            "sku": "AB-1",
            "supplier_id": "acme",
            "location_id": "berlin",
            "update_id": "1790000000000:0000000000",
            "kind": "COUNT",
            "quantity": 14_400,
            "observed_at": NOW_MS - 20_000,
            "received_at": NOW_MS,
            "basis": "AVAILABLE",
            "order_ref": None,
            "incoming": [],
            "stale_after_ms": None,
            "feed": "stock@3",
        }
    ]


@pytest.mark.parametrize(
    ("cells", "fields", "reason"),
    [
        ({"stock": "5"}, {}, "missing"),
        ({"code": "a"}, {}, "missing"),
        ({"code": "a", "stock": "some"}, {}, "not_a_number"),
        ({"code": "a", "stock": "1.5"}, {}, "not_whole"),
        ({"code": "a", "stock": "-1"}, {}, "out_of_range"),
        ({"code": "a", "stock": "0"}, {"kind": {"constant": "DELTA"}}, "out_of_range"),
        ({"code": "a", "stock": "5", "o": "x"}, {"order_ref": "o"}, "not_allowed"),
        ({"code": "a", "stock": "5", "at": "yesterday"}, {"observed_at": "at"}, "invalid_time"),
        ({"code": "a", "stock": "5", "at": "2099-01-01T00:00:00Z"}, {"observed_at": "at"}, "observed_in_future"),
        ({"code": "a", "stock": "5", "at": "7"}, {"observed_at": {"path": "at", "format": "unix"}}, "out_of_range"),
        ({"code": "a", "stock": "5", "w": "9"}, {"location": KNOWN}, "unknown_value"),
        ({"code": "a\tb", "stock": "5"}, {}, "invalid_id"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_says_why(cells: dict[str, str | None], fields: dict[str, Any], reason: str) -> None:
    [[fault]] = mapped([cells], **fields).faults.values()
    assert fault.reason == reason


def test_words_of_a_supplier_stand_for_units_as_they_are() -> None:
    words = {"In stock": 5, "sold out": 0, "a case": "1"}
    rows: list[dict[str, str | None]] = [{"code": "a", "stock": word} for word in (*words, "2")]
    found = mapped(rows, quantity={"path": "stock", "values": words, "pack": 12})
    assert found.updates["quantity"].to_pylist() == [5, 0, 12, 24]


def test_reading_a_file_again_makes_the_same_ids_and_a_later_row_or_poll_a_greater_one() -> None:
    rows: list[dict[str, str | None]] = [{"code": "a", "stock": "1"}, {"code": "a", "stock": "2"}]
    first, again = mapped(rows), mapped(rows[1:], 1)
    later = mapped(rows, read=Read("1790000060000", NOW_MS, NOW_MS))
    ids = first.updates["update_id"].to_pylist()
    assert again.updates["update_id"].to_pylist() == ids[1:]
    assert sorted([*ids, *later.updates["update_id"].to_pylist()]) == [*ids, *later.updates["update_id"].to_pylist()]


def test_a_row_that_is_withdrawn_needs_no_quantity() -> None:
    found = mapped(
        [{"code": "a", "gone": "yes"}], kind={"path": "gone", "values": {"yes": "WITHDRAWN"}, "default": "COUNT"}
    )
    assert [(u["kind"], u["quantity"]) for u in found.updates.to_pylist()] == [("WITHDRAWN", 0)]


ROWS_WITHOUT: list[dict[str, str | None]] = [
    {"code": "a", "stock": ""}, {"code": "b", "stock": " "}, {"code": "c", "stock": None}, {"code": "d", "stock": "4"},
]  # fmt: skip


def test_a_default_is_for_what_is_empty_and_what_is_not_there_is_a_fault_that_says_what_to_do() -> None:
    found = mapped(ROWS_WITHOUT, quantity={"path": "stock", "default": 0})
    assert [(u["sku"], u["quantity"]) for u in found.updates.to_pylist()] == [("a", 0), ("b", 0), ("d", 4)]
    [fault] = found.faults[2]
    assert (fault.reason, fault.field) == ("missing", "quantity")
    assert "set default_when: absent" in fault.detail


def test_a_default_is_for_what_is_not_there_as_well_where_the_mapping_says_so() -> None:
    found = mapped(ROWS_WITHOUT, quantity={"path": "stock", "default": 0, "default_when": "absent"})
    assert [u["quantity"] for u in found.updates.to_pylist()] == [0, 0, 0, 4]


def test_a_required_field_that_is_not_there_has_no_default_either() -> None:
    rows = [row | {"place": row["stock"]} for row in ROWS_WITHOUT]
    found = mapped(rows, quantity={"constant": 1}, location={"path": "place", "default": "main"})
    assert [u["location_id"] for u in found.updates.to_pylist()] == ["main", "main", "4"]
    assert [fault.detail.partition(";")[0] for fault in found.faults[2]] == [
        "location: there is no place at all, and default is for what is empty"
    ]


def test_a_row_that_is_withdrawn_needs_no_quantity_whatever_its_default() -> None:
    found = mapped([{"code": "a"}], kind={"constant": "WITHDRAWN"}, quantity={"path": "stock", "default": 3})
    assert [(u["kind"], u["quantity"]) for u in found.updates.to_pylist()] == [("WITHDRAWN", 0)]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": {"constant": "SOME"}}, "kind"),
        ({"quantity": {"constant": 10**13}}, "quantity"),
        ({"location": {"path": "w", "values": {"7": ""}}}, "location"),
        ({"observed_at": {"path": "at", "default": "soon"}}, "observed_at"),
    ],
)
def test_what_a_mapping_itself_gives_is_checked_before_any_row(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Rejected, match=f"^{field}: ") as found:
        mapper(**fields)
    assert found.value.field == field


def test_updates_are_in_the_order_of_the_schema() -> None:
    names = [
        field["name"] for field in cast("Any", FileRegistry().schema_of(FileRegistry().id_of("StockUpdate")))["fields"]
    ]
    assert UPDATES.names == names
    assert UPDATES.field("quantity").type == pa.int64()


def test_no_rows_are_no_updates() -> None:
    assert mapped([]).updates.num_rows == 0, "as of a piece of which every row is broken"
