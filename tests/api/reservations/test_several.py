"""Reservations of several SKUs: all lines or none, told as one, and changed line by line."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.reservations.shop import BATCH, RESERVATIONS, Shop

Asked = dict[str, Any]
TRIES_MAX = 1_000


def asked(*lines: tuple[str, int], **more: Any) -> Asked:
    return {"order_id": "o-several", "lines": [{"sku": sku, "quantity": n} for sku, n in lines]} | more


async def several(shop: Shop, name: str, *units: int, status: int = 201, key: str | None = None, **more: Any) -> Any:
    """Reserve so many units of each of several SKUs, of which there are five."""
    lines = [(f"{name}-{n}", quantity) for n, quantity in enumerate(units)]
    for sku, _ in lines:
        if sku not in shop.worker.rows:
            await shop.stocked(sku, acme__north=3, acme__south=2)
    return (await shop.post(RESERVATIONS, asked(*lines, **more), status, key)).body


async def has(shop: Shop, sku: str, units: int) -> None:
    """Wait until a SKU has so many units: what lines are asked once a reservation is decided is done a moment later."""
    for _ in range(TRIES_MAX):
        if await shop.available(sku) == units:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{sku} never has {units} units")


async def test_all_lines_are_held_and_told_as_one(shop: Shop) -> None:
    told = await several(shop, "s-all", 1, 2, 5, 1)
    assert told["state"] == "HELD"
    assert [line["reserved_quantity"] for line in told["lines"]] == [1, 2, 5, 1]
    assert [await shop.available(f"s-all-{n}") for n in range(4)] == [4, 3, 0, 4]
    read = await shop.get(f"{RESERVATIONS}/{told['reservation_id']}")
    assert [step["fact"] for step in read["history"]] == ["BEGUN", "HELD"]
    of_order = await shop.get(RESERVATIONS, order_id="o-several")
    assert told["reservation_id"] in [each["reservation_id"] for each in of_order["reservations"]]


async def test_where_one_line_lacks_nothing_is_held_and_it_is_told_what_is_left(shop: Shop) -> None:
    problem = await several(shop, "s-lack", 1, 6, 2, status=409)
    assert (problem["code"], problem["lines"]) == ("SOLD_OUT", [{"sku": "s-lack-1", "left": 5}])
    for n in range(3):
        await has(shop, f"s-lack-{n}", 5)
    lines = asked(("s-lack-0", 1), ("s-never-heard-of", 1))
    problem = (await shop.post(RESERVATIONS, lines, 404)).body
    assert (problem["code"], problem["sku"]) == ("UNKNOWN_SKU", "s-never-heard-of")


async def test_with_allow_partial_what_there_is_is_held(shop: Shop) -> None:
    told = await several(shop, "s-some", 1, 6, allow_partial=True)
    assert [line["reserved_quantity"] for line in told["lines"]] == [1, 5]


async def test_a_repeat_gets_the_first_answer_and_another_request_a_conflict(shop: Shop) -> None:
    first = await several(shop, "s-again", 1, 2, key="again")
    assert await several(shop, "s-again", 1, 2, key="again") == first
    problem = await several(shop, "s-again", 1, 3, status=409, key="again")
    assert problem["code"] == "IDEMPOTENCY_CONFLICT"
    assert await shop.available("s-again-0") == 4


async def test_lines_of_one_sku_are_added_up(shop: Shop) -> None:
    await shop.stocked("s-sum", acme=5)
    told = (await shop.post(RESERVATIONS, asked(("s-sum", 1), ("s-sum", 2)), 201)).body
    assert [line["quantity"] for line in told["lines"]] == [3]
    lines = asked(("s-sum", 1), ("s-sum", 2))
    lines["lines"][1]["location"] = "default"
    problem = (await shop.post(RESERVATIONS, lines, 409)).body
    assert (problem["code"], problem["field"]) == ("LINE_MISMATCH", "lines.1")


async def test_commit_ship_and_give_back_line_by_line(shop: Shop) -> None:
    own_id = (await several(shop, "s-ship", 2, 2, 2))["reservation_id"]
    told = await shop.change(own_id, "commit")
    assert told["state"] == "COMMITTED"
    assert {part["standing"] for line in told["lines"] for part in line["parts"]} == {"committed"}
    lines = [{"sku": "s-ship-0"}, {"sku": "s-ship-1", "quantity": 1}]
    told = await shop.change(own_id, "fulfil", lines=lines)
    assert [line["fulfilled_quantity"] for line in told["lines"]] == [2, 1, 0]
    problem = await shop.change(own_id, "fulfil", 409, lines=lines)
    assert (problem["code"], problem["state"], problem["open"]) == ("INVALID_STATE", "COMMITTED", 3)
    told = await shop.change(own_id, "release", lines=[{"sku": "s-ship-2"}])
    await has(shop, "s-ship-2", 5)
    told = await shop.change(own_id, "fulfil")
    assert (told["state"], told["ended_at"] is None) == ("FULFILLED", False)


async def test_a_line_is_transferred_or_stays_where_it_was(shop: Shop) -> None:
    own_id = (await several(shop, "s-move", 2, 1))["reservation_id"]
    told = await shop.change(own_id, "transfer", sku="s-move-0", to_location="south")
    assert [part["location_id"] for part in told["lines"][0]["parts"]] == ["south"]
    problem = await shop.change(own_id, "transfer", 409, sku="s-move-0", to_location="mars")
    assert (problem["code"], "mars" in problem["detail"]) == ("INVALID_STATE", True)
    one = (await shop.reserve("s-move-1", 2, location="north"))["reservation_id"]
    told = await shop.change(one, "transfer", to_location="south", quantity=1)
    assert {p["location_id"]: p["quantity"] for p in told["lines"][0]["parts"]} == {"north": 1, "south": 1}


@pytest.mark.parametrize(
    ("action", "body", "field"),
    [
        ("fulfil", {"quantity": 1}, "quantity"),
        ("release", {"location": "north"}, "location"),
        ("transfer", {"to_location": "north"}, "sku"),
        ("release", {"lines": [{"sku": "a"}, {"sku": "a"}]}, "lines.1"),
    ],
)
async def test_what_does_not_say_its_line_is_refused_with_the_way_to_ask(
    shop: Shop, action: str, body: Asked, field: str
) -> None:
    own_id = (await several(shop, "s-which", 1, 1))["reservation_id"]
    problem = await shop.change(own_id, action, 409, **body)
    assert (problem["code"], problem["field"]) == ("LINE_MISMATCH", field)
    await shop.change(own_id, "release")


async def test_a_batch_may_hold_several_of_several(shop: Shop) -> None:
    for sku in ("s-batch-0", "s-batch-1"):
        await shop.stocked(sku, acme=2)
    pair = asked(("s-batch-0", 1), ("s-batch-1", 1))
    alone = {"sku": "s-batch-0", "quantity": 1, "orderId": "o-2"}
    told = (await shop.post(BATCH, {"reservations": [pair, pair, alone]}, 200)).body["results"]
    assert sorted(result["status"] for result in told) == [201, 201, 409]
    assert await shop.available("s-batch-0") == 0
