from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import FRAME, Codec, Record
from schemas.registry import AVRO_DIR, FileRegistry, fingerprint, release, versions
from schemas.topics import subjects
from stockweave.errors import Rejected
from tests.schemas.strategies import values

REGISTRY = FileRegistry()
UPDATES = Codec("StockUpdate", REGISTRY)
updates = values(REGISTRY.schema_of(UPDATES.schema_id))
AVRO_NAMES = sorted(subjects(""))


def framed(schema_id: int, body: bytes) -> bytes:
    return FRAME.pack(0, schema_id) + body


def sample(**fields: Any) -> Record:
    record = {
        "sku": "A-1", "supplier_id": "acme", "location_id": "default", "update_id": "u1", "kind": "COUNT",
        "quantity": 7, "observed_at": 1_700_000_000_000, "received_at": 1_700_000_000_500, "basis": "ON_HAND",
        "order_ref": None, "incoming": [], "stale_after_ms": None, "feed": "push",
    }  # fmt: skip
    return record | fields


def body_of(record: Record) -> bytes:
    return UPDATES.encode(record)[FRAME.size :]


COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("sku", "supplier_id", "location_id", "update_id", "kind")),
        *((name, pa.int64()) for name in ("quantity", "observed_at", "received_at")),
        ("basis", pa.string()), ("order_ref", pa.string()),
        ("incoming", pa.list_(pa.struct([("expected_at", pa.int64()), ("quantity", pa.int64())]))),
        ("stale_after_ms", pa.int64()), ("feed", pa.string()),
    ]
)  # fmt: skip


def in_words(decoded: list[Record | Rejected]) -> list[object]:
    return [(d.reason, str(d)) if isinstance(d, Rejected) else d for d in decoded]


def one_by_one(codec: Codec, messages: list[bytes | None]) -> list[object]:
    return in_words([codec.decode([message])[0] for message in messages])


@pytest.mark.parametrize("name", AVRO_NAMES)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_every_field_of_every_schema_comes_back_as_it_was(name: str, data: st.DataObject) -> None:
    codec = Codec(name, REGISTRY)
    records = data.draw(st.lists(values(REGISTRY.schema_of(codec.schema_id)), min_size=1, max_size=5))
    assert codec.decode([codec.encode(record) for record in records]) == records


def test_a_message_is_zero_then_the_id_in_four_bytes_then_the_body() -> None:
    assert UPDATES.encode(sample())[:5] == b"\0" + UPDATES.schema_id.to_bytes(4, "big")
    assert UPDATES.encode(sample())[5:10] == b"\x06A-1\x08"  # zigzag lengths, then "acme"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_batch_decodes_as_its_messages_do_one_by_one(data: st.DataObject) -> None:
    good = updates.map(UPDATES.encode)
    message = st.one_of(
        good,
        good,
        st.none(),
        st.binary(max_size=12),
        st.tuples(good, st.integers(0, 60)).map(lambda drawn: drawn[0][: drawn[1]]),
        st.tuples(good, st.binary(min_size=1, max_size=3)).map(b"".join),
        st.tuples(good, st.integers(5, 60)).map(lambda drawn: drawn[0][:5] + drawn[0][drawn[1] :]),
        st.tuples(st.sampled_from([0, 1, 7, 8, 9, 99]), good).map(lambda drawn: framed(drawn[0], drawn[1][5:])),
    )
    messages = data.draw(st.lists(message, max_size=8))
    assert in_words(UPDATES.decode(messages)) == one_by_one(UPDATES, messages)


@pytest.mark.parametrize("moved", [1, 2, 3, 10, -1, -2, -3, -10])
def test_bytes_that_stray_over_a_border_spoil_both_messages_in_a_batch_too(moved: int) -> None:
    first, second = body_of(sample()), body_of(sample(update_id="u2"))
    whole, border = first + second, len(first) + moved
    messages: list[bytes | None] = [framed(UPDATES.schema_id, part) for part in (whole[:border], whole[border:])]
    assert one_by_one(UPDATES, messages) == in_words(UPDATES.decode(messages))
    assert all(isinstance(decoded, Rejected) for decoded in UPDATES.decode(messages))


@pytest.mark.parametrize("spoil", [lambda b, i: b[:i], lambda b, i: b[i:], lambda b, i: b[:i] + b[i + 1 :]])
def test_truncated_and_shifted_bodies_are_rejected_and_spare_their_neighbours(
    spoil: Callable[[bytes, int], bytes],
) -> None:
    good = UPDATES.encode(sample())
    body = body_of(sample(incoming=[{"expected_at": 1, "quantity": 2}], order_ref="o-1"))
    for cut in range(1, len(body)):
        before, spoilt, after = UPDATES.decode([good, framed(UPDATES.schema_id, spoil(body, cut)), good])
        assert before == after == sample()
        assert not isinstance(spoilt, Rejected) or spoilt.reason == "undecodable"
        if spoil(body, cut) == body[:cut]:
            assert isinstance(spoilt, Rejected)


def test_random_bytes_are_decoded_or_rejected_and_nothing_else_escapes() -> None:
    seeded = random.Random(20_260_101)
    rejected = 0
    for _ in range(4_000):
        values = [framed(UPDATES.schema_id, seeded.randbytes(seeded.randint(0, 80))) for _ in range(5)]
        rejected += sum(isinstance(decoded, Rejected) for decoded in UPDATES.decode(values))
    assert rejected > 19_000


def test_flipped_bits_are_decoded_or_rejected_and_nothing_else_escapes() -> None:
    body = body_of(sample(incoming=[{"expected_at": 1, "quantity": 2}], order_ref="o-1", stale_after_ms=60_000))
    for place in range(len(body)):
        for bit in range(8):
            flipped = bytearray(body)
            flipped[place] ^= 1 << bit
            [decoded] = UPDATES.decode([framed(UPDATES.schema_id, bytes(flipped))])
            assert isinstance(decoded, dict) or decoded.reason == "undecodable"


def test_a_length_beyond_all_memory_is_rejected() -> None:
    huge = bytes([0xFE] + [0xFF] * 8 + [0x01])  # zigzag of 2**63 - 1
    for body in (huge, huge + b"abc", b"\xff" * 9 + b"\x01", b"\x80" * 40):
        [decoded] = UPDATES.decode([framed(UPDATES.schema_id, body)])
        assert isinstance(decoded, Rejected)
        assert decoded.reason == "undecodable"


@pytest.mark.parametrize(
    ("value", "reason", "said"),
    [
        (None, "empty", "no value"),
        (b"", "not_framed", "''"),
        (b"\0\0\0", "not_framed", "000000"),
        (b'{"sku": "A-1"}', "not_framed", "7b22736b75"),
        (framed(99, b"x"), "unknown_schema_id", "99"),
        (framed(REGISTRY.id_of("Policy"), b"x"), "wrong_schema", "Policy; the record StockUpdate is expected"),
    ],
)
def test_what_is_no_update_of_ours_is_rejected_with_its_reason(value: bytes | None, reason: str, said: str) -> None:
    before, decoded, after = UPDATES.decode([UPDATES.encode(sample()), value, UPDATES.encode(sample())])
    assert before == after == sample()
    assert isinstance(decoded, Rejected)
    assert decoded.reason == reason
    assert said in str(decoded)


def test_a_record_that_does_not_fit_its_schema_is_not_encoded() -> None:
    misfits: list[Record] = [
        {"quantity": "7"},
        {"quantity": 2**63},
        {"kind": "LOST"},
        {"sku": None},
        {"incoming": [{}]},
    ]
    for wrong in misfits:
        with pytest.raises((TypeError, ValueError, OverflowError)):
            UPDATES.encode(sample(**wrong))


class Later:
    """A registry in which StockUpdate has a second version; `old` is the packaged one."""

    def __init__(self, directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
        for path in AVRO_DIR.iterdir():
            (directory / path.name).write_bytes(path.read_bytes())
        schema = versions()["StockUpdate"][-1]
        change(schema)
        (directory / "StockUpdate.2.avsc").write_text(json.dumps(schema))
        release(directory)
        self.registry = FileRegistry(directory)


def test_an_old_writers_message_gets_the_new_readers_defaults(tmp_path: Path) -> None:
    def change(schema: dict[str, Any]) -> None:
        schema["fields"] = [f for f in schema["fields"] if f["name"] != "feed"]
        schema["fields"].insert(1, {"name": "grade", "type": "string", "default": "new", "doc": "Its condition."})

    codec = Codec("StockUpdate", Later(tmp_path, change).registry)
    expected = sample(grade="new")
    del expected["feed"]
    old, new = UPDATES.encode(sample()), codec.encode(expected)
    assert codec.schema_id != UPDATES.schema_id
    assert codec.decode([old, old]) == [expected, expected]
    assert codec.decode([old, new, b"", old])[::3] == [expected, expected]
    assert codec.decode([new]) == [expected]


def test_a_registered_schema_that_the_reader_cannot_resolve_is_rejected() -> None:
    class Foreign:
        """Knows a StockUpdate of somebody else's making under id 77."""

        def id_of(self, name: str) -> int:
            return REGISTRY.id_of(name)

        def schema_of(self, schema_id: int) -> dict[str, Any]:
            if schema_id == 77:
                return {"type": "record", "name": "StockUpdate", "fields": [{"name": "sku", "type": "long"}]}
            if schema_id == 78:
                return {"type": "record", "name": "StockUpdate", "fields": [{"name": "sku", "type": "nonsense"}]}
            return REGISTRY.schema_of(schema_id)

    codec = Codec("StockUpdate", Foreign())
    for schema_id, reason, said in ((77, "undecodable", "long is not string"), (78, "unknown_schema_id", "nonsense")):
        for message in codec.decode([framed(schema_id, b"\x02"), framed(schema_id, b"\x04")]):
            assert isinstance(message, Rejected)
            assert message.reason == reason
            assert said in str(message)


def test_a_schemas_docs_do_not_count_as_content() -> None:
    schema = versions()["StockUpdate"][0]
    assert fingerprint(schema | {"doc": "said better"}) == fingerprint(schema)
    assert fingerprint(schema | {"fields": schema["fields"][:-1]}) != fingerprint(schema)


@given(st.lists(updates, max_size=20))
def test_columns_are_encoded_as_records_are(records: list[Record]) -> None:
    columns = pa.RecordBatch.from_pylist(records, COLUMNS)
    assert (UPDATES.encode_columns(columns) if records else []) == [UPDATES.encode(record) for record in records]
