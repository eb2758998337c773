"""The laws of shipments that suppliers tell of: each unit leaves once, whoever tells of it, and in whatever order."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from msgspec.structs import replace

from inventory.policies import Policies
from inventory.reservations.decide import STEPS_MAX, Command
from inventory.reservations.facts import Fact, hold_after, row_after
from inventory.reservations.reserved import of_holds
from inventory.reservations.shipments import Shipment, close
from schemas.policies import Policy
from schemas.reservations import (
    CLOSED,
    COMMIT,
    COMMITTED,
    EXPIRED,
    FULFIL,
    FULFILLED,
    HELD,
    RELEASE,
    RELEASED,
    UNCHANGED,
    Hold,
    Step,
)
from schemas.rows import decode_source
from tests.inventory.reservations.builders import NOW, command
from tests.inventory.reservations.shop import SOURCES, Counted, Shop, counted, shipment, shipped, stock

NORTH, SOUTH, EAST = SOURCES


def left(hold: Hold) -> int:
    return hold.held - hold.open_units


def told_by_shop(hold: Hold) -> int:
    return sum(part.quantity for part in hold.parts if part.fulfilled_at is not None)


def told_by_supplier(hold: Hold) -> int:
    return sum(part.quantity for part in hold.parts if part.closed)


def orders_of(what: str) -> list[str]:
    """Those in which the shop fulfils what it has committed."""
    return ["".join(order) for order in permutations(what) if order.index("c") < order.index("f")]


@pytest.mark.parametrize("basis", [0, 1])
@pytest.mark.parametrize("order", orders_of("cfdkn"))
def test_the_number_neither_loses_nor_doubles_units_in_whatever_order_all_is_heard(order: str, basis: int) -> None:
    """c: commit, d: the supplier's change, k: a count, f: the shop fulfils, n: a count of after all this."""
    # A supplier that leaves out what is sold takes it off when it hears of it, and not when it ships.
    at = {"c": 10_000, "d": 15_000 if basis else 30_000, "k": 20_000, "f": 40_000, "n": 50_000}
    shop = Shop(stock({NORTH: 10}, basis))
    shop.ask(command(quantity=3))
    for n, what in enumerate(order):
        if what in "kn":
            shop.count(NORTH, 10 if what == "k" and not basis else 7, NOW + at[what], basis)
        elif what == "d":
            shop.ship(shipment(NORTH, 3, NOW + at["d"]))
        else:
            shop.now_ms = max(shop.now_ms, NOW + at[what])
            shop.ask(command("COMMIT" if what == "c" else "FULFIL", command_id=what, quantity=0))
        heard = order[: n + 1]
        assert shop.available() <= 7, heard
        assert shop.available() == 7 or "d" not in heard, heard
    assert (shop.available(), shop.row.reserved) == (7, {})
    assert shop.holds["r1"].state == FULFILLED
    assert left(shop.holds["r1"]) == 3


@pytest.mark.parametrize("order", list(permutations(["f1", "f2", "d1", "d2"])))
def test_of_a_shop_and_a_supplier_that_both_tell_of_parcels_the_one_who_told_of_more_is_right(
    order: tuple[str, ...],
) -> None:
    shop = Shop(stock({NORTH: 10}))
    shop.ask(command(quantity=4))
    shop.ask(command("COMMIT", command_id="c", quantity=0))
    for n, what in enumerate(order):
        shop.now_ms += 1_000
        units = int(what[1])
        if what[0] == "d":
            shop.ship(shipment(NORTH, units, NOW + 500 + units))
        else:
            assert shop.ask(command("FULFIL", command_id=what, quantity=units)) is not None
        told = [sum(int(one[1]) for one in order[: n + 1] if one[0] == who) for who in "fd"]
        hold = shop.holds["r1"]
        assert [told_by_shop(hold), told_by_supplier(hold)] == told
        assert left(hold) == max(told)
        assert hold.state == COMMITTED
        assert shop.available() == 6
    shop.count(NORTH, 7, shop.now_ms + 1_000, 0)
    assert shop.available() == 6
    assert [fact["fact"] for fact in shop.facts].count(CLOSED) == 2


def test_all_that_the_shop_fulfils_at_once_are_the_units_that_the_supplier_told_of_and_the_rest() -> None:
    shop = Shop(stock({NORTH: 10}))
    shop.ask(command(quantity=4))
    shop.ask(command("COMMIT", command_id="c", quantity=0))
    shop.ship(shipment(NORTH, 3, NOW + 1))
    shop.ask(command("FULFIL", command_id="f", quantity=0))
    hold = shop.holds["r1"]
    assert (hold.state, told_by_shop(hold), told_by_supplier(hold), hold.steps[-1].units) == (FULFILLED, 4, 3, 4)
    refused = shop.ask(command("FULFIL", command_id="again", quantity=1))
    assert refused is not None
    assert refused.fact == UNCHANGED
    assert shop.available() == 6


def test_what_has_been_given_back_is_not_shipped_and_what_has_left_is_not_given_back() -> None:
    shop = Shop(stock({NORTH: 10}))
    shop.ask(command(quantity=4))
    shop.ask(command("COMMIT", command_id="c", quantity=0))
    shop.ask(command("RELEASE", command_id="x", quantity=1))
    [decision] = shop.ship(shipment(NORTH, 9, NOW + 1))
    assert decision.units == 3
    assert shop.holds["r1"].state == FULFILLED
    refused = shop.ask(command("RELEASE", command_id="y", quantity=1))
    assert refused is not None
    assert refused.fact == UNCHANGED
    assert shop.available() == 1, "9 units left, whatever was sold of them"
    assert shop.ship(shipment(NORTH, 1, NOW + 2)) == []


@pytest.mark.parametrize("end", ["lapse", "RELEASE", "COMMIT"])
def test_what_ships_before_it_is_committed_has_left_all_the_same(end: str) -> None:
    shop = Shop(stock({NORTH: 10}))
    shop.ask(command(quantity=4, expires_in_ms=1_000))
    shop.ship(shipment(NORTH, 1, NOW + 1))
    assert (shop.holds["r1"].state, shop.available()) == (HELD, 6)
    if end == "lapse":
        shop.now_ms += 1_000
        shop.lapse()
    else:
        shop.ask(command(end, command_id=end, quantity=0))
    hold = shop.holds["r1"]
    assert (hold.state, left(hold), hold.open_units) == {
        "lapse": (EXPIRED, 1, 0), "RELEASE": (FULFILLED, 1, 0), "COMMIT": (COMMITTED, 1, 3)
    }[end]  # fmt: skip
    assert shop.available() == (6 if end == "COMMIT" else 9)


def test_a_hold_that_ships_whole_is_at_its_end_and_does_not_lapse() -> None:
    shop = Shop(stock({NORTH: 10}))
    shop.ask(command(quantity=2, expires_in_ms=1_000))
    shop.ship(shipment(NORTH, 2, NOW + 1))
    hold = shop.holds["r1"]
    assert (hold.state, hold.ended_at, hold.expires_at) == (FULFILLED, NOW, None)
    shop.now_ms += 5_000
    shop.lapse()
    assert shop.holds["r1"] == hold


@pytest.mark.parametrize("counted_between", [False, True])
def test_a_change_that_is_told_again_closes_once(counted_between: bool) -> None:
    shop = Shop(stock({NORTH: 10}))
    shop.ask(command(quantity=4))
    change = shipment(NORTH, 6, NOW + 1)
    assert [decision.units for decision in shop.ship(change)] == [4]
    if counted_between:
        shop.count(NORTH, 4, NOW + 2_000, 0)  # then the row has forgotten the change, and takes it for another one
    shop.ask(command(reservation_id="r2", command_id="h2"))
    assert shop.ship(change) == []
    assert shop.available() == 3


def test_a_correction_closes_what_it_ships_more_and_opens_nothing_again() -> None:
    shop = Shop(stock({NORTH: 10}))
    shop.ask(command(quantity=8))
    first = shipment(NORTH, 2, NOW + 1, update_id="d")
    assert [d.units for d in shop.ship(first)] == [2]
    assert [d.units for d in shop.ship(first._replace(observed_at=NOW + 2, units=5))] == [3]
    assert [d.units for d in shop.ship(first._replace(observed_at=NOW + 3, units=1))] == []
    assert left(shop.holds["r1"]) == 5


def test_only_what_its_order_has_at_its_source_is_closed_and_what_is_sold_beyond_the_stock_last() -> None:
    shop = Shop(stock({NORTH: 2, EAST: 9}), Policies({"default": Policy("default", 1, backorder_units_max=9)}))
    shop.ask(command(quantity=2, supplier_id="acme"))
    shop.ask(command(quantity=2, supplier_id="bolt", reservation_id="r2", command_id="h2"))
    shop.ask(command(quantity=10, reservation_id="r3", command_id="h3"))
    shop.ask(command(quantity=1, reservation_id="r4", command_id="h4", order_id="another"))
    shop.ship(shipment(NORTH, 4, NOW + 1))
    closed = {name: [(p.source, p.quantity) for p in hold.parts if p.closed] for name, hold in shop.holds.items()}
    assert closed == {"r1": [(NORTH, 2)], "r2": [], "r3": [("", 2)], "r4": []}


def test_what_the_shop_has_fulfilled_is_shipped_first_then_what_is_committed_then_what_is_held() -> None:
    shop = Shop(stock({NORTH: 9}))
    for name in ("r1", "r2", "r3"):
        shop.ask(command(quantity=3, reservation_id=name, command_id=f"h-{name}"))
    for name in ("r2", "r3"):
        shop.ask(command("COMMIT", reservation_id=name, command_id=f"c-{name}", quantity=0))
    shop.ask(command("FULFIL", reservation_id="r3", command_id="f", quantity=2))
    for n, expected in enumerate(({"r3": 2}, {"r2": 2, "r3": 2}, {"r2": 3, "r3": 3}, {"r1": 2, "r2": 3, "r3": 3})):
        shop.ship(shipment(NORTH, 2, NOW + 1 + n))
        assert {name: units for name, h in shop.holds.items() if (units := told_by_supplier(h))} == expected


def test_a_hold_of_too_many_steps_is_closed_no_more() -> None:
    shop = Shop(stock({NORTH: 9}))
    shop.ask(command(quantity=3))
    full = replace(shop.holds["r1"], steps=[Step(HELD, NOW, 3)] * STEPS_MAX)
    assert close(shipment(NORTH, 1, NOW), [full], NOW) == []
    almost = replace(full, steps=full.steps[1:])
    assert len(close(shipment(NORTH, 1, NOW), [almost], NOW)) == 1


def asked_for(shop: Shop, rng: random.Random, n: int) -> Command:
    """What a shop does next: most of it with what it has reserved."""
    likely = {HELD: (COMMIT, COMMIT, COMMIT, RELEASE), COMMITTED: (FULFIL, FULFIL, FULFIL, RELEASE)}
    open_holds = [hold for hold in shop.holds.values() if hold.state in likely]
    if not open_holds or rng.random() < 0.3:
        order_id, units = rng.choice(("o1", "o1", "o2", None)), rng.randint(1, 6)
        expires_in_ms = rng.choice((20_000, 900_000))
        return command(
            reservation_id=f"r{n}", command_id=f"c{n}", order_id=order_id, quantity=units, expires_in_ms=expires_in_ms
        )
    hold = rng.choice(open_holds)
    units, location = rng.choice((0, 1, 2)), rng.choice((None, None, "north"))
    return command(
        rng.choice(likely[hold.state]),
        command_id=f"c{n}", reservation_id=hold.reservation_id, quantity=units, location_id=location,
    )  # fmt: skip


Event = Counted | Shipment


@pytest.mark.parametrize("seed", range(200))
def test_shipments_commands_and_counts_of_any_kind_keep_every_law(seed: int) -> None:
    rng = random.Random(seed)
    begin = {key: rng.randint(4, 12) for key in SOURCES}
    shop = Shop(stock(begin), Policies({"default": Policy("default", 1, backorder_units_max=rng.choice((0, 5)))}))
    heard: list[Event] = []
    for n in range(70):
        shop.now_ms += rng.randint(0, 3_000)
        shape, key = rng.random(), rng.choice(SOURCES)
        at = shop.now_ms - rng.randint(-2_000, 5_000)
        before = dict(shop.holds)
        if shape < 0.15:
            count = Counted(key, rng.randint(0, 9), at, rng.choice((0, 1)))
            heard.append(count)
            shop.count(*count)
        elif shape < 0.45:
            changes = [one for one in heard if isinstance(one, Shipment)]
            again = changes and rng.random() < 0.3
            order_id, update_id = rng.choice(("o1", "o1", "o2")), f"d{rng.randrange(40)}"
            change = rng.choice(changes) if again else shipment(key, rng.randint(1, 4), at, order_id, update_id)
            heard.append(change)
            shop.ship(change)
        else:
            shop.ask(asked_for(shop, rng, n))
        for name, hold in before.items():
            assert left(shop.holds[name]) >= left(hold), "what has left does not come back"
            assert told_by_supplier(shop.holds[name]) >= told_by_supplier(hold)
        counts = {key: decode_source(source).count for key, source in shop.row.sources.items()}
        assert shop.row.reserved == of_holds(shop.holds.values(), counts)
    _units_add_up(shop)
    _rows_come_of_facts_and_updates_in_any_interleaving(shop, begin, heard, rng)


def _units_add_up(shop: Shop) -> None:
    closed: dict[str, int] = {}
    for name, hold in shop.holds.items():
        facts = [fact for fact in shop.facts if fact["reservation_id"] == name]
        sums = {kind: sum(f["units"] for f in facts if f["fact"] == kind) for kind in (HELD, RELEASED, EXPIRED)}
        assert hold.held == sums[HELD] - sums[RELEASED] - sums[EXPIRED]
        assert told_by_shop(hold) == sum(fact["units"] for fact in facts if fact["fact"] == FULFILLED)
        assert told_by_supplier(hold) == sum(fact["units"] for fact in facts if fact["fact"] == CLOSED)
        assert (hold.open_units == 0) == (hold.ended_at is not None)
        for step in hold.steps:
            if step.fact == CLOSED and step.command_id is not None:
                closed[step.command_id] = closed.get(step.command_id, 0) + step.units
    assert all(units <= int(command_id.rpartition(":")[2]) for command_id, units in closed.items())


def _rows_come_of_facts_and_updates_in_any_interleaving(
    shop: Shop, begin: dict[str, int], heard: list[Event], rng: random.Random
) -> None:
    events: list[Fact | Counted | Shipment] = [*shop.facts]
    places = sorted(rng.randrange(len(events) + 1) for _ in heard)
    for place, told in reversed(list(zip(places, heard, strict=True))):
        events.insert(place, told)
    again, holds = stock(begin), dict[str, Hold]()
    for event in events:
        if isinstance(event, Shipment):
            shipped(again, event)
        elif isinstance(event, Counted):
            counted(again, event)
        else:
            before = holds.get(event["reservation_id"])
            holds[event["reservation_id"]] = after = hold_after(before, event)
            row_after(again, before, after)
    assert holds == shop.holds
    assert (again.sources, again.reserved, again.on_hand) == (shop.row.sources, shop.row.reserved, shop.row.on_hand)
