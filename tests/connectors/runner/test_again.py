"""Rows of letters, read once more: together they come to what they come to one by one, or are not read together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connectors.configuration.load import Feed, load
from connectors.kinds import kinds
from connectors.mapping.mapper import Mapper
from connectors.runner.again import once_more, together
from connectors.runner.letters import HEAD, OBSERVED_AT, ORIGIN, RECEIVED_AT, ROW
from tests.connectors.running import csv_feed

AT = b"1790000000000"


def feed_of(tmp_path: Path, form: dict[str, Any], prefix: str) -> Feed:
    mapping = {"version": 1, "sku": f"{prefix}code", "quantity": f"{prefix}stock"}
    config = {"supplier": "acme", "feeds": {"stock": csv_feed(tmp_path, format=form, mapping=mapping)}}
    (tmp_path / "acme.yaml").write_text(json.dumps(config))
    return load(tmp_path, kinds()).feeds["acme/stock"]


def letters(head: bytes, *originals: bytes) -> list[tuple[dict[str, bytes], bytes | None]]:
    told = {ORIGIN: b"x", OBSERVED_AT: AT, RECEIVED_AT: AT, HEAD: head}
    return [(told | {ROW: b"%d" % (7 * n)}, original) for n, original in enumerate(originals)]


@pytest.mark.parametrize(
    ("form", "prefix", "some"),
    [
        ({"format": "csv"}, "", letters(b"code,stock\n", b"a,1", b'"b ""c""",2', b"d,3")),
        ({"format": "csv", "delimiter": ";", "encoding": "utf-8"}, "", letters(b"code;stock\n", "é;1".encode())),
        ({"format": "json"}, "$.", letters(b"", b'{"code": "a", "stock": 1}', b'{"stock":2,"code":"b"}')),
        ({"format": "ndjson"}, "$.", letters(b"", b'{"code": "a", "stock": 1}\r', b' {"stock":2,"code":"b"}')),
    ],
)
def test_rows_together_come_to_what_they_come_to_one_by_one(
    tmp_path: Path, form: dict[str, Any], prefix: str, some: list[tuple[dict[str, bytes], bytes | None]]
) -> None:
    feed = feed_of(tmp_path, form, prefix)
    mapper = Mapper(feed.config.mapping, "acme", "acme/stock")
    singly = [once_more(headers, original, feed, mapper) for headers, original in some]
    assert together(some, feed, mapper) == pa.Table.from_batches(singly).combine_chunks().to_batches()[0]


@pytest.mark.parametrize(
    "some",
    [
        letters(b"code,stock\n", b"a,1", b"b,many"),
        letters(b"code,stock\n", b"a,1", b'"b\nc",2'),
        letters(b"code,stock\n", b"a,1", b""),
        letters(b"code,stock\n", b"a,1", b"b,2,3"),
        letters(b"code\n", b"a", b"b"),
        [({ROW: b"1"}, b"a,1")],
    ],
)
def test_rows_that_cannot_be_read_together_are_not(
    tmp_path: Path, some: list[tuple[dict[str, bytes], bytes | None]]
) -> None:
    feed = feed_of(tmp_path, {"format": "csv"}, "")
    assert together(some, feed, Mapper(feed.config.mapping, "acme", "acme/stock")) is None
