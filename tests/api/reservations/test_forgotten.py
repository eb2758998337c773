"""A reservation that was over for as long as it is kept: unknown to everybody, and its key is as good as new."""

from __future__ import annotations

from api.reservations import ids
from tests.api.reservations.shop import RESERVATIONS, Shop


async def forgotten(shop: Shop, sku: str, key: str) -> str:
    """The id of one that was given back, and that the view knows no more."""
    await shop.stocked(sku, acme=5)
    own_id = str((await shop.reserve(sku, 2, key, order_id=f"o-{sku}"))["reservation_id"])
    await shop.change(own_id, "release")
    shop.worker.forget(sku, own_id)
    await shop.stocked(sku, acme=5)  # it has read that, and so what was written before
    return own_id


async def test_reads_do_not_know_it_and_its_order_does_not_name_it(shop: Shop) -> None:
    own_id = await forgotten(shop, "f-reads", "key-reads")
    assert (await shop.get(f"{RESERVATIONS}/{own_id}", 404))["code"] == "UNKNOWN_RESERVATION"
    assert (await shop.get(RESERVATIONS, order_id="o-f-reads"))["reservations"] == []
    assert await shop.available("f-reads") == 5


async def test_a_change_that_comes_so_late_finds_nothing(shop: Shop) -> None:
    own_id = await forgotten(shop, "f-late", "key-late")
    for action in ("commit", "release", "fulfil", "extend"):
        assert (await shop.change(own_id, action, 404))["code"] == "UNKNOWN_RESERVATION"
    assert await shop.available("f-late") == 5


async def test_its_key_makes_another_one_whatever_is_asked_for(shop: Shop) -> None:
    own_id = await forgotten(shop, "f-anew", "key-anew")
    told = await shop.reserve("f-anew", 4, "key-anew", order_id="o-another")
    assert told["reservation_id"] == own_id == ids.reservation_id("f-anew", "key-anew")
    assert (told["state"], told["lines"][0]["reserved_quantity"]) == ("HELD", 4)
    assert [step["fact"] for step in (await shop.get(f"{RESERVATIONS}/{own_id}"))["history"]] == ["HELD"]
    for order, there in (("o-f-anew", []), ("o-another", [own_id])):
        of_order = await shop.get(RESERVATIONS, order_id=order)
        assert [one["reservation_id"] for one in of_order["reservations"]] == there
    assert await shop.available("f-anew") == 1
