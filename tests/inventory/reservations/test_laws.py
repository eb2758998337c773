"""The laws of reservations, over drawn commands, counts and times."""

from __future__ import annotations

import random

import pytest

from inventory.policies import Policies
from inventory.reservations.decide import Command
from inventory.reservations.facts import Fact, hold_after, records_of, row_after
from inventory.reservations.reserved import of_holds
from schemas.policies import Policy
from schemas.reservations import ACTIONS, EXPIRED, HELD, HOLD, REFUSED, RELEASED, UNCHANGED, Hold
from schemas.rows import Open, decode_source
from tests.inventory.reservations.builders import NOW, command
from tests.inventory.reservations.shop import SOURCES, Counted, Shop, counted, stock


def drawn(rng: random.Random, n: int) -> Command:
    action = rng.choice((HOLD, HOLD, HOLD, *ACTIONS))
    return command(
        action,
        command_id=f"c{n if rng.random() < 0.9 else rng.randrange(n + 1)}",
        reservation_id=f"r{rng.randrange(12)}",
        quantity=rng.randint(1, 6) if action == HOLD else rng.choice((0, 0, 1, 2, 5)),
        location_id=rng.choice((None, None, None, "north", "east")),
        channel=rng.choice(("default", "web")),
        allow_partial=rng.random() < 0.3,
        expires_in_ms=rng.choice((1_000, 20_000, 900_000)),
    )


@pytest.mark.parametrize("seed", range(150))
def test_no_sequence_of_commands_holds_more_than_there_is(seed: int) -> None:
    rng = random.Random(seed)
    shop = Shop(stock({key: rng.randint(0, 9) for key in SOURCES}))
    in_stock = {key: decode_source(source).on_hand for key, source in shop.row.sources.items()}
    for n in range(60):
        shop.now_ms += rng.randint(0, 4_000)
        shop.ask(drawn(rng, n))
        taken: dict[str, int] = {}
        for hold in shop.holds.values():
            for part in hold.parts:
                taken[part.source] = taken.get(part.source, 0) + part.quantity
        assert all(taken.get(key, 0) <= units for key, units in in_stock.items())
        assert shop.available() == sum(in_stock.values()) - sum(taken.values())


@pytest.mark.parametrize("seed", range(150))
def test_what_is_reserved_of_a_row_is_what_its_holds_take(seed: int) -> None:
    rng = random.Random(seed)
    shop = Shop(stock({key: rng.randint(0, 9) for key in SOURCES}))
    for n in range(60):
        shop.now_ms += rng.randint(0, 4_000)
        if rng.random() < 0.2:
            shop.count(
                rng.choice(SOURCES), rng.randint(0, 9), shop.now_ms - rng.randint(-2_000, 5_000), rng.choice((0, 1))
            )
        shop.ask(drawn(rng, n))
        counts = {key: decode_source(source).count for key, source in shop.row.sources.items()}
        assert shop.row.reserved == of_holds(shop.holds.values(), counts)


@pytest.mark.parametrize("seed", range(150))
def test_facts_and_counts_in_any_interleaving_give_one_row(seed: int) -> None:
    rng = random.Random(seed)
    begin = {key: rng.randint(0, 9) for key in SOURCES}
    shop = Shop(stock(begin), Policies({"supplier:acme": delayed(rng.choice((0, 6_000)))}))
    counts: list[Counted] = []
    for n in range(50):
        shop.now_ms += rng.randint(0, 4_000)
        if rng.random() < 0.3:
            basis = rng.choice((0, 1))
            counts.append(
                Counted(rng.choice(SOURCES), rng.randint(0, 9), shop.now_ms - rng.randint(-2_000, 5_000), basis)
            )
            shop.count(*counts[-1])
        shop.ask(drawn(rng, n))
    events: list[Fact | Counted] = [*shop.facts]
    for one in counts:
        events.insert(rng.randrange(len(events) + 1), one)
    again, holds = stock(begin), dict[str, Hold]()
    for event in events:
        if isinstance(event, Counted):
            counted(again, event)
        else:
            before = holds.get(event["reservation_id"])
            holds[event["reservation_id"]] = after = hold_after(before, event)
            row_after(again, before, after)
    assert holds == shop.holds
    assert (again.sources, again.reserved, again.on_hand) == (shop.row.sources, shop.row.reserved, shop.row.on_hand)


def test_a_hold_that_lapsed_gives_its_units_back_before_anything_is_decided() -> None:
    shop = Shop(stock({SOURCES[0]: 1}))
    shop.ask(command(expires_in_ms=1_000))
    shop.now_ms += 1_000
    assert shop.ask(command(reservation_id="r2", command_id="c2")) is not None
    assert [fact["fact"] for fact in shop.facts] == [HELD, EXPIRED, HELD]
    refused = shop.ask(command("COMMIT", command_id="c3", quantity=0))
    assert refused is not None
    assert (refused.fact, refused.hold.state) == (UNCHANGED, EXPIRED)


def test_a_request_that_was_decided_is_not_decided_again() -> None:
    shop = Shop(stock({SOURCES[0]: 5}))
    shop.ask(command(quantity=9))
    assert shop.holds["r1"].state == REFUSED
    assert shop.holds["r1"].left == 5
    assert shop.ask(command(quantity=1)) is None
    assert shop.row.reserved == {}


def test_the_order_that_holds_belong_to_is_written_with_the_first_record_of_each() -> None:
    shop = Shop(stock({SOURCES[0]: 5}))
    shop.ask(command())
    first = shop.holds["r1"]
    assert len(records_of(None, first)) == 2
    shop.ask(command("RELEASE", command_id="c2", quantity=0))
    assert shop.holds["r1"].state == RELEASED
    assert len(records_of(first, shop.holds["r1"])) == 1


@pytest.mark.parametrize("basis", [0, 1])
@pytest.mark.parametrize("order", ["csk", "cks", "kcs", "ksc", "skc", "sck"])
def test_units_are_handed_over_to_the_suppliers_number_in_whatever_order_its_count_comes(
    order: str, basis: int
) -> None:
    """c: commit, s: shipment, k: a count that was taken between the two and knows of the sale if its basis says so."""
    key = SOURCES[0]
    shop = Shop(stock({key: 10}, basis))
    shop.ask(command(quantity=3))
    counted_units = 7 if basis else 10  # what is sold is left out by AVAILABLE, and lies there still for ON_HAND
    at = {"c": NOW + 10_000, "k": NOW + 20_000, "s": NOW + 30_000}
    done = ""
    for what in order:
        if what == "k":
            shop.count(key, counted_units, at["k"], basis)
        elif what == "s" and "c" not in done:
            continue  # not possible: what is not committed does not ship
        else:
            shop.now_ms = max(shop.now_ms, at[what])
            shop.ask(command("COMMIT" if what == "c" else "FULFIL", command_id=what, quantity=0))
        done += what
        late = "k" in done and "c" not in done and basis == 1  # the supplier knew before it was told
        assert shop.available() == (4 if late else 7), (order, done)
    if "s" in done:
        shop.count(key, 7, NOW + 40_000, basis)
        assert shop.row.reserved == {}
        assert shop.available() == 7


@pytest.mark.parametrize("basis", [0, 1])
def test_a_slow_sources_count_knows_of_nothing_that_it_was_not_observed_so_much_later_than(basis: int) -> None:
    slow, quick = SOURCES[0], SOURCES[2]
    shop = Shop(stock({slow: 10, quick: 10}, basis), Policies({"supplier:acme": delayed(60_000)}))
    shop.ask(command(quantity=3, supplier_id="acme"))
    shop.ask(command(quantity=3, supplier_id="bolt", reservation_id="r2", command_id="h2"))
    for action in ("COMMIT", "FULFIL"):
        for own_id in ("r1", "r2"):
            shop.ask(command(action, reservation_id=own_id, command_id=f"{action}-{own_id}", quantity=0))
    shop.policies = Policies()  # what was decided stays
    assert shop.available() == 14
    for key in (slow, quick):
        shop.count(key, 10, NOW + 59_999, basis)
    assert shop.available() == 17
    assert list(shop.row.reserved) == [slow]
    shop.count(slow, 10, NOW + 60_000, basis)
    assert (shop.available(), shop.row.reserved) == (20, {})


def delayed(by_ms: int) -> Policy:
    return Policy("supplier:acme", 1, netting_delay_ms=by_ms)


def test_units_of_one_moment_are_one_entry_of_a_row() -> None:
    shop = Shop(stock({SOURCES[0]: 100}))
    for n in range(20):
        shop.ask(command(reservation_id=f"r{n}", command_id=f"h{n}", quantity=2))
    assert shop.row.reserved == {SOURCES[0]: [Open(40, "default")]}
    for n in range(10):
        shop.now_ms += 50
        shop.ask(command("COMMIT", reservation_id=f"r{n}", command_id=f"x{n}", quantity=0))
    assert len(shop.row.reserved[SOURCES[0]]) == 2
