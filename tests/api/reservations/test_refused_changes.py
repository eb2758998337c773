"""A change that is refused, or has nothing to do: its repeat gets the first answer, whatever became of it since."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from api.reservations import ids, outcomes
from inventory.reservations.unchanged import UNCHANGED_MAX
from schemas.keys import source_key
from schemas.reservations import COMMIT, EXTEND, NO_SKU
from tests.api.reservations.shop import RESERVATIONS, Shop
from tests.inventory.reservations.builders import command
from tests.inventory.reservations.shop import shipment

CASES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "what is not committed is shipped": ("fulfil", {}, "commit", "INVALID_STATE"),
    "more is given back than is open": ("release", {"quantity": 4}, "commit", "INVALID_STATE"),
    "more is given back of a place than is open there": (
        "release",
        {"quantity": 3, "location": "north"},
        "release",
        "INVALID_STATE",
    ),
    "it goes where there is nothing": ("transfer", {"to_location": "mars"}, "release", "INVALID_STATE"),
}
"""What is asked, what is done then, and the code of the refusal."""


@pytest.mark.parametrize("name", CASES)
async def test_a_repeat_of_a_refused_change_gets_the_first_answer_from_any_process(
    shop: Shop, impatient: Shop, name: str
) -> None:
    action, body, then, code = CASES[name]
    sku = f"n-{list(CASES).index(name)}"
    await shop.stocked(sku, acme__north=2, acme__south=1)
    own_id = (await shop.reserve(sku, 3))["reservation_id"]
    first = await shop.change(own_id, action, 409, "key-n", **body)
    assert (first["code"], first["state"], first["open"]) == (code, "HELD", 3)
    await shop.change(own_id, then)
    assert await shop.change(own_id, action, 409, "key-n", **body) == first
    assert await impatient.change(own_id, action, 409, "key-n", **body) == first
    told = await shop.get(f"{RESERVATIONS}/{own_id}")
    assert [step["fact"] for step in told["history"]] == ["HELD", {"commit": "COMMITTED"}.get(then, "RELEASED")]


async def test_what_a_supplier_ships_meanwhile_is_not_in_the_first_answer(shop: Shop) -> None:
    await shop.stocked("n-told", acme=9)
    own_id = (await shop.reserve("n-told", 4))["reservation_id"]
    await shop.change(own_id, "commit")
    first = [await shop.change(own_id, action, 409, "key-n", quantity=5) for action in ("fulfil", "release")]
    shop.worker.ship(shipment(source_key("acme", "default"), 2, 2, "o-1")._replace(sku="n-told"))
    assert (await shop.change(own_id, "release", 409, quantity=3))["open"] == 2
    again = [await shop.change(own_id, action, 409, "key-n", quantity=5) for action in ("fulfil", "release")]
    assert again == first
    assert [problem["open"] for problem in first] == [4, 4]


async def test_what_was_refused_is_done_with_another_key(shop: Shop) -> None:
    await shop.stocked("n-other", acme=5)
    own_id = (await shop.reserve("n-other", 2))["reservation_id"]
    assert "with another Idempotency-Key" in (await shop.change(own_id, "fulfil", 409, "parcel-1"))["detail"]
    await shop.change(own_id, "commit", key="parcel-1")  # another action's is another key
    await shop.change(own_id, "fulfil", 409, "parcel-1")
    assert (await shop.change(own_id, "fulfil", key="parcel-2"))["state"] == "FULFILLED"


async def test_the_key_of_a_refused_change_for_other_units_is_a_conflict(shop: Shop) -> None:
    await shop.stocked("n-conflict", acme=5)
    own_id = (await shop.reserve("n-conflict", 2))["reservation_id"]
    await shop.change(own_id, "release", 409, "key-n", quantity=3)
    for body in ({"quantity": 2}, {}):
        problem = await shop.change(own_id, "release", 409, "key-n", **body)
        assert (problem["code"], problem["reservation_id"]) == ("IDEMPOTENCY_CONFLICT", own_id)
    assert (await shop.change(own_id, "release", 409, "key-n", quantity=3))["code"] == "INVALID_STATE"
    assert await shop.available("n-conflict") == 3


async def test_what_had_nothing_to_do_has_succeeded_whatever_becomes_of_it(shop: Shop) -> None:
    await shop.stocked("n-nothing", acme=5)
    own_id = (await shop.reserve("n-nothing", 2))["reservation_id"]
    await shop.change(own_id, "commit")
    await shop.change(own_id, "commit", key="key-n")
    await shop.change(own_id, "release")
    assert (await shop.change(own_id, "commit", key="key-n"))["state"] == "RELEASED"
    assert (await shop.change(own_id, "commit", 409))["code"] == "INVALID_STATE"


async def test_so_many_refused_changes_are_kept_and_an_older_one_is_decided_anew(shop: Shop) -> None:
    await shop.stocked("n-many", acme=5)
    own_id = (await shop.reserve("n-many", 2))["reservation_id"]
    for n in range(UNCHANGED_MAX + 1):
        await shop.change(own_id, "fulfil", 409, f"key-{n}")
    await shop.change(own_id, "commit")
    await shop.change(own_id, "fulfil", 409, "key-1")
    assert (await shop.change(own_id, "fulfil", key="key-0"))["state"] == "FULFILLED"


async def test_a_change_of_no_reservation_is_not_kept(shop: Shop) -> None:
    await shop.stocked("n-none", acme=5)
    own_id = ids.reservation_id("n-none", "key-r")
    assert (await shop.change(own_id, "commit", 404, "key-n"))["code"] == "UNKNOWN_RESERVATION"
    assert (await shop.reserve("n-none", 2, key="key-r"))["reservation_id"] == own_id
    assert (await shop.change(own_id, "commit", key="key-n"))["state"] == "COMMITTED"


async def test_what_has_lapsed_is_told_so_ever_after(shop: Shop) -> None:
    await shop.stocked("n-lapse", acme=5)
    own_id = (await shop.reserve("n-lapse", 2, expires_in_seconds=5))["reservation_id"]
    shop.worker.ahead_ms = 6_000
    try:
        first = await shop.change(own_id, "commit", 409, "key-n")
        assert (first["code"], first["state"]) == ("EXPIRED", "EXPIRED")
        assert await shop.change(own_id, "commit", 409, "key-n") == first
    finally:
        shop.worker.ahead_ms = 0


async def test_of_several_skus_what_was_refused_is_told_so_ever_after(shop: Shop, impatient: Shop) -> None:
    for sku in ("n-s-0", "n-s-1"):
        await shop.stocked(sku, acme__north=3, acme__south=2)
    lines = [{"sku": sku, "quantity": 2} for sku in ("n-s-0", "n-s-1")]
    told = (await shop.post(RESERVATIONS, {"order_id": "o-1", "lines": lines}, 201)).body
    own_id = told["reservation_id"]
    asks: list[tuple[str, dict[str, Any]]] = [
        ("fulfil", {}),
        ("fulfil", {"lines": [{"sku": "n-s-0", "quantity": 1}]}),
        ("release", {"lines": [{"sku": "n-s-0", "quantity": 3}]}),
        ("transfer", {"sku": "n-s-1", "to_location": "mars"}),
        ("transfer", {"sku": "n-s-1", "quantity": 4, "to_location": "south"}),
    ]
    first = [await shop.change(own_id, action, 409, f"key-{n}", **body) for n, (action, body) in enumerate(asks)]
    assert [(problem["code"], problem["state"], problem["open"]) for problem in first] == [
        ("INVALID_STATE", "HELD", 4)
    ] * 5
    problem = await shop.change(own_id, "release", 409, "key-2", lines=[{"sku": "n-s-0", "quantity": 1}])
    assert problem["code"] == "IDEMPOTENCY_CONFLICT"
    await shop.change(own_id, "commit")
    await shop.change(own_id, "fulfil", lines=[{"sku": "n-s-1", "quantity": 1}])
    for process in (shop, impatient):
        again = [await process.change(own_id, a, 409, f"key-{n}", **body) for n, (a, body) in enumerate(asks)]
        assert again == first


async def test_what_is_not_kept_any_more_is_told_by_the_reservation_as_it_is(shop: Shop) -> None:
    """Also where it has lapsed by the clock of the process, and its end is not written yet."""
    await shop.stocked("n-clock", acme=5)
    own_id = (await shop.reserve("n-clock", 2, expires_in_seconds=60))["reservation_id"]
    await shop.change(own_id, "fulfil", 409)
    hold = replace(shop.worker.holds["n-clock", own_id], unchanged=[])
    assert hold.expires_at is not None
    asks: Any = command(EXTEND, sku=NO_SKU, reservation_id=own_id, command_id="x", quantity=0)
    for now_ms, code in ((hold.expires_at - 1, "INVALID_STATE"), (hold.expires_at, "EXPIRED")):
        body: Any = outcomes.of_change(asks, hold, now_ms).body
        assert code in repr(body)
    asks["action"] = COMMIT
    assert outcomes.of_change(asks, hold, hold.expires_at).status == 409
