"""Laws of files of Avro: each row is what was written, however it was packed, and what is broken is told by itself."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.configuration.load import load
from connectors.formats.avro.config import AvroConfig
from connectors.formats.avro.container import BLOCK_BYTES_MAX, MAGIC
from connectors.formats.avro.records import ROWS_AT_ONCE
from connectors.formats.reader import read, read_again
from connectors.formats.rows import Rows
from connectors.kinds import kinds
from schemas.zigzag import zigzag
from stockweave.errors import Rejected
from tests.connectors.running import Running, csv_feed, units

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Stock",
    "namespace": "acme",
    "fields": [{"name": "code", "type": "string"}, {"name": "stock", "type": ["null", "long"]}],
}
PATHS = ["$.code", "$.stock"]


def logical(kind: str, means: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": means} | more


def body(schema: dict[str, Any], record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return out.getvalue()


def file(
    *records: dict[str, Any], schema: dict[str, Any] = SCHEMA, codec: str = "null", interval: int = 16_000
) -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, fastavro.parse_schema(schema), records, codec, interval)
    return out.getvalue()


def by_hand(*blocks: tuple[int, bytes], codec: str = "null", schema: bytes = json.dumps(SCHEMA).encode()) -> bytes:
    """A file that says what it wants of its blocks, each a count and its bytes."""
    sync = os.urandom(16)
    told = {b"avro.schema": schema, b"avro.codec": codec.encode()}
    header = b"".join(zigzag(len(part)) + part for pair in told.items() for part in pair)
    written = b"".join(zigzag(count) + zigzag(len(data)) + data + sync for count, data in blocks)
    return MAGIC + zigzag(len(told)) + header + b"\0" + sync + written


def rows(data: bytes, paths: Sequence[str] = PATHS, step: int = 50) -> list[Rows]:
    return list(read([data[n : n + step] for n in range(0, len(data), step)], AvroConfig(), paths))


def texts(found: Sequence[Rows], paths: Sequence[str] = PATHS) -> list[tuple[str | None, ...]]:
    return [row for each in found for row in zip(*(each.columns[path].to_pylist() for path in paths), strict=True)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.text(), st.none() | st.integers(-(2**63), 2**63 - 1)), max_size=40),
    st.sampled_from(["null", "deflate", "bzip2", "xz"]),
    st.integers(1, 90),
)
def test_rows_are_those_that_were_written(written: list[tuple[str, int | None]], codec: str, step: int) -> None:
    data = file(*({"code": code, "stock": stock} for code, stock in written), codec=codec, interval=100)
    found = rows(data, step=step)
    assert texts(found) == [(code, "" if stock is None else str(stock)) for code, stock in written]
    assert [n for each in found for n in each.numbers.to_pylist()] == list(range(len(written)))
    assert all(not each.broken for each in found)


@pytest.mark.parametrize("codec", ["snappy", "zstandard"])
def test_packings_that_need_a_library_are_read(codec: str) -> None:
    data = body(SCHEMA, {"code": "s1", "stock": 5}) * 100
    if codec == "snappy":
        packed = pa.Codec("snappy").compress(data, asbytes=True) + zlib.crc32(data).to_bytes(4, "big")
        damaged = packed[:-1] + bytes([packed[-1] ^ 1])
        with pytest.raises(Rejected, match="cannot be unpacked"):
            rows(by_hand((100, damaged), codec=codec))
    else:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        packed = sink.getvalue().to_pybytes()
    assert texts(rows(by_hand((100, packed), codec=codec))) == [("s1", "5")] * 100


def test_what_numbers_and_bytes_mean_becomes_text_that_a_mapping_reads() -> None:
    at = datetime(2026, 9, 21, 14, 13, 20, 123000, UTC)
    fields: dict[str, tuple[Any, Any, str | None]] = {
        "millis": (logical("long", "timestamp-millis"), at, "2026-09-21T14:13:20.123000+00:00"),
        "micros": (["null", logical("long", "timestamp-micros")], at, "2026-09-21T14:13:20.123000+00:00"),
        "local": (logical("long", "local-timestamp-millis"), at.replace(tzinfo=None), "2026-09-21T14:13:20.123000"),
        "day": (logical("int", "date"), date(2026, 9, 21), "2026-09-21"),
        "hour": (logical("int", "time-millis"), time(14, 13), "14:13:00"),
        "count": (logical("bytes", "decimal", precision=12, scale=3), Decimal("12.500"), "12.500"),
        "tiny": (logical("bytes", "decimal", precision=12, scale=9), Decimal("0.000000001"), "0.000000001"),
        "fixed": (
            logical("fixed", "decimal", precision=8, scale=0, name="Fixed", size=6), Decimal(-77), "-77",
        ),
        "uuid": (logical("string", "uuid"), UUID(int=7), str(UUID(int=7))),
        "unknown": (logical("long", "parsec"), 5, "5"),
        "unfit": (logical("bytes", "decimal", precision=0), b"s\xe4", "s\xe4"),
        "word": ({"type": "enum", "name": "Word", "symbols": ["LOW", "HIGH"]}, "HIGH", "HIGH"),
        "yes": ("boolean", True, "true"),
        "double": ("double", 5.0, "5.0"),
        "nan": ("double", float("nan"), "nan"),
        "nothing": (["null", "string"], None, ""),
    }  # fmt: skip
    schema = SCHEMA | {"fields": [{"name": name, "type": kind} for name, (kind, _, _) in fields.items()]}
    paths = [f"$.{name}" for name in fields]
    found = rows(file({name: value for name, (_, value, _) in fields.items()}, schema=schema), paths)
    assert dict(zip(fields, texts(found, paths)[0], strict=True)) == {name: said for name, (*_, said) in fields.items()}


def test_fields_within_others_are_found_and_whole_ones_are_json() -> None:
    inner = {"type": "record", "name": "Place", "fields": [{"name": "days", "type": logical("int", "date")}]}
    fields = [
        {"name": "places", "type": {"type": "array", "items": inner}},
        {"name": "by_name", "type": {"type": "map", "values": "Place"}},
    ]
    day = {"days": date(2026, 1, 2)}
    data = file({"places": [day, day], "by_name": {"north": day}}, schema=SCHEMA | {"fields": fields})
    paths = ["$.places[1].days", "$.by_name.north.days", "$.by_name", "$.by_name.south.days"]
    [found] = texts(rows(data, paths), paths)
    assert found == ("2026-01-02", "2026-01-02", '{"north":{"days":"2026-01-02"}}', None)


@pytest.mark.parametrize(("kind", "value"), [("timestamp-millis", 2**63 - 1), ("timestamp-micros", -(2**63))])
def test_a_time_that_no_calendar_has_is_a_broken_row(kind: str, value: int) -> None:
    schema = SCHEMA | {"fields": [{"name": "at", "type": logical("long", kind)}]}
    plain = SCHEMA | {"fields": [{"name": "at", "type": "long"}]}
    bodies = [body(plain, {"at": ms}) for ms in (0, value)]
    [found] = rows(by_hand((2, b"".join(bodies)), schema=json.dumps(schema).encode()), ["$.at"])
    assert (found.numbers.to_pylist(), [broken.number for broken in found.broken]) == ([0], [1])


def test_a_value_that_is_none_of_its_kind_is_a_broken_row_alone_with_its_bytes() -> None:
    at = logical("long", "timestamp-millis")
    schema = SCHEMA | {"fields": [{"name": "code", "type": "string"}, {"name": "at", "type": at}]}
    plain = SCHEMA | {"fields": [{"name": "code", "type": "bytes"}, {"name": "at", "type": "long"}]}
    written = [(b"s1", 20_000), (b"\xff", 20_000), (b"s2", 2**63 - 1), (b"s3", 20_000)]
    bodies = [body(plain, {"code": code, "at": ms}) for code, ms in written]
    [found] = rows(by_hand((4, b"".join(bodies)), schema=json.dumps(schema).encode()), ["$.code"])
    assert found.columns["$.code"].to_pylist() == ["s1", "s3"]
    assert [(each.number, each.original) for each in found.broken] == [(1, bodies[1]), (2, bodies[2])]
    assert found.original(1) == bodies[3]


def test_the_rest_of_a_block_that_does_not_fit_is_one_broken_row_and_the_next_block_is_read() -> None:
    good = body(SCHEMA, {"code": "s1", "stock": 5})
    bad = good + zigzag(2) + b"xy" + zigzag(7) + good
    found = rows(by_hand((3, bad), (2, good + good), (1, good + b"more")))
    assert [n for each in found for n in each.numbers.to_pylist()] == [0, 3, 4, 5]
    assert [(b.number, b.original) for each in found for b in each.broken] == [(1, bad[len(good) :]), (6, b"more")]


def test_rows_and_broken_ones_come_in_their_order_however_many_are_in_a_block() -> None:
    good, bad = body(SCHEMA, {"code": "s1", "stock": 5}), b"\x01"
    count = ROWS_AT_ONCE + 7
    found = rows(by_hand((count, good * count + bad), (count, good * count)), step=1 << 16)
    numbers = [[*each.numbers.to_pylist(), *(broken.number for broken in each.broken)] for each in found]
    assert [number for each in numbers for number in sorted(each)] == list(range(2 * count + 1))


def test_a_row_is_read_again_by_its_own_bytes_and_the_schema() -> None:
    [found] = rows(file({"code": "s1", "stock": 5}, {"code": "s2", "stock": 6}))
    [again] = read_again(found.head, found.original(1), AvroConfig(), PATHS)
    assert texts([again]) == [("s2", "6")]


GOOD = file({"code": "s1", "stock": 5})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "does not begin as a file of Avro"),
        (b"code,stock\ns1,5\n", "does not begin as a file of Avro"),
        (GOOD[:-20], "breaks off"),
        (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), "is not what it says"),
        (by_hand(codec="lz4"), "its codec 'lz4' is none of null, deflate, snappy"),
        (by_hand((1, b"no deflate"), codec="deflate"), "cannot be unpacked"),
        (by_hand((1 << 40, b"xx")), "is not what it says"),
        (by_hand((5, b"")), "is not what it says"),
        (MAGIC + b"\xff" * 30, "more than 10 bytes"),
        (MAGIC + zigzag(1 << 50), "its header is too large"),
        (MAGIC + zigzag(1) + zigzag(1 << 40), "at most"),
        (by_hand(schema=b"{"), "the schema cannot be used"),
        (by_hand(schema=b'{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}'), "holds itself"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes are drawn, and another worker's are others
)
def test_what_is_no_file_says_why(data: bytes, said: str) -> None:
    with pytest.raises(Rejected, match=said):
        rows(data)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused() -> None:
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(b"\0" * (BLOCK_BYTES_MAX + 1)) + packer.flush()
    with pytest.raises(Rejected, match="a block is larger than"):
        rows(by_hand((1, packed), codec="deflate"), step=1 << 20)


def test_many_rows_come_some_at_a_time() -> None:
    count = ROWS_AT_ONCE * 2 + 1
    found = rows(file(*({"code": f"s{n}", "stock": n} for n in range(count))), step=1 << 16)
    assert [len(each.numbers) for each in found] == [ROWS_AT_ONCE] * 2 + [1]
    assert texts(found)[-1] == (f"s{count - 1}", str(count - 1))
    assert found[0].names is not None
    assert set(found[0].names.counts) == {"$.code", "$.stock"}


async def test_files_of_a_folder_are_read_and_a_bad_row_is_a_dead_letter(running: Running, tmp_path: Any) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "stock.avro").write_bytes(file({"code": "s1", "stock": 5}, {"code": "s2", "stock": None}))
    mapping = {"version": 1, "sku": "$.code", "quantity": "$.stock"}
    running.configure("acme", stock=csv_feed(folder, format={"format": "avro"}, mapping=mapping))
    async with running:
        updates = await running.until_updates(1)
        await running.until(lambda: len(running.letters()) == 1)
    assert units(updates) == {"s1": 5}
    assert running.letters()[0].value() == body(SCHEMA, {"code": "s2", "stock": None})


def test_a_format_of_messages_wants_a_source_of_messages(running: Running, tmp_path: Any) -> None:
    format_ = {"format": "avro", "schema_file": str(tmp_path / "stock.avsc")}
    mapping = {"version": 1, "sku": "$.value.code", "quantity": "$.value.stock"}
    running.configure("acme", stock=csv_feed(tmp_path, format=format_, mapping=mapping))
    [fault] = load(running.folder, kinds()).faults
    assert "reads messages of a source with each: record" in str(fault)
