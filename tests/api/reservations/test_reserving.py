"""Calls that reserve: what is held, what is refused and why, and that a repeat changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from api.answers import Answers
from inventory.policies import Policies
from schemas.policies import Policy
from schemas.rows import Open
from tests.api.reservations.shop import RESERVATIONS, RESERVE, Shop
from tests.api.stock import row


async def test_what_is_reserved_is_told_and_no_longer_available(shop: Shop) -> None:
    await shop.stocked("r-milk", acme=5)
    answer = await shop.post(RESERVE, {"sku": "r-milk", "quantity": 2, "orderId": "o-1"}, 201)
    own_id = answer.body["reservation_id"]
    assert answer.body == {
        "success": True,
        "reserved_quantity": 2,
        "reservation_id": own_id,
        "expires_at": (await shop.get(f"{RESERVATIONS}/{own_id}"))["expires_at"],
    }
    assert answer.headers["Location"] == f"{RESERVATIONS}/{own_id}"
    assert await shop.available("r-milk") == 3


async def test_the_whole_answer_tells_line_and_parts(shop: Shop) -> None:
    await shop.stocked("r-tea", acme__north=2, best__south=5)
    told = await shop.reserve("r-tea", 4, order_id="o-7", channel="web", preferred_locations=["north"])
    assert (told["state"], told["order_id"], told["channel"], told["reason"]) == ("HELD", "o-7", "web", None)
    assert told["lines"] == [
        {
            "sku": "r-tea",
            "quantity": 4,
            "reserved_quantity": 4,
            "open_quantity": 4,
            "fulfilled_quantity": 0,
            "parts": [
                {"supplier_id": "acme", "location_id": "north", "quantity": 2, "standing": "held"},
                {"supplier_id": "best", "location_id": "south", "quantity": 2, "standing": "held"},
            ],
        }
    ]


async def test_a_row_tells_what_is_reserved_of_each_source_and_gets_another_etag(shop: Shop) -> None:
    await shop.stocked("r-row", acme__north=2, best__south=5)
    path = "/api/v1/inventory/r-row"
    async with shop.reader.client.get(path) as response:
        etag = response.headers["ETag"]
    await shop.reserve("r-row", 3, supplier="best")
    async with shop.reader.client.get(path, headers={"If-None-Match": etag}) as response:
        assert response.status == 200
        answer = await response.json()
    numbers = [(s["on_hand"], s["reserved"], s["available"]) for s in answer["sources"]]
    assert numbers == [(2, 0, 2), (5, 3, 2)]
    assert (answer["on_hand"], answer["reserved"], answer["available_quantity"]) == (7, 3, 4)


def test_what_a_channel_has_reserved_is_part_of_its_share() -> None:
    policies = Policies({"channel:web": Policy("channel:web", channel_share_percent=50)})
    milk = row("milk", acme=10)
    milk.reserved = {"acme\x1fdefault": [Open(3, "web")]}
    of_web, of_all = (Answers("g", "u", 0, 0, policies, channel).available(milk) for channel in ("web", "default"))
    assert (of_web.available, of_all.available) == (2, 7)


async def test_a_repeat_gets_the_first_answer_and_reserves_nothing_more(shop: Shop, impatient: Shop) -> None:
    await shop.stocked("r-again", acme=5)
    body = {"sku": "r-again", "quantity": 4, "orderId": "o-1"}
    first = (await shop.post(RESERVE, body, 201, "key-again")).body
    assert (await shop.post(RESERVE, body, 201, "key-again")).body == first
    assert (await impatient.post(RESERVE, body, 201, "key-again")).body == first  # of another process
    assert await shop.available("r-again") == 1


async def test_a_repeat_after_changes_tells_what_was_reserved_at_first_and_how_it_stands(shop: Shop) -> None:
    await shop.stocked("r-later", acme=5)
    first = await shop.reserve("r-later", 4, "key-later")
    await shop.change(first["reservation_id"], "commit")
    await shop.change(first["reservation_id"], "release", quantity=1)
    again = await shop.reserve("r-later", 4, "key-later")
    assert (again["state"], again["created_at"], again["expires_at"]) == ("COMMITTED", first["created_at"], None)
    assert (again["lines"][0]["reserved_quantity"], again["lines"][0]["open_quantity"]) == (4, 3)


@pytest.mark.parametrize(
    "other",
    [{"quantity": 2}, {"orderId": "o-2"}, {"channel": "web"}, {"allow_partial": True}, {"expires_in_seconds": 60},
     {"location": "default"}, {"supplier": "acme"}, {"preferred_locations": ["x"]}, {"if_version": 1}],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
async def test_the_same_key_for_another_request_is_a_conflict(shop: Shop, other: dict[str, Any]) -> None:
    sku = f"r-conflict-{next(iter(other))}"
    await shop.stocked(sku, acme=5)
    body = {"sku": sku, "quantity": 1, "orderId": "o-1"}
    await shop.post(RESERVE, body, 201, "key-conflict")
    problem = (await shop.post(RESERVE, body | other, 409, "key-conflict")).body
    assert (problem["code"], problem["reason"]) == ("IDEMPOTENCY_CONFLICT", "idempotency_conflict")
    assert await shop.available(sku) == 4


async def test_the_two_routes_take_one_request_for_the_same(shop: Shop) -> None:
    await shop.stocked("r-both", acme=5)
    short = (await shop.post(RESERVE, {"sku": "r-both", "quantity": 2, "orderId": "o-1"}, 201, "key-both")).body
    assert (await shop.reserve("r-both", 2, "key-both"))["reservation_id"] == short["reservation_id"]


async def test_one_key_for_two_skus_names_two_reservations(shop: Shop) -> None:
    await shop.stocked("r-one", acme=5)
    await shop.stocked("r-two", acme=5)
    ids = {(await shop.reserve(sku, 1, "key-two"))["reservation_id"] for sku in ("r-one", "r-two")}
    assert len(ids) == 2


async def test_without_a_key_every_call_is_another_one(shop: Shop) -> None:
    await shop.stocked("r-each", acme=5)
    ids = {(await shop.reserve("r-each"))["reservation_id"] for _ in range(3)}
    assert len(ids) == 3
    assert await shop.available("r-each") == 2


async def test_more_than_there_is_is_refused_whole_and_says_what_is_left(shop: Shop) -> None:
    await shop.stocked("r-few", acme=2)
    body = {"sku": "r-few", "quantity": 3, "orderId": "o-1"}
    problem = (await shop.post(RESERVE, body, 409, "key-few")).body
    assert problem["code"] == "SOLD_OUT"
    assert problem["lines"] == [{"sku": "r-few", "left": 2}]
    assert problem["type"] == "urn:stockweave:problem:sold_out"
    assert await shop.available("r-few") == 2
    await shop.stocked("r-few", acme=9)
    assert (await shop.post(RESERVE, body, 409, "key-few")).body == problem, "a key keeps its answer"


async def test_with_allow_partial_as_much_is_reserved_as_there_is(shop: Shop) -> None:
    await shop.stocked("r-part", acme=2)
    told = await shop.reserve("r-part", 3, allow_partial=True)
    assert (told["lines"][0]["quantity"], told["lines"][0]["reserved_quantity"]) == (3, 2)
    body = {"sku": "r-part", "quantity": 1, "orderId": "o-1", "allow_partial": True}
    assert (await shop.post(RESERVE, body, 409)).body["lines"] == [{"sku": "r-part", "left": 0}]


async def test_an_unknown_sku_is_no_404_of_the_address_and_says_so(shop: Shop) -> None:
    problem = (await shop.post(RESERVE, {"sku": "r-nothing", "quantity": 1, "orderId": "o-1"}, 404)).body
    assert (problem["code"], problem["sku"]) == ("UNKNOWN_SKU", "r-nothing")


async def test_a_version_that_a_read_told_is_taken_until_the_row_changes(shop: Shop) -> None:
    await shop.stocked("r-version", acme=5)
    seen = (await shop.reader.item("r-version"))["version"]
    body = {"sku": "r-version", "quantity": 1, "orderId": "o-1", "if_version": seen}
    await shop.post(RESERVE, body, 201)
    assert (await shop.post(RESERVE, body, 409)).body["code"] == "VERSION_MISMATCH"
    number = int((await shop.reader.item("r-version"))["version"].rpartition("-")[2])
    await shop.post(RESERVE, body | {"if_version": number}, 201)
    other = {"if_version": f"another-{number + 1}"}
    assert (await shop.post(RESERVE, body | other, 409)).body["code"] == "VERSION_MISMATCH"


async def test_location_and_supplier_bind_where_the_units_come_from(shop: Shop) -> None:
    await shop.stocked("r-where", acme__north=2, acme__south=3, best__north=4)
    told = await shop.reserve("r-where", 2, location="north", supplier="acme")
    assert [(p["supplier_id"], p["location_id"]) for p in told["lines"][0]["parts"]] == [("acme", "north")]
    body = {"sku": "r-where", "quantity": 4, "orderId": "o-1", "location": "south"}
    assert (await shop.post(RESERVE, body, 409)).body["lines"] == [{"sku": "r-where", "left": 3}]


async def test_a_sku_is_brought_to_its_composed_form(shop: Shop) -> None:
    await shop.stocked("r-caf\u00e9", acme=2)
    composed = await shop.reserve("r-caf\u00e9", 1, "key-caf")
    assert (await shop.reserve("r-cafe\u0301", 1, "key-caf"))["reservation_id"] == composed["reservation_id"]


GOOD: dict[str, Any] = {"sku": "a", "quantity": 1, "orderId": "o"}


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"quantity": 0}, "quantity", "invalid_field"),
        ({"quantity": 10**9 + 1}, "quantity", "invalid_field"),
        ({"quantity": 1.0}, "quantity", "not_an_integer"),
        ({"quantity": "1"}, "quantity", "invalid_field"),
        ({"quantity": None}, "quantity", "invalid_field"),
        ({"sku": ""}, "sku", "invalid_id"),
        ({"sku": "a\n"}, "sku", "invalid_id"),
        ({"orderId": " o"}, "orderId", "invalid_id"),
        ({"order_id": "o"}, "order_id", "unknown_field"),
        ({"channel": ""}, "channel", "invalid_id"),
        ({"location": "x\x00"}, "location", "invalid_id"),
        ({"expires_in_seconds": 0}, "expires_in_seconds", "invalid_field"),
        ({"expires_in_seconds": 14_401}, "expires_in_seconds", "invalid_field"),
        ({"preferred_locations": ["a", 1]}, "preferred_locations.1", "invalid_field"),
        ({"preferred_locations": ["a"] * 51}, "preferred_locations", "invalid_field"),
        ({"preferred_locations": [""]}, "preferred_locations", "invalid_id"),
        ({"if_version": "7"}, "if_version", "invalid_version"),
        ({"if_version": -1}, "if_version", "invalid_field"),
        ({"allow_partial": 1}, "allow_partial", "invalid_field"),
    ],
)  # fmt: skip
async def test_a_field_that_cannot_be_used_is_named_with_the_remedy(
    shop: Shop, change: dict[str, Any], field: str, reason: str
) -> None:
    commands = len(shop.worker.commands)
    problem = (await shop.post(RESERVE, GOOD | change, 422)).body
    assert (problem["field"], problem["reason"]) == (field, reason)
    assert field.partition(".")[0] in problem["detail"]
    assert len(shop.worker.commands) == commands, "it was asked all the same"


@pytest.mark.parametrize("name", GOOD)
async def test_a_field_that_is_missing_is_named(shop: Shop, name: str) -> None:
    problem = (await shop.post(RESERVE, {k: v for k, v in GOOD.items() if k != name}, 422)).body
    assert (problem["field"], problem["reason"]) == (name, "missing")


async def test_a_fault_of_a_line_is_named_by_its_place(shop: Shop) -> None:
    for line, field in (({"sku": "a"}, "lines.0.quantity"), ({"sku": "", "quantity": 1}, "lines.0.sku")):
        problem = (await shop.post(RESERVATIONS, {"order_id": "o", "lines": [line]}, 422)).body
        assert problem["field"] == field
    assert (await shop.post(RESERVATIONS, {"order_id": "o", "lines": []}, 422)).body["field"] == "lines"


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"\xff", 400), (b"[]", 422), (b'{"sku":"\\ud800"}', 400), (b"x" * 70_000, 413),
     (b'{"quantity":' + b"9" * 5_000 + b"}", 422)],
)  # fmt: skip
async def test_a_body_that_is_no_object_of_json_is_refused(shop: Shop, body: bytes, status: int) -> None:
    await shop.post(RESERVE, body, status)


async def test_another_content_type_is_refused(shop: Shop) -> None:
    await shop.post(RESERVE, GOOD, 415, media_type="text/plain")


@pytest.mark.parametrize("key", ["", "with space", "k" * 256, "caf\u00e9"])
async def test_a_key_that_cannot_be_one_is_refused_by_its_name(shop: Shop, key: str) -> None:
    problem = (await shop.post(RESERVE, GOOD, 422, key)).body
    assert (problem["field"], problem["reason"]) == ("Idempotency-Key", "invalid_idempotency_key")


async def test_two_keys_and_unknown_parameters_are_refused(shop: Shop) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    async with shop.reader.client.post(RESERVE, json=GOOD, headers=headers) as response:
        assert response.status == 422
    assert (await shop.post(RESERVE + "?dry_run=true", GOOD, 422)).body["field"] == "dry_run"


async def test_a_sku_that_is_called_as_the_route_can_be_read_and_reserved(shop: Shop) -> None:
    await shop.stocked("reserve", acme=3)
    await shop.reserve("reserve", 1)
    assert (await shop.reader.get("/api/v1/inventory/reserve"))["reserved"] == 1
