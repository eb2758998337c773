"""Reservations of a stock that two systems count: whatever each tells, and when, no unit is sold twice, nor lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations

import pytest

from inventory.policies import Policies
from inventory.reservations.shipments import Shipment
from schemas.keys import source_key
from schemas.policies import Policy
from schemas.reservations import COMMITTED, FULFILLED, HELD, RELEASED, Part
from tests.inventory.reservations.builders import NOW, command
from tests.inventory.reservations.shop import Counted, Shop, shipment, stock

ERP, WMS, ELSE = source_key("erp", "berlin"), source_key("wms", "north"), source_key("else", "west")
STALE_MS = 9_000


def pooled(*more: Policy) -> Policies:
    by_scope = {f"supplier:{name}": Policy(f"supplier:{name}", 1, pool="main") for name in ("erp", "wms")}
    return Policies(by_scope | {policy.scope: policy for policy in more}, 1)


def shop_of(basis: int = 0, **units: int) -> Shop:
    keys = {"erp": ERP, "wms": WMS, "other": ELSE}
    return Shop(stock({keys[name]: n for name, n in units.items()}, basis), pooled())


def sources_of(shop: Shop, own_id: str = "r1") -> list[tuple[str, int]]:
    return [(part.source, part.quantity) for part in shop.holds[own_id].parts]


def change(shop: Shop, action: str, own_id: str = "r1", **fields: object) -> None:
    fields = {"quantity": 0, "command_id": f"{action}-{own_id}"} | fields
    assert shop.ask(command(action, reservation_id=own_id, **fields)) is not None


# -- which view gives the units


def test_a_hold_is_given_by_the_view_that_speaks_and_comes_off_the_next_one_that_does() -> None:
    shop = shop_of(erp=10, wms=10)
    shop.count(ERP, 9, NOW - 100, 0)
    shop.ask(command(quantity=6))
    assert (sources_of(shop), shop.available()) == ([(ERP, 6)], 3)
    shop.count(WMS, 8, NOW - 50, 0)
    assert shop.available() == 2
    shop.ask(command(quantity=3, reservation_id="r2", command_id="h2"))
    assert (shop.holds["r2"].state, shop.holds["r2"].left) == ("REFUSED", 2)
    shop.ask(command(quantity=2, reservation_id="r3", command_id="h3"))
    assert sources_of(shop, "r3") == [(WMS, 2)]
    shop.count(ERP, 9, NOW, 0)
    assert shop.available() == 1, "both holds come off, whichever view they are of"


def test_what_is_given_back_can_be_sold_again_whichever_view_speaks() -> None:
    for speaks in (ERP, WMS):
        shop = shop_of(erp=10, wms=10)
        shop.ask(command(quantity=4))
        shop.count(speaks, 10, NOW, 0)
        assert shop.available() == 6
        change(shop, "RELEASE")
        assert (shop.holds["r1"].state, shop.available(), shop.row.reserved) == (RELEASED, 10, {})


def test_a_transfer_out_of_a_pool_gives_it_back_and_one_within_it_takes_nothing_more() -> None:
    shop = shop_of(erp=10, wms=10, other=5)
    shop.count(WMS, 10, NOW - 10, 0)
    shop.ask(command(quantity=4, supplier_id="wms"))
    shop.count(ERP, 10, NOW, 0)  # it speaks from here on
    change(shop, "TRANSFER", command_id="t1", to_location="berlin", quantity=3)
    assert (sorted(sources_of(shop)), shop.available()) == ([(ERP, 3), (WMS, 1)], 11)
    change(shop, "TRANSFER", command_id="t2", to_location="west")
    assert (sources_of(shop), shop.available()) == ([(ELSE, 4)], 11)
    shop.count(WMS, 10, NOW + 1, 0)
    assert shop.available() == 11


def test_a_view_that_does_not_speak_has_nothing_to_give() -> None:
    shop = shop_of(erp=10, wms=10)
    shop.count(WMS, 10, NOW - 10, 0)
    shop.ask(command(quantity=1, supplier_id="erp"))
    assert (shop.holds["r1"].state, shop.holds["r1"].left) == ("REFUSED", 0)


@pytest.mark.parametrize(
    "declared_by", ["supplier:erp supplier:wms", "location:berlin", "supplier:erp location:berlin"]
)
def test_a_sale_comes_off_every_view_until_the_slowest_knows_of_it_whoever_declares_the_pool(declared_by: str) -> None:
    wms = source_key("wms", "berlin")
    shop = Shop(stock({ERP: 10, wms: 9}, 1))
    declared = {scope: Policy(scope, 1, pool="main") for scope in declared_by.split()}
    slow = Policy("supplier:wms", 1, pool="main" if "supplier:wms" in declared else None, netting_delay_ms=30_000)
    shop.policies = Policies(declared | {slow.scope: slow}, 1)
    shop.count(ERP, 10, NOW - 10, 1)
    shop.ask(command(quantity=6))
    change(shop, "COMMIT")
    assert sources_of(shop) == [(ERP, 6)]
    shop.count(wms, 10, NOW + 5_000, 1)
    assert shop.available() == 4, "it has not heard of the sale yet"
    shop.count(wms, 4, NOW + 31_000, 1)
    assert shop.available() == 4, "and now it has"


# -- in whatever order


@pytest.mark.parametrize("basis", [0, 1])
@pytest.mark.parametrize("told", [(), ("ship",)])
def test_commit_shipment_and_both_views_counts_come_to_one_number_in_any_order(
    told: tuple[str, ...], basis: int
) -> None:
    """Three of ten are sold, and leave; one view may tell of that by a change that names the order."""
    rows = set()
    at = {"erp": NOW + 40_000, "wms": NOW + 50_000, "ship": NOW + 30_000}
    for order in permutations(("commit", "fulfil", *told, "erp", "wms")):
        if order.index("commit") > order.index("fulfil"):
            continue  # it is refused, and asked for again later
        shop = shop_of(basis, erp=10, wms=10)
        shop.ask(command(quantity=3))
        steps: dict[str, Callable[[Shop], object]] = {
            "commit": lambda s: s.ask(command("COMMIT", command_id="c", quantity=0)),
            "fulfil": lambda s: s.ask(command("FULFIL", command_id="f", quantity=0)),
            "erp": lambda s: s.count(ERP, 7, at["erp"], basis),
            "wms": lambda s: s.count(WMS, 7, at["wms"], basis),
            "ship": lambda s: s.ship(shipment(sources_of(s)[0][0], 3, at["ship"])),
        }
        for name in order:
            shop.now_ms = max(shop.now_ms, NOW + {"commit": 10_000, "fulfil": 20_000}.get(name, 0))
            steps[name](shop)
            assert shop.available() <= 7, (order, name)
        rows.add((shop.available(), tuple(shop.row.reserved), shop.holds["r1"].state))
    assert rows == {(7, (), FULFILLED)}


# -- a warehouse that there is


@dataclass
class Warehouse:
    """What lies there, and two systems that count it truly, each in its way, while what they tell is late.

    `bases`: by system. `tells`: those that tell of what leaves by a change that names the order.
    """

    rng: random.Random
    shop: Shop
    lies: int
    bases: dict[str, int]
    tells: tuple[str, ...]
    late: list[Counted | Shipment] = field(default_factory=list)
    orders: int = 0

    @property
    def sold(self) -> int:
        """Units that are committed and lie there."""
        holds = self.shop.holds.values()
        return sum(p.quantity for h in holds if h.state == COMMITTED for p in h.parts if p.fulfilled_at is None)

    @property
    def free(self) -> int:
        """Units that nobody has."""
        held = sum(part.quantity for hold in self.shop.holds.values() if hold.state == HELD for part in hold.parts)
        return self.lies - self.sold - held

    def count(self, key: str) -> Counted:
        units = self.lies - (self.sold if self.bases[key] else 0)
        return Counted(key, units, self.shop.now_ms, self.bases[key])

    def hear(self) -> None:
        """Something that was told some time ago comes in."""
        told = self.late.pop(self.rng.randrange(len(self.late)))
        if isinstance(told, Counted):
            self.shop.count(*told)
        else:
            self.shop.ship(told)

    def order(self) -> None:
        self.orders += 1
        own_id = f"r{self.orders}"
        quantity = self.rng.randint(1, 5)
        self.shop.ask(command(command_id=own_id, reservation_id=own_id, order_id=own_id, quantity=quantity))

    def change(self) -> None:
        """One of the open holds goes on."""
        open_ones = [hold for hold in self.shop.holds.values() if hold.state in (HELD, COMMITTED)]
        if not open_ones:
            return
        hold = self.rng.choice(open_ones)
        action = self.rng.choice(("COMMIT", "RELEASE") if hold.state == HELD else ("FULFIL", "FULFIL", "RELEASE"))
        units = 0 if action == "COMMIT" else self.rng.choice((0, 1))
        n = f"{action}-{hold.reservation_id}-{len(hold.steps)}"
        before = self.there(hold.parts)
        done = self.shop.ask(
            command(action, command_id=n, reservation_id=hold.reservation_id, order_id=hold.order_id, quantity=units)
        )
        if action == "FULFIL" and done is not None:
            self.lies -= done.units
            assert before - self.there(done.hold.parts) == done.units
            self.late += [shipment(key, done.units, self.shop.now_ms, hold.reservation_id, n) for key in self.tells]

    @staticmethod
    def there(parts: list[Part]) -> int:
        return sum(part.quantity for part in parts if part.fulfilled_at is None)


@pytest.mark.parametrize("seed", range(200))
def test_of_a_stock_that_two_systems_count_no_unit_is_promised_twice_and_at_rest_none_is_missing(seed: int) -> None:
    rng = random.Random(seed)
    units = rng.randint(5, 40)
    shop = Shop(stock({ERP: units, WMS: units}, at=NOW - 2_000))
    shop.policies = pooled(*rng.choice(((), (Policy("supplier:erp", 1, pool="main", stale_after_ms=STALE_MS),))))
    bases = {key: rng.choice((0, 1)) for key in (ERP, WMS)}
    house = Warehouse(rng, shop, units, bases, rng.choice(((), (ERP,), (WMS,), (ERP, WMS))))
    for _ in range(80):
        shop.now_ms += rng.randint(1, 3_000)
        match rng.choice(("order", "order", "change", "change", "count", "hear", "hear", "filled")):
            case "order":
                house.order()
            case "change":
                house.change()
            case "count":
                house.late.append(house.count(rng.choice((ERP, WMS))))
            case "filled":
                house.lies += rng.choice((0, 0, 4))
            case "hear" if house.late:
                house.hear()
        assert 0 <= shop.available() <= max(0, house.free), seed
        assert house.free >= 0
    shop.now_ms += 5_000
    house.late += [house.count(ERP), house.count(WMS)]
    while house.late:
        house.hear()
    assert shop.available() == house.free, "once both have counted, every unit can be sold"
