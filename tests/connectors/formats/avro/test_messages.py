"""Laws of messages of Avro: each is a row by the schema that it names, or is broken, by itself and with its bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.formats.avro.config import AvroConfig
from connectors.formats.envelopes import message, packed, unpacked
from connectors.formats.reader import read, read_again
from connectors.formats.rows import Rows
from schemas.codec import FRAME
from stockweave.errors import Rejected, Retriable
from tests.connectors.formats.avro.test_container import SCHEMA, body, texts

OLDER = SCHEMA | {"fields": [{"name": "stock", "type": "int"}, {"name": "code", "type": "string"}]}
PATHS = ["$.value.code", "$.value.stock", "$.key"]


def document(*values: bytes) -> bytes:
    return b"".join(packed({"key": f"k{n}", "id": f"t-{n}"}, value) for n, value in enumerate(values))


def written(folder: Path) -> dict[int, str]:
    """Schemas 1 and 2, in files."""
    files = {1: folder / "one.avsc", 2: folder / "two.avsc"}
    files[1].write_text(json.dumps(SCHEMA))
    files[2].write_text(json.dumps(OLDER))
    return {schema_id: str(file) for schema_id, file in files.items()}


def rows(config: AvroConfig, *values: bytes) -> list[Rows]:
    return list(read([document(*values)], config, PATHS))


def one(n: int, code: str = "s") -> bytes:
    return body(SCHEMA, {"code": f"{code}{n}", "stock": n})


@settings(deadline=None)
@given(st.lists(st.tuples(st.dictionaries(st.text(), st.text()), st.binary())), st.integers(1, 20))
def test_what_is_unpacked_is_what_was_packed(given_: list[tuple[dict[str, str], bytes]], step: int) -> None:
    data = b"".join(packed(about, value) for about, value in given_)
    pieces = unpacked(data[n : n + step] for n in range(0, len(data), step))
    assert [tuple(message(piece)) for piece in pieces] == given_


@pytest.mark.parametrize("data", [b"\0\0\0", b"\0\0\0\x09{}\n", b"\0\0\0\x02{}", b"\0\0\0\x03[]\n"])
def test_what_is_no_document_of_messages_is_refused(data: bytes) -> None:
    with pytest.raises(Rejected, match="have the feed read it again"):
        [message(piece) for piece in unpacked([data])]


def test_each_message_is_a_row_by_the_schema_of_all_or_the_one_that_it_names(tmp_path: Path) -> None:
    files = written(tmp_path)
    [found] = rows(AvroConfig(schema_file=files[1]), one(1), one(2))
    assert texts([found], PATHS) == [("s1", "1", "k0"), ("s2", "2", "k1")]
    older = FRAME.pack(0, 2) + body(OLDER, {"code": "s3", "stock": 3})
    framed = [FRAME.pack(0, 1) + one(1), older, FRAME.pack(0, 1) + one(2)]
    [found] = rows(AvroConfig(schema_files=files), *framed)
    assert texts([found], PATHS) == [("s1", "1", "k0"), ("s3", "3", "k1"), ("s2", "2", "k2")]
    assert found.names is not None
    assert set(found.names.counts) == {"$.value.code", "$.value.stock", "$.key", "$.id"}


def test_a_broken_message_takes_no_other_with_it_and_keeps_its_bytes(tmp_path: Path) -> None:
    good, frame = FRAME.pack(0, 1) + one(1), FRAME.pack(0, 1)
    bad = {
        b"": "begins with ''",
        b"\0\0": "begins with '0000'",
        b'{"code":"s1"}': "not with 00 and the id of its schema",
        FRAME.pack(0, 9) + one(1): "schema id 9: it is not among schema_files",
        frame: "ends too early",
        frame + one(1)[:-1]: "ends too early",
        frame + one(1) + b"x": "1 bytes follow it",
        frame + b"\x02\xff\0": "UnicodeDecodeError",
        b"\x01" + good[1:]: "begins with '0100000001'",
    }
    values = [value for each in bad for value in (good, each)]
    [found] = rows(AvroConfig(schema_files=written(tmp_path)), *values)
    assert len(found.numbers) == len(bad)
    assert [(each.number, message(each.original).value) for each in found.broken] == [
        (2 * n + 1, value) for n, value in enumerate(bad)
    ]
    for each, said in zip(found.broken, bad.values(), strict=True):
        assert said in each.detail


def test_a_message_is_read_again_by_its_own_bytes(tmp_path: Path) -> None:
    config = AvroConfig(schema_files=written(tmp_path))
    [found] = rows(config, FRAME.pack(0, 1) + one(1), FRAME.pack(0, 1) + one(2))
    [again] = read_again(found.head, found.original(1), config, PATHS)
    assert texts([again], PATHS) == [("s2", "2", "k1")]


def test_a_message_cannot_say_what_is_beside_it(tmp_path: Path) -> None:
    schema = SCHEMA | {"fields": [{"name": "key", "type": "string"}]}
    (tmp_path / "s.avsc").write_text(json.dumps(schema))
    [found] = rows(AvroConfig(schema_file=str(tmp_path / "s.avsc")), body(schema, {"key": "mine"}))
    assert found.columns["$.key"].to_pylist() == ["k0"]


def test_a_schema_file_that_is_changed_holds_for_the_next_document_and_one_that_is_gone_is_waited_for(
    tmp_path: Path,
) -> None:
    file = tmp_path / "s.avsc"
    config = AvroConfig(schema_file=str(file))
    with pytest.raises(Retriable, match=r"s\.avsc cannot be read \(FileNotFoundError\); mend the file"):
        rows(config, one(1))
    file.write_text(json.dumps(OLDER))
    assert rows(config, one(1))[0].broken
    file.write_text(json.dumps(SCHEMA))
    assert not rows(config, one(1))[0].broken
    file.write_text("{")
    with pytest.raises(Rejected, match="the schema cannot be used"):
        rows(config, one(1))


@pytest.mark.parametrize("schema", ['"string"', '{"type":"array","items":"long"}'])
def test_what_is_no_record_is_a_broken_row(schema: str, tmp_path: Path) -> None:
    (tmp_path / "s.avsc").write_text(schema)
    [found] = rows(AvroConfig(schema_file=str(tmp_path / "s.avsc")), b"\0")
    assert "the schema is of no record" in found.broken[0].detail


@settings(deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=30))
def test_whatever_a_message_is_it_is_a_row_or_is_broken(values: Sequence[bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        config = AvroConfig(schema_file=written(Path(folder))[1])
        found = rows(config, *values)
    numbers = [n for each in found for n in [*each.numbers.to_pylist(), *(b.number for b in each.broken)]]
    assert sorted(numbers) == list(range(len(values)))
