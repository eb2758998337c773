"""Many calls in one, and the reservations of an order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.reservations import routes
from tests.api.reservations.shop import BATCH, RESERVATIONS, RESERVE, Shop
from tests.api.stock import row


def short(sku: str, quantity: int = 1, **more: Any) -> dict[str, Any]:
    return {"sku": sku, "quantity": quantity, "orderId": "o-batch"} | more


def whole(sku: str, quantity: int = 1, **more: Any) -> dict[str, Any]:
    return {"order_id": "o-batch", "lines": [{"sku": sku, "quantity": quantity}]} | more


async def batch(shop: Shop, *entries: object, key: str | None = None) -> list[dict[str, Any]]:
    told = await shop.post(BATCH, {"reservations": entries}, 200, key)
    results: list[dict[str, Any]] = told.body["results"]
    return results


async def test_each_entry_is_answered_as_its_own_call_would_be(shop: Shop) -> None:
    await shop.stocked("b-own", acme=5)
    entries: list[Any] = [
        short("b-own", 2, idempotency_key="b-1"), whole("b-own", 1, idempotency_key="b-2"),
        short("b-own", 9, idempotency_key="b-3"), short("b-nothing", 1, idempotency_key="b-4"),
        short("b-own", 1, idempotency_key="b-1"), short("b-own", 0), {"sku": "b-own"}, 7, short("", 1),
        whole("b-own", 1, idempotency_key="a b"),
    ]  # fmt: skip
    results = await batch(shop, *entries)
    assert [r["status"] for r in results] == [201, 201, 409, 404, 409, 422, 422, 422, 422, 422]
    assert results[4]["body"]["code"] == "IDEMPOTENCY_CONFLICT"
    assert results[9]["body"]["field"] == "idempotency_key"
    for entry, result in list(zip(entries, results, strict=True))[:5]:
        key = entry.pop("idempotency_key")
        path = RESERVATIONS if "lines" in entry else RESERVE
        assert (await shop.post(path, entry, result["status"], key)).body == result["body"]
    assert await shop.available("b-own") == 2


async def test_entries_are_decided_in_their_order_and_none_waits_for_another(shop: Shop) -> None:
    await shop.stocked("b-order", acme=3)
    results = await batch(shop, *(short("b-order") for _ in range(5)))
    assert [r["status"] for r in results] == [201, 201, 201, 409, 409]


async def test_a_batch_that_comes_again_with_its_key_reserves_nothing_more(shop: Shop) -> None:
    await shop.stocked("b-again", acme=9)
    entries = [short("b-again"), short("b-again"), whole("b-again", 2)]
    first = await batch(shop, *entries, key="b-key")
    assert await batch(shop, *entries, key="b-key") == first
    assert len({r["body"]["reservation_id"] for r in first}) == 3
    assert await shop.available("b-again") == 5


async def test_a_thousand_entries_are_taken_and_no_more(shop: Shop) -> None:
    skus = [f"b-many-{n}" for n in range(50)]
    token = shop.worker.stock(*(row(sku, acme=100) for sku in skus))
    await shop.reader.item(skus[0], min_offset=token)
    results = await batch(shop, *(short(skus[n % 50]) for n in range(1_000)))
    assert {r["status"] for r in results} == {201}
    assert len({r["body"]["reservation_id"] for r in results}) == 1_000
    for wrong in ([short("a")] * 1_001, []):
        problem = (await shop.post(BATCH, {"reservations": wrong}, 422)).body
        assert problem["field"] == "reservations"


async def test_a_batch_of_what_cannot_be_used_asks_nobody(shop: Shop) -> None:
    commands = len(shop.worker.commands)
    assert [r["status"] for r in await batch(shop, {}, [], None)] == [422, 422, 422]
    assert len(shop.worker.commands) == commands


@pytest.mark.parametrize(("body", "status"), [(b"", 400), (b"{}", 422), (b'{"reservations": [' + b"[" * 9_000, 400)])
async def test_a_body_that_is_no_batch_is_refused(shop: Shop, body: bytes, status: int) -> None:
    await shop.post(BATCH, body, status)


async def test_an_entry_that_holds_itself_too_deep_is_refused_alone(shop: Shop) -> None:
    await shop.stocked("b-deep", acme=3)
    deep = b'{"x":' + b"[" * 900 + b"]" * 900 + b"}"
    told = await shop.post(
        BATCH, b'{"reservations": [' + deep + b', {"sku":"b-deep","quantity":1,"orderId":"o"}]}', 200
    )
    assert [r["status"] for r in told.body["results"]] == [422, 201]


async def test_what_of_a_batch_is_not_decided_in_time_says_so_and_the_rest_is_answered(impatient: Shop) -> None:
    shop, stock = impatient, impatient.worker._stock
    skus = [next(f"b-half-{n}" for n in range(999) if stock.partition(f"b-half-{n}") == number) for number in (0, 1)]
    for sku in skus:
        await shop.stocked(sku, acme=5)
    with shop.worker.only(partition=0):
        results = await batch(shop, *(short(sku) for sku in skus), key="b-half")
    assert [r["status"] for r in results] == [201, 503]
    assert "same Idempotency-Key" in results[1]["body"]["detail"]
    async with asyncio.timeout(10):
        while [r["status"] for r in await batch(shop, *(short(sku) for sku in skus), key="b-half")] != [201, 201]:
            pass
    assert [await shop.available(sku) for sku in skus] == [4, 4]


async def test_an_order_tells_its_reservations_in_every_partition_and_no_other_orders(shop: Shop) -> None:
    skus = [f"b-list-{n}" for n in range(8)]
    for sku in skus:
        await shop.stocked(sku, acme=5)
    mine = [await shop.reserve(sku, order_id="o-list") for sku in skus]
    for other in ("o-lis", "o-list2", "o-list x"):
        await shop.reserve(skus[0], order_id=other)
    refused = {"order_id": "o-list", "lines": [{"sku": skus[0], "quantity": 9}]}
    await shop.post(RESERVATIONS, refused, 409)
    told = await shop.get(RESERVATIONS, order_id="o-list")
    assert not told["more"]
    assert {shop.worker._stock.partition(sku) for sku in skus} == {0, 1, 2}
    assert [r["lines"][0]["sku"] for r in told["reservations"]] == sorted([*skus, skus[0]])
    assert [r for r in told["reservations"] if r["state"] == "HELD"] == mine
    assert await shop.get(RESERVATIONS, order_id="o-nothing") == {"reservations": [], "more": False}


async def test_of_a_very_long_order_a_part_is_told_and_that_there_is_more(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.stocked("b-long", acme=5)
    for _ in range(3):
        await shop.reserve("b-long", order_id="o-long")
    for most, told, more in ((2, 2, True), (3, 3, False)):
        monkeypatch.setattr(routes, "OF_ORDER_MAX", most)
        answer = await shop.get(RESERVATIONS, order_id="o-long")
        assert (len(answer["reservations"]), answer["more"]) == (told, more)


async def test_the_order_has_to_be_named(shop: Shop) -> None:
    for query in ({}, {"order_id": ""}, {"order_id": "o", "state": "HELD"}):
        assert "field" in await shop.get(RESERVATIONS, 422, **query)
