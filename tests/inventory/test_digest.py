"""Laws of the digest: bookkeeping is outside, all that a row means is inside."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import pytest

from inventory.digest import PartitionDigest, digest, meaning
from schemas.rows import Count, Delta, Receipt, Source, StockRow, decode_row, encode_row


def source() -> Source:
    return Source(Count(0, "c-1", 1_000, 7), [Delta(1_001, "d-1", -2, "o-1")], 3, 900, 1, [Receipt(5_000, 4)], 60, 8, 9)


def row() -> StockRow:
    return StockRow("sku-1", 3, 16, 1_002, {"acme\x1fdefault": source(), "bolt\x1fwest": source()})


def _changed(change: Callable[[StockRow], object]) -> bytes:
    other = row()
    change(other)
    return encode_row(other)


def test_bookkeeping_does_not_change_the_meaning() -> None:
    def change(other: StockRow) -> None:
        other.version, other.changed_at, other.alert, other.oversold = 99, 99, 3, ["acme\x1fdefault"]
        for one in other.sources.values():
            one.received_at, one.offset = 99, 99
        other.sources = dict(reversed(other.sources.items()))

    assert meaning(_changed(change)) == meaning(encode_row(row()))


def _set(name: str, value: object) -> Callable[[StockRow], object]:
    return lambda other: setattr(other.sources["acme\x1fdefault"], name, value)


MEANT: dict[str, object] = {
    "count": Count(0, "c-1", 1_000, 8),
    "deltas": [Delta(1_001, "d-1", -2, "o-2")],
    "carried": 4,
    "floor_at": None,
    "basis": 0,
    "incoming": [],
    "stale_after_ms": None,
}


def test_every_field_of_a_row_is_meant_or_known_as_bookkeeping() -> None:
    meant, bookkeeping = {"sku", "on_hand", "sources", "reserved"}, {"version", "changed_at", "alert", "oversold"}
    assert meant | bookkeeping == {field.name for field in msgspec.structs.fields(StockRow)}


def test_every_field_of_a_source_is_meant_or_known_as_bookkeeping() -> None:
    assert {*MEANT, "received_at", "offset"} == {field.name for field in msgspec.structs.fields(Source)}


@pytest.mark.parametrize("name", MEANT)
def test_a_changed_field_of_a_source_changes_the_digest(name: str) -> None:
    assert digest(_changed(_set(name, MEANT[name]))) != digest(encode_row(row()))


def test_sku_sum_and_set_of_sources_are_meant() -> None:
    rows = [encode_row(row())]
    rows.append(_changed(lambda other: setattr(other, "sku", "sku-2")))
    rows.append(_changed(lambda other: setattr(other, "on_hand", 17)))
    rows.append(_changed(lambda other: other.sources.pop("bolt\x1fwest")))
    for one, other in itertools.combinations(rows, 2):
        assert digest(one) != digest(other)


def test_a_partition_s_digest_tells_which_row_stands_under_which_key() -> None:
    def of(*pairs: tuple[bytes, bytes]) -> str:
        whole = PartitionDigest()
        for pair in pairs:
            whole.add(*pair)
        assert whole.rows == len(pairs)
        return whole.hexdigest()

    one, other = encode_row(row()), _changed(lambda r: setattr(r, "on_hand", 1))
    assert decode_row(one).on_hand != decode_row(other).on_hand
    told = [of(), of((b"A", one)), of((b"b", one)), of((b"A", one), (b"b", other)), of((b"A", other), (b"b", one))]
    assert len(set(told)) == len(told)


def test_a_digest_never_changes_for_checkpoints_hold_it() -> None:
    whole = PartitionDigest()
    assert whole.add(b"sku-1", encode_row(row())).hex() == "3485675422d4bfbc534ee1147b19fbef"
    whole.add(b"sku-2", _changed(lambda other: setattr(other, "sku", "sku-2")))
    assert whole.hexdigest() == "0f6061da8f1056d4f0affed32f11aad6"


@pytest.mark.parametrize("key", [b"a", b"b"])
def test_rows_out_of_order_are_refused(key: bytes) -> None:
    whole = PartitionDigest()
    whole.add(b"b", encode_row(row()))
    with pytest.raises(ValueError, match=f"in the order of their keys: {key!r} after b'b'$"):
        whole.add(key, encode_row(row()))
    assert whole.rows == 1
