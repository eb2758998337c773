"""Laws of the column decoder: it tells what the record decoder tells, or leaves the batch to that one."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Codec, Record
from schemas.columns import ColumnDecoder
from schemas.registry import FileRegistry
from stockweave.errors import Rejected
from tests.inventory.builders import DECODED
from tests.schemas.strategies import values
from tests.schemas.test_codec import body_of, framed, sample

REGISTRY = FileRegistry()
UPDATES = Codec("StockUpdate", REGISTRY)
SCHEMA = REGISTRY.schema_of(UPDATES.schema_id)
NAMES = [field["name"] for field in SCHEMA["fields"]]
RICH = sample(incoming=[{"expected_at": 1, "quantity": 2}], order_ref="o-1", stale_after_ms=60_000, sku="\u00e9-1")


def as_records(messages: list[bytes | None]) -> list[Record] | None:
    batch = UPDATES.arrow(messages)
    return None if batch is None else batch.select(NAMES).to_pylist()


def check(messages: list[bytes | None]) -> bool:
    """Whether the batch was told by columns; then each record must be what the record decoder says."""
    told = as_records(messages)
    if told is not None:
        assert told == UPDATES.decode(messages)
    return told is not None


@settings(max_examples=200, deadline=None)
@given(records=st.lists(values(SCHEMA), min_size=1, max_size=5))
def test_columns_are_the_records_fields(records: list[Record]) -> None:
    assert as_records([UPDATES.encode(record) for record in records]) == records


def test_tests_of_the_fold_use_the_decoders_columns() -> None:
    batch = UPDATES.arrow([UPDATES.encode(RICH)])
    assert batch is not None
    assert batch.select(NAMES).schema.equals(DECODED)


@pytest.mark.parametrize("value", [None, b"", b"\0", framed(999_999, b""), framed(UPDATES.schema_id, b"")])
def test_a_batch_with_a_value_of_another_kind_is_left_to_the_record_decoder(value: bytes | None) -> None:
    assert as_records([UPDATES.encode(RICH), value]) is None


def test_a_batch_with_a_body_too_long_or_too_short_is_left_to_the_record_decoder() -> None:
    good, body = UPDATES.encode(RICH), body_of(RICH)
    spoilt = [body + b"x", body + body, *(body[:cut] for cut in range(len(body)))]
    assert not any(check([good, framed(UPDATES.schema_id, one), good]) for one in spoilt)
    # Two bad bodies that make two good ones end to end must not pass either.
    assert not check([framed(UPDATES.schema_id, body + body[:7]), framed(UPDATES.schema_id, body[7:])])


def _flip(body: bytes, seeded: random.Random) -> bytes:
    flipped = bytearray(body)
    for _ in range(seeded.randint(1, 3)):
        flipped[seeded.randrange(len(body))] ^= 1 << seeded.randrange(8)
    return bytes(flipped)


def _replace(body: bytes, seeded: random.Random) -> bytes:
    at = seeded.randrange(len(body))
    return body[:at] + seeded.randbytes(seeded.randint(0, 12)) + body[at + seeded.randint(0, 4) :]


def _random(_: bytes, seeded: random.Random) -> bytes:
    return seeded.randbytes(seeded.randint(0, 80))


@pytest.mark.parametrize("spoil", [_flip, _replace, _random])
def test_whatever_the_bytes_columns_never_say_other_than_records(
    spoil: Callable[[bytes, random.Random], bytes],
) -> None:
    seeded = random.Random(20_261_121)
    body, told, rejected = body_of(RICH), 0, 0
    for _ in range(6_000):
        message = framed(UPDATES.schema_id, spoil(body, seeded))
        by_columns = check([message])
        told += by_columns
        rejected += isinstance(UPDATES.decode([message])[0], Rejected)
        assert told + rejected <= 6_000
    assert rejected > 1_000


def test_a_length_beyond_all_memory_is_left_to_the_record_decoder() -> None:
    huge = bytes([0xFE] + [0xFF] * 8 + [0x01])  # zigzag of 2**63 - 1
    for body in (huge, huge + b"abc", b"\xff" * 9 + b"\x01", b"\x80" * 40):
        assert not check([framed(UPDATES.schema_id, body)])


def test_a_batch_beyond_the_range_of_arrows_offsets_is_left_to_the_record_decoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = UPDATES.encode(RICH)
    monkeypatch.setattr("schemas.columns.BYTES_MAX", 3 * len(good))
    assert check([good, good])
    assert not check([good] * 4), "pyruhvro panics where a column's text passes 2 GiB, which is no Exception"


@pytest.mark.parametrize(
    "kind",
    [
        "bytes",
        {"type": "fixed", "name": "F", "size": 12},
        {"type": "fixed", "name": "F", "size": 12, "logicalType": "duration"},
        {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2},
        {"type": "string", "logicalType": "uuid"},
        {"type": "int", "logicalType": "time-millis"},
        {"type": "long", "logicalType": "timestamp-millis"},
        {"type": "long", "logicalType": "local-timestamp-nanos"},
        {"type": "map", "values": "bytes"},
        {"type": "array", "items": {"type": "fixed", "name": "F", "size": 1}},
        {"type": "record", "name": "E", "fields": []},
        ["null", "long", "string"],
        ["null", "bytes"],
        "null",
        "stockweave.Kind",
    ],
)
def test_a_schema_with_any_type_of_avro_is_decoded_to_columns_or_left(kind: object) -> None:
    schema = SCHEMA | {"fields": [*SCHEMA["fields"], {"name": "added", "type": kind}]}
    decoder, frame = ColumnDecoder(schema, 200), UPDATES.encode(RICH)[:5]
    for rest in (b"", b"\0", b"\x02", b"\0" * 12, b"\x02\x02\0\0"):
        columns = decoder.decode(frame, [UPDATES.encode(RICH) + rest])
        assert columns is None or columns.select(NAMES).to_pylist() == [RICH]
