"""What a query may say, and what it is told when it says something else."""

from __future__ import annotations

import pytest
from multidict import MultiDict

from api.cursor import Cursor
from api.params import LIMIT_DEFAULT, Params
from stockweave.errors import Rejected

NAMES = ("sku", "limit", "in_stock", "updated_since", "min_offset", "cursor", "supplier")


def params(*pairs: tuple[str, str]) -> Params:
    return Params(MultiDict(pairs), NAMES)


def test_skus_are_split_normalised_and_asked_once() -> None:
    assert params(("sku", "a,b"), ("sku", "a"), ("sku", "cafe\u0301")).skus() == ["a", "b", "caf\u00e9"]
    assert params().skus() is None


def test_times_are_rfc_3339_or_milliseconds() -> None:
    for text in ("1767225600123", "2026-01-01T00:00:00.123Z", "2026-01-01T02:00:00.123+02:00"):
        assert params(("updated_since", text)).time_ms("updated_since") == 1_767_225_600_123


def test_a_token_has_the_highest_offset_of_each_partition() -> None:
    assert params(("min_offset", "0-5,3-7,0-2")).min_offset(4) == {0: 5, 3: 7}
    assert params().min_offset(4) == {}


def test_limit_has_a_default() -> None:
    assert params().limit() == LIMIT_DEFAULT
    assert params(("limit", "1000")).limit() == 1_000


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "ten"),
        ("limit", "-1"),
        ("limit", "٣"),
        ("in_stock", "yes"),
        ("updated_since", "yesterday"),
        ("updated_since", "2026-01-01T00:00:00"),  # whose midnight?
        ("updated_since", "2026-01-01T00:00:00 02:00"),  # a plus sign that was not encoded
        ("min_offset", ""),
        ("min_offset", "4-1"),  # there are partitions 0 to 3
        ("min_offset", "1"),
        ("min_offset", "1--1"),
        ("min_offset", "1-1,"),
        ("supplier", ""),
        ("supplier", "a" * 129),
        ("sku", "a,,b"),
        ("sku", "a\x00"),
        ("sku", ",".join(f"s{i}" for i in range(1_001))),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(name: str, text: str) -> None:
    given = params((name, text))
    readers = {
        "limit": given.limit,
        "in_stock": lambda: given.flag("in_stock"),
        "updated_since": lambda: given.time_ms("updated_since"),
        "min_offset": lambda: given.min_offset(4),
        "supplier": lambda: given.identifier("supplier"),
        "sku": given.skus,
    }
    with pytest.raises(Rejected) as refused:
        readers[name]()
    assert refused.value.field == name


def test_a_parameter_given_twice_is_refused() -> None:
    with pytest.raises(Rejected, match="limit is given 2 times"):
        params(("limit", "1"), ("limit", "2")).limit()


def test_an_unknown_parameter_is_refused_with_those_known() -> None:
    with pytest.raises(Rejected, match="known are: sku, limit") as refused:
        params(("skus", "a"))
    assert refused.value.field == "skus"


@pytest.mark.parametrize("last", ["", "a", "caf\u00e9/1", "\U0001f600" * 128])
def test_a_cursor_comes_back_as_it_was(last: str) -> None:
    token = Cursor("0a1b2c3d", last).token() if last else None
    if token is not None:
        assert Cursor.parse(token) == Cursor("0a1b2c3d", last)
        assert token.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("token", ["", "a", "%%%", "kqFhoWI!", "é", "oWE", Cursor("g", "x").token()[:-2]])
def test_a_cursor_that_is_not_ours_is_refused(token: str) -> None:
    with pytest.raises(Rejected, match="cursor"):
        Cursor.parse(token)
