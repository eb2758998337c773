"""One update at a time: 202 means that Kafka has it, and every refusal is a problem that names what to mend."""

from __future__ import annotations

import asyncio
import gzip

import orjson
import pytest
from aiohttp import ClientResponse
from yarl import URL

from schemas.keys import partition_of
from stockweave.errors import Fatal
from tests.connectors.service import AT_MS, JSON, NOW_MS, Service, fields, line, records
from tests.deployment import Deployment

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def problem(response: ClientResponse, status: int) -> dict[str, object]:
    body = orjson.loads(await response.read())
    assert response.status == status, body
    assert response.content_type == "application/problem+json"
    assert body["status"] == status
    assert {"type", "title", "detail"} <= set(body)
    assert isinstance(body, dict)
    return body


async def test_what_was_answered_202_lies_in_kafka_where_the_answer_says(
    push: Service, push_deployment: Deployment
) -> None:
    sent = fields(updateId="one", kind="DELTA", quantity=-3, location="north", orderRef="o-7")
    response = await push.post("inventory-update", orjson.dumps(sent), "Ünïque supplier", JSON | {"traceparent": TRACE})
    assert response.status == 202
    answer = await response.json()
    [record] = (await asyncio.to_thread(records, push_deployment))["one"]
    assert answer == {
        "topic": push.publisher.topic,
        "partition": record.pop("partition"),
        "offset": record.pop("offset"),
        "token": f"{answer['partition']}-{answer['offset']}",
    }
    assert record.pop("headers") == [("traceparent", TRACE.encode())]
    assert record == {
        "sku": sent["sku"],
        "supplier_id": "Ünïque supplier",
        "location_id": "north",
        "update_id": "one",
        "kind": "DELTA",
        "quantity": -3,
        "observed_at": AT_MS + 1,
        "received_at": NOW_MS,
        "basis": "ON_HAND",
        "order_ref": "o-7",
        "incoming": [],
        "stale_after_ms": None,
        "feed": "push",
    }
    assert answer["partition"] == partition_of(sent["sku"].encode(), push_deployment.base.partitions)


async def test_a_malformed_trace_is_left_out(push: Service, push_deployment: Deployment) -> None:
    response = await push.post(
        "inventory-update", line(updateId="untraced"), headers=JSON | {"traceparent": "nonsense"}
    )
    assert response.status == 202
    [record] = (await asyncio.to_thread(records, push_deployment))["untraced"]
    assert record["headers"] is None


async def test_every_fault_is_listed_with_its_field(push: Service) -> None:
    body = await problem(await push.one(sku="", quantity=1.5, timestamp=AT_MS, upDateId="x"), 422)
    errors = body["errors"]
    assert isinstance(errors, list)
    assert {error["field"] for error in errors} == {"sku", "quantity", "updateId", "upDateId"}
    assert all(error["reason"] and error["detail"] for error in errors)


async def test_one_fault_is_the_problem_itself(push: Service) -> None:
    body = await problem(await push.one(**fields(quantity=-1)), 422)
    assert body["field"] == "quantity"
    assert body["reason"] == "out_of_range"


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"\xff\xfe", b'{"sku":"a"} {"sku":"b"}'])
async def test_what_is_not_json_is_400(push: Service, body: bytes) -> None:
    await problem(await push.post("inventory-update", body, headers=JSON), 400)


@pytest.mark.parametrize("body", [b"[]", b"3", b"null"])
async def test_what_is_json_but_no_object_is_422(push: Service, body: bytes) -> None:
    await problem(await push.post("inventory-update", body, headers=JSON), 422)


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({}, "Content-Type"),
        ({"Content-Type": "text/plain"}, "Content-Type"),
        ({"Content-Type": "application/x-ndjson"}, "Content-Type"),
        ({"Content-Type": "application/json; charset=latin1"}, "Content-Type"),
        (JSON | {"Content-Encoding": "compress"}, "Content-Encoding"),
    ],
)
async def test_another_type_or_encoding_is_415(push: Service, headers: dict[str, str], field: str) -> None:
    body = await problem(await push.post("inventory-update", line(), headers=headers), 415)
    assert body["field"] == field


async def test_a_body_over_the_limit_is_413(push: Service) -> None:
    body = await problem(await push.one(**fields(sku="x" * 2_000)), 413)
    assert "2000 bytes" in str(body["detail"])


async def test_a_packed_body_is_refused_whatever_is_in_it(push: Service) -> None:
    for packed in (gzip.compress(line()), gzip.compress(b" " * 5_000_000)):
        await problem(await push.post("inventory-update", packed, headers=JSON | {"Content-Encoding": "gzip"}), 415)
    assert (await push.one(**fields())).status == 202


@pytest.mark.parametrize("supplier", ["a%0Ab", "x" * 129, "%20a", "a%1Fb"])
async def test_a_supplier_that_is_no_id_is_422(push: Service, supplier: str) -> None:
    url = f"/api/v1/suppliers/{supplier}/inventory-update"
    response = await push.client.post(URL(url, encoded=True), data=line(), headers=JSON)
    assert (await problem(response, 422))["field"] == "supplierId"


async def test_another_method_is_405_and_says_which_is_allowed(push: Service) -> None:
    response = await push.client.get("/api/v1/suppliers/acme/inventory-update")
    await problem(response, 405)
    assert response.headers["Allow"] == "POST"


async def test_a_defect_is_a_logged_500_without_internals(
    push: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise Fatal("the secret inside")

    monkeypatch.setattr(push.publisher, "publish", fail)
    response = await push.one(**fields())
    body = await problem(response, 500)
    assert "secret" not in str(body)
    assert "the secret inside" in caplog.text
