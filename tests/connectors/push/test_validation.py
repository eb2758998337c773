"""What is accepted always encodes and passes the rule; what is wrong is refused, with the field named."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.push.models import OBSERVED_AT_MIN_MS, STALE_AFTER_MS_MAX
from connectors.push.validation import Fault, checked_supplier, faults_of, from_json, from_object, record_of
from inventory.stock import FUTURE_MS_MAX, INCOMING_MAX, QUANTITY_MAX, StockUpdate, refusal
from schemas.codec import Codec, Record
from schemas.keys import id_problem
from schemas.registry import FileRegistry
from stockweave.errors import Rejected
from tests.connectors.service import AT_MS, NOW_MS, fields

CODEC = Codec("StockUpdate", FileRegistry())


def read(sent: object) -> Record | list[Fault]:
    """By both ways in, which must agree."""
    answers: list[Record | list[Fault]] = []
    for parse, given_ in ((from_json, orjson.dumps(sent)), (from_object, sent)):
        try:
            answers.append(record_of(parse(given_), "acme", NOW_MS))  # type: ignore[arg-type]
        except ValidationError as error:
            answers.append(faults_of(error))
    assert answers[0] == answers[1]
    return answers[0]


ids = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=128).filter(
    lambda text: id_problem(text) is None
)
timestamps = st.integers(OBSERVED_AT_MIN_MS, NOW_MS + FUTURE_MS_MAX)
kinds = st.sampled_from(["COUNT", "DELTA", "WITHDRAWN"])


@st.composite
def valid_updates(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(kinds)
    quantity = {
        "COUNT": st.integers(0, QUANTITY_MAX),
        "DELTA": st.integers(-QUANTITY_MAX, QUANTITY_MAX).filter(bool),
        "WITHDRAWN": st.sampled_from([0, None]),
    }[kind]
    sent = {"sku": draw(ids), "quantity": draw(quantity), "timestamp": draw(timestamps), "updateId": draw(ids)}
    optional: dict[str, st.SearchStrategy[Any]] = {
        "basis": st.sampled_from(["ON_HAND", "AVAILABLE"]),
        "location": ids,
    }
    if kind != "COUNT":
        sent["kind"] = kind
    if kind == "DELTA":
        optional["orderRef"] = st.none() | ids
    if kind == "COUNT":
        receipt = st.fixed_dictionaries({"expectedAt": timestamps, "quantity": st.integers(1, QUANTITY_MAX)})
        optional["incoming"] = st.lists(receipt, max_size=3)
        optional["staleAfterMs"] = st.none() | st.integers(1, STALE_AFTER_MS_MAX)
    return sent | draw(st.fixed_dictionaries({}, optional=optional))


@given(valid_updates())
def test_what_is_accepted_encodes_and_is_never_refused_by_the_rule(sent: dict[str, Any]) -> None:
    record = read(sent)
    assert isinstance(record, dict), record
    assert refusal(cast("StockUpdate", record)) is None
    assert CODEC.decode([CODEC.encode(record)]) == [record]
    assert record["observed_at"] == sent["timestamp"]
    assert record["quantity"] == (sent["quantity"] or 0)


WRONG_VALUES: dict[str, list[object]] = {
    "sku": ["", " a", "a ", "a\nb", "a\x7f", "x" * 129, 5, None, True, [], {}],
    "updateId": ["", "a\x00", "x" * 129, "e\u0301", 1.5, None],
    "location": ["", "a\tb", "e\u0301", None, 3],
    "orderRef": ["", "x" * 129, "a\x1fb", 3],
    "quantity": [1.0, 1.5, "1", True, QUANTITY_MAX + 1, -QUANTITY_MAX - 1, 2**63, [], {}],
    "timestamp": [
        "", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00Z", "20260101T000000Z", "2026-02-30T00:00:00Z",
        "2026-01-01T24:00:01Z", "1767225600000", "2026-01-01T00:00:00+24:00", "0001-01-01T00:00:00+01:00",
        1_767_225_600, 1_767_225_600_000_000, -1, 0, 1.5, True, None, [], NOW_MS + FUTURE_MS_MAX + 1, 2**70,
    ],
    "kind": ["count", "", "STOCK", 1, None],
    "basis": ["on_hand", "", 0, None],
    "incoming": [{}, "x", None, [{}], [{"expectedAt": AT_MS, "quantity": 0}], [{"expectedAt": 1, "quantity": 1}]],
    "staleAfterMs": [0, -1, 1.0, "5", True, STALE_AFTER_MS_MAX + 1],
    "nonsense": [1],
    "update_id": ["u1"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG_VALUES.items() for value in values]
)
def test_a_wrong_value_is_refused_and_its_field_named_as_it_was_sent(field: str, value: object) -> None:
    kind = {"kind": "DELTA"} if field == "orderRef" else {}
    sent = fields() | kind | {field: value}
    faults = _of_both_ways(sent)
    assert len(faults) >= 1
    for fault in faults:
        assert fault.field is not None
        assert fault.field.split(".")[0] == field
        assert fault.detail.startswith(fault.field)
        assert ";" in fault.detail, "the remedy is missing"


def _of_both_ways(sent: dict[str, Any]) -> list[Fault]:
    if any(isinstance(value, int) and value >= 2**64 for value in sent.values()):
        parsed = from_object
    else:
        faults = read(sent)
        assert isinstance(faults, list), faults
        return faults
    with pytest.raises(ValidationError) as caught:
        parsed(sent)
    return faults_of(caught.value)


@pytest.mark.parametrize("field", ["sku", "timestamp", "updateId", "quantity"])
def test_a_required_field_that_is_missing_is_named(field: str) -> None:
    faults = read({name: value for name, value in fields().items() if name != field})
    assert isinstance(faults, list)
    assert [(fault.reason, fault.field) for fault in faults] == [("missing", field)]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"quantity": -1}, "quantity"),
        ({"kind": "DELTA", "quantity": 0}, "quantity"),
        ({"kind": "DELTA", "quantity": None}, "quantity"),
        ({"kind": "WITHDRAWN", "quantity": 5}, "quantity"),
        ({"orderRef": "o1"}, "orderRef"),
        ({"kind": "WITHDRAWN", "quantity": 0, "orderRef": "o1"}, "orderRef"),
        ({"kind": "DELTA", "incoming": [{"expectedAt": AT_MS, "quantity": 1}]}, "incoming"),
        ({"kind": "DELTA", "staleAfterMs": 5}, "staleAfterMs"),
        ({"incoming": [{"expectedAt": AT_MS, "quantity": 1}] * (INCOMING_MAX + 1)}, "incoming"),
    ],
)
def test_fields_that_contradict_one_another_are_refused(changed: dict[str, Any], field: str) -> None:
    faults = read(fields(**changed))
    assert isinstance(faults, list)
    assert [fault.field for fault in faults] == [field]


def test_all_faults_of_an_update_are_told_at_once() -> None:
    faults = read({"quantity": "5", "kind": "X", "extra": 1})
    assert isinstance(faults, list)
    assert {fault.field for fault in faults} == {"sku", "quantity", "timestamp", "updateId", "kind", "extra"}


def test_an_update_with_thousands_of_faults_is_answered_in_few_words() -> None:
    faults = read(fields() | {f"made-up-{i}": 1 for i in range(5_000)})
    assert isinstance(faults, list)
    assert [(fault.reason, fault.field) for fault in faults] == [("too_many_faults", None)]
    [fault] = cast("list[Fault]", read(fields() | {"x" * 5_000: 1}))
    assert len(fault.detail) < 500


@pytest.mark.parametrize(
    ("sent", "at"),
    [
        ("2026-01-02T03:04:05Z", 1_767_323_045_000),
        ("2026-01-02t03:04:05z", 1_767_323_045_000),
        ("2026-01-02 03:04:05+00:00", 1_767_323_045_000),
        ("2026-01-02T04:04:05.678+01:00", 1_767_323_045_678),
        ("2026-01-02T03:04:05.6789999999Z", 1_767_323_045_678),
        (1_767_323_045_678, 1_767_323_045_678),
    ],
)
def test_a_timestamp_is_rfc_3339_or_milliseconds(sent: object, at: int) -> None:
    record = read(fields(timestamp=sent))
    assert isinstance(record, dict), record
    assert record["observed_at"] == at


def test_up_to_five_minutes_ahead_of_the_clock_are_taken() -> None:
    assert isinstance(read(fields(timestamp=NOW_MS + FUTURE_MS_MAX)), dict)
    faults = read(fields(timestamp=NOW_MS + FUTURE_MS_MAX + 1000))
    assert isinstance(faults, list)
    assert faults[0].reason == "observed_in_future"
    assert "301 s ahead" in faults[0].detail


def test_a_sku_is_brought_to_its_composed_form() -> None:
    record = read(fields(sku="cafe\u0301"))
    assert isinstance(record, dict)
    assert record["sku"] == "caf\u00e9"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(WRONG_VALUES)), inner, max_size=6),
    max_leaves=12,
)


@given(st.binary(max_size=60) | json_values.map(orjson.dumps))
def test_anything_at_all_is_either_a_usable_record_or_has_faults(raw: bytes) -> None:
    try:
        record = record_of(from_json(raw), "acme", NOW_MS)
    except ValidationError as error:
        record = faults_of(error)
    if isinstance(record, dict):
        assert refusal(cast("StockUpdate", record)) is None
        CODEC.encode(record)
    else:
        assert record
        assert all(fault.detail for fault in record)


@pytest.mark.parametrize("supplier", ["", "a\nb", "x" * 129, "a\x1fb", " a"])
def test_a_supplier_id_that_is_no_id_is_refused(supplier: str) -> None:
    with pytest.raises(Rejected) as caught:
        checked_supplier(supplier)
    assert caught.value.field == "supplierId"
