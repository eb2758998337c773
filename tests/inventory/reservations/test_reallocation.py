"""The laws of moving what is held of a source that lacks it."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from inventory.availability import availability
from inventory.policies import Policies
from inventory.reservations.decide import Case
from inventory.reservations.reallocation import ask_to_move, may_move, reallocate, shortage, turn
from schemas.keys import source_key
from schemas.policies import PRIORITY, Policy
from schemas.reservations import COMMIT, FULFIL, HELD, HOLD, MOVED, NO_SKU, TRANSFER, Hold
from tests.inventory.reservations.builders import NOW, SKU, command
from tests.inventory.reservations.shop import SOURCES, Shop, stock

NORTH, SOUTH, EAST = SOURCES  # of acme, acme and bolt


def begun(units: int, *, policies: Policies | None = None, **stocked: int) -> Shop:
    """A shop where `units` of the fullest source, acme's in the north, are held as r1."""
    names = {"north": NORTH, "south": SOUTH, "east": EAST}
    shop = Shop(stock({names[name]: n for name, n in stocked.items()}), policies or Policies())
    ask(shop, HOLD, quantity=units)
    return shop


def ask(shop: Shop, action: str, name: str = "r1", **fields: object) -> None:
    given = {"reservation_id": name, "command_id": f"{action}-{name}-{len(shop.facts)}", "quantity": 0}
    assert shop.ask(command(action, **given | fields)) is not None


def cover(shop: Shop, name: str = "r1") -> Counter[str]:
    """Move what can be moved of a hold, as a worker does; units by source afterwards."""
    while (decision := reallocate(case(shop, shop.holds[name]))) is not None:
        shop.take(decision, decision.hold.steps[-1].command_id)
    return placed(shop.holds[name])


def case(shop: Shop, hold: Hold) -> Case:
    return Case(shop.whole(), hold, shop.policies, shop.now_ms)


def placed(hold: Hold) -> Counter[str]:
    units = Counter[str]()
    for part in hold.parts:
        units[part.source] += part.quantity
    return units


def short(shop: Shop) -> dict[str, int]:
    answer = availability(shop.whole(), shop.policies.rules(SKU), shop.now_ms)
    lacks = {source_key(part.supplier, part.location): part.reserved - part.number for part in answer.parts}
    return {key: units for key, units in lacks.items() if units > 0}


def test_what_a_source_lacks_comes_from_the_fullest_of_the_others_and_no_more_than_it_lacks() -> None:
    shop = begun(5, north=6, south=2, east=4)
    shop.count(NORTH, 3, NOW, 0)
    assert short(shop) == {NORTH: 2}
    assert cover(shop) == {NORTH: 3, EAST: 2}
    assert (short(shop), shop.available()) == ({}, 4)
    step = shop.holds["r1"].steps[-1]
    assert (step.fact, step.units, (step.command_id or "").startswith(MOVED)) == ("TRANSFERRED", 2, True)


def test_it_comes_from_several_where_none_has_enough_and_what_nobody_has_stays() -> None:
    shop = begun(5, north=6, south=1, east=2)
    shop.count(NORTH, 0, NOW, 0)
    assert cover(shop) == {NORTH: 2, EAST: 2, SOUTH: 1}
    assert short(shop) == {NORTH: 2}
    assert shop.available() == 0


def test_what_the_caller_wished_for_stands() -> None:
    shop = Shop(stock({NORTH: 9, SOUTH: 8, EAST: 5}))
    ask(shop, HOLD, "near", quantity=2, preferred_locations=["north", "east"])
    ask(shop, HOLD, "acmes", quantity=2, supplier_id="acme")
    ask(shop, HOLD, "there", quantity=2, location_id="north")
    shop.count(NORTH, 0, NOW, 0)
    assert cover(shop, "near") == {EAST: 2}, "the next nearest"
    assert cover(shop, "acmes") == {SOUTH: 2}
    assert cover(shop, "there") == {NORTH: 2}, "it must come from there"


def test_nothing_is_moved_to_what_may_not_be_sold() -> None:
    kept = Policies({"default": Policy("default", 1, safety_units=4, backorder_units_max=10)})
    shop = begun(3, policies=kept, north=6, east=5)
    shop.count(NORTH, 0, NOW, 0)
    assert cover(shop) == {NORTH: 2, EAST: 1}, "four are held back, and none is sold beyond the stock for it"
    chosen = Policies({"default": Policy("default", 1, strategy=PRIORITY, priority=("acme", "bolt"))})
    shop = begun(3, policies=chosen, north=6, east=5)
    shop.count(NORTH, 0, NOW, 0)
    assert shortage(shop.whole(), chosen, NOW) is None, "the number is acme's, and acme has nothing"
    assert cover(shop) == {NORTH: 3}


def test_what_a_pool_lacks_is_moved_whichever_view_it_is_of() -> None:
    """The south is another view of the north's stock, and speaks since it is newer."""
    views = {f"location:{name}": Policy(f"location:{name}", 1, pool="one") for name in ("north", "south")}
    shop = Shop(stock({NORTH: 0, SOUTH: 0, EAST: 4}), Policies(views))
    shop.count(NORTH, 6, NOW - 1, 0)
    ask(shop, HOLD, quantity=5)
    assert placed(shop.holds["r1"]) == {NORTH: 5}
    shop.count(SOUTH, 3, NOW, 0)
    assert cover(shop) == {NORTH: 3, EAST: 2}


def test_what_has_left_stays_where_it_left() -> None:
    shop = begun(4, north=6, east=5)
    ask(shop, COMMIT)
    ask(shop, FULFIL, quantity=3)
    shop.count(NORTH, 0, NOW - 1, 0)  # it does not know of them yet
    assert short(shop) == {NORTH: 4}
    assert cover(shop) == {NORTH: 3, EAST: 1}


def test_a_line_asks_its_coordinator_and_is_moved_by_what_there_is_when_that_agrees() -> None:
    shop = begun(3, north=6, south=2, east=5)
    line = Hold(**{name: getattr(shop.holds["r1"], name) for name in Hold.__struct_fields__} | {"coordinated": True})
    shop.count(NORTH, 1, NOW, 0)
    asked = ask_to_move(line, NOW)
    assert (asked["action"], asked["sku"], asked["coordinated"]) == (TRANSFER, NO_SKU, True)
    assert [each["sku"] for each in asked["lines"]] == [SKU]
    shop.count(EAST, 0, NOW, 0)  # meanwhile
    decision = reallocate(case(shop, line), asked["command_id"])
    assert decision is not None
    assert (placed(decision.hold), decision.units) == ({NORTH: 1, SOUTH: 2}, 2)
    assert reallocate(case(shop, decision.hold), asked["command_id"]) is None, "once"


def test_who_has_paid_and_who_came_first_keep_their_source() -> None:
    holds = [
        Hold(SKU, "paid", "COMMITTED", created_at=NOW + 9),
        Hold(SKU, "first", HELD, created_at=NOW),
        Hold(SKU, "last", HELD, created_at=NOW + 5),
    ]
    assert [hold.reservation_id for hold in sorted(holds, key=turn)] == ["last", "first", "paid"]


@pytest.mark.parametrize("seed", range(200))
def test_moving_sells_nothing_twice_and_goes_on_until_nothing_can_be_moved(seed: int) -> None:
    rng = random.Random(seed)
    shop = Shop(stock({key: rng.randint(0, 12) for key in SOURCES}))
    for n in range(rng.randint(1, 6)):
        wish = rng.choice(({}, {}, {"supplier_id": "acme"}, {"location_id": "north"}))
        shop.ask(command(HOLD, reservation_id=f"r{n}", command_id=f"h{n}", quantity=rng.randint(1, 4), **wish))
    held = {name: hold.held for name, hold in shop.holds.items()}
    for key in rng.sample(SOURCES, rng.randint(1, 2)):
        shop.count(key, rng.randint(0, 4), NOW, 0)
    lacking = sum(short(shop).values())
    could_be_had = shop.available()
    for hold in sorted(shop.holds.values(), key=turn):
        cover(shop, hold.reservation_id)
    assert {name: hold.held for name, hold in shop.holds.items()} == held
    moved = lacking - sum(short(shop).values())
    assert shop.available() == could_be_had - moved, "what is moved is taken from what could be sold, unit for unit"
    lacks = shortage(shop.whole(), shop.policies, NOW)
    assert lacks is None or not any(may_move(hold, lacks) for hold in shop.holds.values())
