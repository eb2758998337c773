"""Batches: every line is accepted or listed with its number, at any length, in bounded memory."""

from __future__ import annotations

import asyncio
import gzip
import time
from codecs import BOM_UTF8
from typing import Any

import orjson
import pytest

from connectors.push import batch as batch_module
from connectors.push.models import InventoryUpdate
from connectors.push.validation import Fault, from_object
from stockweave.metrics import PUSHED_UPDATES
from tests.connectors.service import JSON, NDJSON, Service, StoppedClock, fields, line, records
from tests.deployment import Deployment


def counted() -> list[float]:
    [family] = PUSHED_UPDATES.collect()
    samples = {s.labels["result"]: s.value for s in family.samples if s.name.endswith("_total")}
    return [samples["accepted"], samples["rejected"], samples["in_doubt"]]


async def test_a_batch_of_good_lines_is_202_and_all_of_it_is_in_kafka(
    push: Service, push_deployment: Deployment
) -> None:
    before = counted()
    response = await push.ndjson(*(line(i, updateId=f"good-{i}") for i in range(3_000)))
    answer = await response.json()
    assert response.status == 202, answer
    token = answer.pop("token")
    assert answer == {"received": 3_000, "accepted": 3_000, "rejected": 0, "inDoubt": 0, "errors": []}
    found = await asyncio.to_thread(records, push_deployment)
    mine = [record for update_id, one in found.items() if update_id.startswith("good-") for record in one]
    assert len(mine) == 3_000
    highest: dict[int, int] = {}
    for record in mine:
        highest[record["partition"]] = max(record["offset"], highest.get(record["partition"], -1))
    assert token == ",".join(f"{partition}-{offset}" for partition, offset in sorted(highest.items()))
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [3_000, 0, 0]


async def test_a_batch_leaves_most_of_the_time_to_others_who_are_in_a_hurry(push: Service) -> None:
    def read(number: int) -> InventoryUpdate | Fault | None:
        time.sleep(0.01)  # work, of which the loop's thread has nothing else
        return from_object(fields(number, updateId=f"yielding-{number}"))

    one = batch_module.Batch(push.publisher, "acme", StoppedClock().now_ms, None, 1.0, lambda: True)
    began_s = time.monotonic()
    assert await one.take(1, range(5), read)
    took_s = time.monotonic() - began_s
    await one.settle()
    one.close()
    assert one.accepted == 5
    assert took_s >= 0.05 * (1 + batch_module.REST) > 0.2


async def test_failed_lines_are_listed_with_their_numbers_and_the_others_are_in_kafka(
    push: Service, push_deployment: Deployment
) -> None:
    lines = [
        line(1, updateId="mixed-1"),
        b"{nonsense",
        b"",
        b"   \r",
        line(2, updateId="mixed-2") + b"\r",
        line(3, quantity=-5),
        line(4, updateId="mixed-4", sku="x" * 2_500),
        b"3",
        line(5, sku="", kind="X"),
        line(6, updateId="mixed-6"),
        b"",
    ]
    response = await push.ndjson(*lines)
    answer = await response.json()
    assert response.status == 207
    assert (answer["received"], answer["accepted"], answer["rejected"], answer["inDoubt"]) == (8, 3, 5, 0)
    assert [(error["line"], error["reason"], error["field"]) for error in answer["errors"]] == [
        (2, "malformed_json", None),
        (6, "out_of_range", "quantity"),
        (7, "line_too_long", None),
        (8, "not_an_object", None),
        (9, "invalid_id", "sku"),
    ]
    assert "kind is none of" in answer["errors"][4]["detail"], "the second fault of the line"
    found = await asyncio.to_thread(records, push_deployment)
    assert {update_id for update_id in found if update_id.startswith("mixed-")} == {"mixed-1", "mixed-2", "mixed-6"}


async def test_an_array_is_the_same_as_lines(push: Service) -> None:
    items: list[Any] = [fields(1), fields(2, quantity=1.5), None, {}, fields(3)]
    response = await push.array(items)
    answer = await response.json()
    assert response.status == 207
    assert (answer["received"], answer["accepted"], answer["rejected"]) == (5, 2, 3)
    assert [error["line"] for error in answer["errors"]] == [2, 3, 4]
    assert answer["token"]


async def test_a_batch_of_which_every_line_fails_has_no_token(push: Service) -> None:
    response = await push.ndjson(b"x", b"y")
    answer = await response.json()
    assert response.status == 207
    assert (answer["accepted"], answer["rejected"], answer["token"]) == (0, 2, None)


@pytest.mark.parametrize(("body", "headers"), [(b"[]", JSON), (b"", NDJSON), (b"\n \n\r\n", NDJSON)])
async def test_an_empty_batch_is_422(push: Service, body: bytes, headers: dict[str, str]) -> None:
    response = await push.post("inventory-batch-update", body, headers=headers)
    assert response.status == 422
    assert (await response.json())["reason"] == "empty_batch"


@pytest.mark.parametrize(("body", "status"), [(b"[1,", 400), (b"", 400), (b"[NaN]", 400), (b"{}", 422)])
async def test_an_array_that_is_none_is_refused_whole(push: Service, body: bytes, status: int) -> None:
    response = await push.post("inventory-batch-update", body, headers=JSON)
    assert response.status == status
    assert response.content_type == "application/problem+json"


async def test_an_array_over_the_limit_is_413_and_lines_of_that_size_are_not(push: Service) -> None:
    items = [fields(i) for i in range(4_000)]
    assert (await push.array(items)).status == 413
    assert (await push.ndjson(*map(orjson.dumps, items))).status == 202


async def test_packed_lines_are_refused_as_nobody_could_tell_that_they_break_off(push: Service) -> None:
    packed = gzip.compress(b"\n".join(line(i) for i in range(200)))
    response = await push.post("inventory-batch-update", packed, headers=NDJSON | {"Content-Encoding": "gzip"})
    assert response.status == 415
    assert (await response.json())["reason"] == "unsupported_encoding"


async def test_a_byte_order_mark_before_lines_or_an_array_is_no_fault(push: Service) -> None:
    lines = await push.post("inventory-batch-update", BOM_UTF8 + line(1) + b"\n" + line(2), headers=NDJSON)
    assert (lines.status, (await lines.json())["accepted"]) == (202, 2)
    array = BOM_UTF8 + b"[" + line(3) + b"]"
    taken = await push.post("inventory-batch-update", array, headers={"Content-Type": "application/json"})
    assert (taken.status, (await taken.json())["accepted"]) == (202, 1)


def _wait_for(deployment: Deployment, update_id: str) -> None:
    deadline = time.monotonic() + 10
    while update_id not in records(deployment):
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_a_sender_that_goes_away_leaves_no_error_behind(
    push: Service, push_deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    assert push.client.port is not None
    _, writer = await asyncio.open_connection("127.0.0.1", push.client.port)
    head = "POST /api/v1/suppliers/acme/inventory-batch-update HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
    writer.write(head.encode() + b"Content-Type: application/x-ndjson\r\n\r\n" + line(1, updateId="half-sent") + b"\n")
    await writer.drain()
    await asyncio.to_thread(_wait_for, push_deployment, "half-sent")
    writer.transport.abort()
    assert (await push.ndjson(line(2))).status == 202
    await asyncio.sleep(0.1)
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


async def test_too_many_failing_lines_end_the_batch_with_an_account(
    push: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "ERRORS_BYTES_MAX", 100_000)
    response = await push.ndjson(*[b"x"] * 20_000)
    answer = await response.json()
    assert response.status == 422
    assert answer["reason"] == "too_many_errors"
    assert answer["rejected"] == answer["lastLine"] == len(answer["errors"]) < 20_000
