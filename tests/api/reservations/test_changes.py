"""What becomes of a reservation: committed, given back, shipped, held longer, lapsed; each change once."""

from __future__ import annotations

import base64

import pytest

from api.reservations import ids
from inventory.reservations.decide import STEPS_MAX
from schemas.keys import source_key
from stockweave.world import SystemClock
from tests.api.reservations.shop import RESERVATIONS, Shop
from tests.inventory.reservations.shop import shipment

ACTIONS: dict[str, dict[str, str]] = {
    "commit": {},
    "release": {},
    "fulfil": {},
    "extend": {},
    "transfer": {"to_location": "north"},
}
"""With what has to be said."""


async def test_a_commit_ends_the_time_and_is_told(shop: Shop) -> None:
    await shop.stocked("c-commit", acme=5)
    own_id = (await shop.reserve("c-commit", 2))["reservation_id"]
    told = await shop.change(own_id, "commit")
    assert (told["state"], told["expires_at"]) == ("COMMITTED", None)
    assert told["lines"][0]["parts"][0]["standing"] == "committed"


async def test_a_release_gives_all_back_or_as_much_as_is_said(shop: Shop) -> None:
    await shop.stocked("c-release", acme__north=2, acme__south=3)
    own_id = (await shop.reserve("c-release", 5))["reservation_id"]
    told = await shop.change(own_id, "release", quantity=1, location="north")
    assert told["state"] == "HELD"
    assert {p["location_id"]: p["quantity"] for p in told["lines"][0]["parts"]} == {"north": 1, "south": 3}
    assert await shop.available("c-release") == 1
    told = await shop.change(own_id, "release")
    assert (told["state"], told["lines"][0]["parts"]) == ("RELEASED", [])
    assert told["ended_at"] is not None
    assert await shop.available("c-release") == 5


async def test_what_is_shipped_is_told_part_by_part(shop: Shop) -> None:
    await shop.stocked("c-ship", acme=5)
    own_id = (await shop.reserve("c-ship", 3))["reservation_id"]
    await shop.change(own_id, "commit")
    line = (await shop.change(own_id, "fulfil", quantity=2))["lines"][0]
    assert (line["open_quantity"], line["fulfilled_quantity"], line["reserved_quantity"]) == (1, 2, 3)
    assert sorted((p["quantity"], p["standing"]) for p in line["parts"]) == [(1, "committed"), (2, "fulfilled")]
    assert (await shop.change(own_id, "fulfil"))["state"] == "FULFILLED"


async def test_units_that_a_supplier_told_of_have_left_and_are_not_shipped_again_by_the_shop(shop: Shop) -> None:
    await shop.stocked("c-told", acme=9)
    own_id = (await shop.reserve("c-told", 4))["reservation_id"]
    await shop.change(own_id, "commit")

    def ship(units: int) -> None:
        shop.worker.ship(shipment(source_key("acme", "default"), units, units, "o-1")._replace(sku="c-told"))

    ship(2)
    problem = await shop.change(own_id, "release", 409, quantity=3)
    assert (problem["detail"].partition(",")[0], problem["open"]) == ("2 units are open", 2)
    problem = await shop.change(own_id, "fulfil", 409, quantity=5)
    assert (problem["detail"].partition(",")[0], problem["open"]) == ("4 units are not fulfilled", 2)
    line = (await shop.change(own_id, "fulfil", quantity=1, key="parcel"))["lines"][0]
    assert (line["open_quantity"], line["fulfilled_quantity"]) == (2, 2)
    standings = sorted((p["standing"], p["quantity"]) for p in line["parts"])
    assert standings == [("committed", 2), ("fulfilled", 1), ("fulfilled", 1)]
    ship(3)
    problem = await shop.change(own_id, "fulfil", 409)
    assert (problem["code"], problem["state"], problem["open"]) == ("INVALID_STATE", "FULFILLED", 0)
    told = await shop.get(f"{RESERVATIONS}/{own_id}")
    assert [step["fact"] for step in told["history"]] == ["HELD", "COMMITTED", "CLOSED", "FULFILLED", "CLOSED"]


async def test_an_extension_counts_from_now(shop: Shop) -> None:
    await shop.stocked("c-extend", acme=5)
    first = await shop.reserve("c-extend", expires_in_seconds=60)
    told = await shop.change(first["reservation_id"], "extend", expires_in_seconds=14_400)
    assert told["expires_at"] > first["expires_at"]


async def test_the_history_tells_every_step(shop: Shop) -> None:
    await shop.stocked("c-history", acme=5)
    own_id = (await shop.reserve("c-history", 3))["reservation_id"]
    await shop.change(own_id, "extend")
    await shop.change(own_id, "commit")
    await shop.change(own_id, "fulfil", quantity=1)
    await shop.change(own_id, "release", quantity=2)
    told = await shop.get(f"{RESERVATIONS}/{own_id}")
    steps = [(step["fact"], step["units"]) for step in told["history"]]
    assert steps == [("HELD", 3), ("EXTENDED", 3), ("COMMITTED", 3), ("FULFILLED", 1), ("RELEASED", 2)]
    assert [step["at"] for step in told["history"]] == sorted(step["at"] for step in told["history"])
    assert (told["state"], told["reason"]) == ("FULFILLED", None)


async def test_a_refused_reservation_can_be_read_with_its_reason(shop: Shop) -> None:
    await shop.stocked("c-refused", acme=0)
    body = {"order_id": "o-1", "lines": [{"sku": "c-refused", "quantity": 1}]}
    await shop.post(RESERVATIONS, body, 409, "key-refused")
    told = await shop.get(f"{RESERVATIONS}/{ids.reservation_id('c-refused', 'key-refused')}")
    assert (told["state"], told["reason"], told["lines"][0]["reserved_quantity"]) == ("REFUSED", "SOLD_OUT", 0)
    problem = await shop.change(told["reservation_id"], "commit", 409)
    assert (problem["code"], problem["state"]) == ("INVALID_STATE", "REFUSED")


async def test_a_repeat_of_a_change_with_its_key_is_carried_out_once(shop: Shop, impatient: Shop) -> None:
    await shop.stocked("c-once", acme=5)
    own_id = (await shop.reserve("c-once", 4))["reservation_id"]
    first = await shop.change(own_id, "release", key="key-1", quantity=1)
    assert await shop.change(own_id, "release", key="key-1", quantity=1) == first
    assert await impatient.change(own_id, "release", key="key-1", quantity=1) == first
    committed = await shop.change(own_id, "commit", key="key-1")  # another action's is another key
    assert committed["state"] == "COMMITTED"
    shipped = await shop.change(own_id, "fulfil", key="key-1", quantity=1)
    assert shipped["lines"][0]["fulfilled_quantity"] == 1
    assert await shop.available("c-once") == 2


async def test_a_repeat_after_later_changes_is_a_success_still(shop: Shop) -> None:
    await shop.stocked("c-after", acme=5)
    own_id = (await shop.reserve("c-after", 4))["reservation_id"]
    await shop.change(own_id, "extend", key="key-e")
    await shop.change(own_id, "release")
    assert (await shop.change(own_id, "extend", key="key-e"))["state"] == "RELEASED"


async def test_the_key_of_a_change_for_other_units_is_a_conflict(shop: Shop) -> None:
    await shop.stocked("c-conflict", acme=5)
    own_id = (await shop.reserve("c-conflict", 4))["reservation_id"]
    await shop.change(own_id, "release", key="key-c", quantity=1)
    problem = await shop.change(own_id, "release", 409, "key-c", quantity=2)
    assert problem["code"] == "IDEMPOTENCY_CONFLICT"
    assert await shop.available("c-conflict") == 2


async def test_a_second_commit_and_a_second_release_of_all_succeed_without_a_key(shop: Shop) -> None:
    await shop.stocked("c-twice", acme=5)
    own_id = (await shop.reserve("c-twice", 2))["reservation_id"]
    assert await shop.change(own_id, "commit") == await shop.change(own_id, "commit")
    assert await shop.change(own_id, "release") == await shop.change(own_id, "release")
    shipped = (await shop.reserve("c-twice", 2))["reservation_id"]
    await shop.change(shipped, "commit")
    await shop.change(shipped, "fulfil")
    assert (await shop.change(shipped, "commit"))["state"] == "FULFILLED"


async def test_what_a_state_does_not_allow_is_refused_with_the_state(shop: Shop) -> None:
    await shop.stocked("c-state", acme=5)
    own_id = (await shop.reserve("c-state", 2))["reservation_id"]
    problem = await shop.change(own_id, "fulfil", 409)
    assert (problem["code"], problem["state"]) == ("INVALID_STATE", "HELD")
    assert "commit it first" in problem["detail"]
    await shop.change(own_id, "commit")
    assert (await shop.change(own_id, "extend", 409))["state"] == "COMMITTED"
    await shop.change(own_id, "release")
    for action in ("commit", "fulfil", "extend"):
        assert (await shop.change(own_id, action, 409))["state"] == "RELEASED"


async def test_more_units_than_are_open_are_refused_and_it_is_said_how_many_are(shop: Shop) -> None:
    await shop.stocked("c-open", acme__north=2, acme__south=3)
    own_id = (await shop.reserve("c-open", 5))["reservation_id"]
    problem = await shop.change(own_id, "release", 409, quantity=6)
    assert (problem["code"], problem["state"], problem["open"]) == ("INVALID_STATE", "HELD", 5)
    assert problem["detail"].startswith("5 units are open")
    await shop.change(own_id, "commit")
    problem = await shop.change(own_id, "fulfil", 409, quantity=3, location="north")
    assert problem["detail"].startswith("2 units are not fulfilled at 'north'")


async def test_what_has_lapsed_can_no_longer_be_changed(shop: Shop) -> None:
    await shop.stocked("c-lapse", acme=5)
    own_id = (await shop.reserve("c-lapse", 5, expires_in_seconds=5))["reservation_id"]
    shop.worker.ahead_ms = 6_000
    try:
        for action, said in ACTIONS.items():
            problem = await shop.change(own_id, action, 409, **said)
            assert (problem["code"], problem["state"]) == ("EXPIRED", "EXPIRED")
        told = await shop.get(f"{RESERVATIONS}/{own_id}")
        assert (told["state"], told["history"][-1]["fact"]) == ("EXPIRED", "EXPIRED")
        assert await shop.available("c-lapse") == 5
    finally:
        shop.worker.ahead_ms = 0


async def test_what_has_lapsed_by_the_clock_of_a_process_is_told_as_it_was_decided(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a repeat would be told another thing by a process with another clock."""

    class Ahead(SystemClock):
        def now_ms(self) -> int:
            return super().now_ms() + 6_000

    await shop.stocked("c-clock", acme=5)
    own_id = (await shop.reserve("c-clock", 5, expires_in_seconds=5))["reservation_id"]
    monkeypatch.setattr(shop.reader.view, "clock", Ahead())
    problem = await shop.change(own_id, "fulfil", 409)
    assert (problem["code"], problem["state"]) == ("INVALID_STATE", "HELD")


async def test_a_reservation_has_no_more_steps_than_are_kept(shop: Shop) -> None:
    await shop.stocked("c-steps", acme=5)
    own_id = (await shop.reserve("c-steps", 1))["reservation_id"]
    for _ in range(STEPS_MAX - 1):
        await shop.change(own_id, "extend")
    problem = await shop.change(own_id, "extend", 409)
    assert (problem["code"], str(STEPS_MAX) in problem["detail"]) == ("INVALID_STATE", True)


def malformed() -> list[str]:
    good = ids.reservation_id("milk", "key")
    digest = good.partition(".")[0]

    def of(sku: bytes) -> str:
        return f"{digest}.{base64.urlsafe_b64encode(sku).rstrip(b'=').decode()}"

    return [
        "x", "milk", good[1:], good + "=", good + ".", good.replace(".", "~"), f"{digest}.", f"{digest}.a", digest[1:],
        of(b"\xff\xfe"), of(b" milk"), of(b"a\x00b"), of(b"m" * 129), of("cafe\u0301".encode()), good[:-1] + "x",
    ]  # fmt: skip


@pytest.mark.parametrize("own_id", malformed())
async def test_a_malformed_id_is_of_no_reservation_and_asks_nobody(shop: Shop, own_id: str) -> None:
    commands = len(shop.worker.commands)
    assert (await shop.get(f"{RESERVATIONS}/{own_id}", 404))["code"] == "UNKNOWN_RESERVATION"
    for action, said in ACTIONS.items():
        assert (await shop.change(own_id, action, 404, **said))["code"] == "UNKNOWN_RESERVATION"
    assert len(shop.worker.commands) == commands


async def test_an_id_that_was_never_given_is_of_no_reservation(shop: Shop) -> None:
    own_id = ids.reservation_id("milk", "never")
    assert (await shop.get(f"{RESERVATIONS}/{own_id}", 404))["reason"] == "unknown_reservation"
    for action, said in ACTIONS.items():
        assert (await shop.change(own_id, action, 404, **said))["code"] == "UNKNOWN_RESERVATION"


@pytest.mark.parametrize("sku", ["a", "a/b//c", "caf\u00e9 noir", "x\u00ff" * 64, "\U0001f600" * 128, "..", "a.b"])
def test_an_id_carries_its_sku_whatever_that_is(sku: str) -> None:
    own_id = ids.reservation_id(sku, "key")
    assert ids.sku_of(own_id) == sku
    assert own_id == ids.reservation_id(sku, "key")
    assert own_id != ids.reservation_id(sku, "kez")


@pytest.mark.parametrize(
    ("action", "body", "field"),
    [("commit", {"quantity": 1}, "quantity"), ("release", {"quantity": 0}, "quantity"), ("fulfil", {"x": 1}, "x"),
     ("release", {"location": ""}, "location"), ("extend", {"expires_in_seconds": 0}, "expires_in_seconds")],
)  # fmt: skip
async def test_a_field_of_a_change_that_cannot_be_used_is_named(
    shop: Shop, action: str, body: dict[str, object], field: str
) -> None:
    own_id = ids.reservation_id("milk", "never")
    assert (await shop.post(f"{RESERVATIONS}/{own_id}/{action}", body, 422)).body["field"] == field


async def test_the_body_of_a_change_may_be_left_out_and_must_be_json_otherwise(shop: Shop) -> None:
    await shop.stocked("c-body", acme=5)
    path = f"{RESERVATIONS}/{(await shop.reserve('c-body', 2))['reservation_id']}"
    await shop.post(f"{path}/extend", b"", 200)
    await shop.post(f"{path}/extend", b"{}", 200)
    await shop.post(f"{path}/extend", b"{", 400)
    await shop.post(f"{path}/extend", b"{}", 415, media_type="text/plain")
