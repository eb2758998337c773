"""The laws of reservations of several SKUs, over drawn schedules: what is asked comes late, twice, or is lost."""

from __future__ import annotations

import random
from typing import Any

import pytest

from inventory.reservations.decide import LATE_MS, Command
from inventory.reservations.shipments import Shipment
from schemas.keys import source_key
from schemas.reservations import (
    ASK_AGAIN_MS,
    COMMIT,
    COMMITTED,
    EXPIRED,
    EXTEND,
    FULFIL,
    FULFILLED,
    HELD,
    NO_SKU,
    PENDING,
    REFUSED,
    RELEASE,
    RELEASED,
    TRANSFER,
)
from tests.inventory.reservations.builders import NOW
from tests.inventory.reservations.several import KEPT_MS, MINUTE_MS, RID, SOURCES, Shops, lines, several


def begun(shops: Shops, **fields: Any) -> Shops:
    shops.ask(several(**{"lines": lines(a=2, b=1)} | fields))
    shops.settle()
    return shops


def test_all_lines_are_held_or_none_is() -> None:
    both = begun(Shops({"a": 5, "b": 1}))
    assert (both.state, both.left()) == (HELD, {"a": 3, "b": 0})
    lacks = begun(Shops({"a": 5, "b": 0}))
    assert (lacks.state, lacks.left(), lacks.open()) == (REFUSED, {"a": 5, "b": 0}, {})
    assert lacks.record is not None
    assert lacks.record.reason == "SOLD_OUT"
    assert [(line.sku, line.left) for line in lacks.record.lines] == [("a", 5), ("b", 0)]
    unknown = begun(Shops({"a": 5}))
    assert unknown.record is not None
    assert unknown.record.reason == "UNKNOWN_SKU"
    assert unknown.left() == {"a": 5}


def test_less_will_do_if_that_is_said() -> None:
    some = begun(Shops({"a": 1, "b": 0}), allow_partial=True)
    assert (some.state, some.open()) == (HELD, {"a": 1})
    assert begun(Shops({"a": 0, "b": 0}), allow_partial=True).state == REFUSED


def test_a_repeat_has_no_effect() -> None:
    shops = begun(Shops({"a": 5, "b": 5}))
    before, sent = shops.record, shops.sent
    shops.ask(several(lines=lines(a=2, b=1)))
    assert (shops.record, shops.sent) == (before, sent)
    for messages in list(shops.come.values()):
        for message in messages:
            shops.receive(message)
    shops.settle()
    assert shops.record == before


def test_a_commit_in_time_stands_for_lines_that_hear_of_it_late() -> None:
    shops = begun(Shops({"a": 5, "b": 5}), expires_in_ms=MINUTE_MS)
    shops.ask(several(COMMIT, command_id="c"))
    shops.now_ms += 10 * MINUTE_MS
    shops.settle()
    assert shops.state == COMMITTED
    assert {hold.state for hold in shops.holds.values()} == {COMMITTED}


def test_what_was_asked_after_something_that_was_lost_is_asked_again_after_it() -> None:
    shops = begun(Shops({"a": 5, "b": 5}))
    shops.ask(several(COMMIT, command_id="c"))
    shops.waiting["a"].clear()  # Kafka lost it, and not what follows
    shops.ask(several(FULFIL, command_id="f"))
    shops.settle()
    assert {hold.state for hold in shops.holds.values()} == {FULFILLED}
    assert (shops.state, shops.open()) == (FULFILLED, {})


@pytest.mark.parametrize("action", [RELEASE, FULFIL])
def test_a_line_that_is_held_once_more_after_its_reservation_is_over_gives_back_what_it_has(action: str) -> None:
    shops = begun(Shops({"a": 5, "b": 5}))
    [held, *_] = shops.come["a"]
    shops.ask(several(COMMIT, command_id="c"))
    shops.ask(several(action, command_id="e"))
    shops.settle()
    before = shops.left()
    del shops.holds["a"]  # Kafka loses what became of it, and what it was asked comes again
    shops.receive(held)
    assert shops.left()["a"] == before["a"] - 2
    shops.settle()
    assert (shops.left(), shops.open()) == (before, {})


def test_what_lapses_is_given_back_by_every_line() -> None:
    shops = begun(Shops({"a": 5, "b": 5}), expires_in_ms=MINUTE_MS)
    shops.now_ms += MINUTE_MS
    shops.look()
    shops.settle()
    assert (shops.state, shops.left()) == (EXPIRED, {"a": 5, "b": 5})
    assert {hold.state for hold in shops.holds.values()} == {EXPIRED}


def test_what_lapses_before_all_lines_have_answered_leaves_none_held() -> None:
    shops = Shops({"a": 5, "b": 5})
    shops.ask(several(lines=lines(a=2, b=1), expires_in_ms=MINUTE_MS))
    shops.deliver()
    assert shops.state == PENDING
    shops.now_ms += MINUTE_MS
    shops.look()
    shops.settle()
    assert (shops.state, shops.left(), shops.open()) == (EXPIRED, {"a": 5, "b": 5}, {})


def test_some_lines_are_shipped_or_given_back() -> None:
    shops = begun(Shops({"a": 5, "b": 5}))
    shops.ask(several(COMMIT, command_id="c"))
    shops.ask(several(FULFIL, command_id="f", lines=lines(a=1)))
    shops.settle()
    assert (shops.state, shops.open()) == (COMMITTED, {"a": 1, "b": 1})
    shops.ask(several(FULFIL, command_id="g", lines=lines(a=2)))
    assert shops.open() == {"a": 1, "b": 1}, "two are asked for, and one is open"
    shops.ask(several(RELEASE, command_id="h2", lines=lines(b=0)))
    shops.ask(several(FULFIL, command_id="i"))
    shops.settle()
    assert (shops.state, shops.open(), shops.left()) == (FULFILLED, {}, {"a": 3, "b": 5})
    shops.agree()


def test_a_line_is_transferred_if_there_is_enough() -> None:
    shops = begun(Shops({"a": 4, "b": 5}))
    move = {"command_id": "t", "lines": lines(a=0), "to_location": "south"}
    assert {part.location_id for part in shops.holds["a"].parts} == {"north"}
    shops.ask(several(TRANSFER, **move))
    assert shops.record is not None
    assert shops.record.waits_for("t")
    shops.ask(several(FULFIL, command_id="f", lines=lines(a=1)))
    assert not shops.record.answers("f"), "where its units are is not known at the moment"
    shops.settle()
    assert [(part.location_id, part.quantity) for part in shops.holds["a"].parts] == [("south", 2)]
    assert shops.record.answers("t")
    assert shops.record.units_of("t") == 2
    shops.agree()
    shops.ask(several(TRANSFER, **move | {"command_id": "u", "lines": lines(b=0), "to_location": "mars"}))
    shops.settle()
    assert not shops.record.answers("u")
    assert not shops.record.waits_for("u")


def drawn(n: int, rng: random.Random) -> Command:
    action = rng.choice((COMMIT, COMMIT, FULFIL, RELEASE, EXTEND, TRANSFER))
    some = rng.choice(([], lines(a=0), lines(b=1), lines(a=1, b=0)))
    some = some[:1] or lines(a=0) if action == TRANSFER else some
    return several(action, command_id=f"c{n}", lines=some, to_location=rng.choice(SOURCES))


@pytest.mark.parametrize("seed", range(300))
def test_nothing_is_left_held_by_nobody_whatever_is_late_lost_or_told_twice(seed: int) -> None:
    rng = random.Random(seed)
    units = {"a": rng.randint(0, 4), "b": rng.randint(0, 4), "c": 3}
    shops = Shops(units, rng)
    wanted = lines(a=rng.randint(1, 3), b=rng.randint(1, 2), **({"d": 1} if rng.random() < 0.1 else {}))
    shops.ask(several(lines=wanted, allow_partial=rng.random() < 0.3, expires_in_ms=rng.choice((500, MINUTE_MS))))
    for n in range(rng.randint(0, 40)):
        shape = rng.random()
        if shape < 0.5:
            shops.deliver(lossy=0.15)
        elif shape < 0.6:
            shops.replay()
        elif shape < 0.75:
            shops.now_ms += rng.choice((100, 1_000, ASK_AGAIN_MS))
            shops.look()
        else:
            shops.ask(drawn(n, rng))
        assert all(n >= 0 for n in shops.left().values())
    shops.settle()
    shops.agree()
    if shops.record is not None and shops.record.state in (RELEASED, EXPIRED, REFUSED):
        assert shops.left() == units, "all of it went back"


def parcel(n: int, sku: str, units: int, location: str = "north") -> Shipment:
    return Shipment(sku, "o1", source_key("acme", location), f"d{n}", NOW + n, units, 0)


def test_what_a_supplier_ships_of_a_line_its_reservation_hears_of() -> None:
    shops = begun(Shops({"a": 4, "b": 4}))
    shops.ask(several(COMMIT, command_id="c"))
    shops.settle()
    assert shops.ship(parcel(1, "a", 1)) == 1
    shops.settle()
    assert (shops.state, shops.open(), shops.left()) == (COMMITTED, {"a": 1, "b": 1}, {"a": 2, "b": 3})
    shops.ask(several(FULFIL, command_id="f", lines=lines(a=1)))  # the same unit
    shops.settle()
    assert shops.open() == {"a": 1, "b": 1}
    assert shops.ship(parcel(2, "a", 9)) == 1
    assert shops.ship(parcel(3, "b", 1)) == 1
    shops.settle()
    assert (shops.state, shops.open(), shops.left()) == (FULFILLED, {}, {"a": 2, "b": 3})
    assert shops.record is not None
    assert [(step.fact, step.units) for step in shops.record.steps[2:]] == [
        ("COMMITTED", 3), ("CLOSED", 1), ("FULFILLED", 1), ("CLOSED", 1), ("CLOSED", 1)
    ]  # fmt: skip
    shops.agree()


@pytest.mark.parametrize("units", [0, 2])
def test_what_is_given_back_while_it_ships_goes_back_but_for_what_has_left(units: int) -> None:
    shops = begun(Shops({"a": 4, "b": 4}))
    assert shops.ship(parcel(1, "a", 1)) == 1
    shops.ask(several(RELEASE, command_id="x", lines=lines(a=units)))
    shops.ask(several(RELEASE, command_id="y", lines=lines(b=0)))
    assert shops.state == RELEASED, "as far as the coordinator has heard"
    shops.receive(shops.waiting[RID].popleft())
    assert shops.record is not None
    assert shops.record.open_units == 0, "what the line was asked meanwhile is not undone"
    shops.settle()
    assert (shops.state, shops.open(), shops.left()) == (FULFILLED, {}, {"a": 3, "b": 4})
    shops.agree()


def test_no_more_is_given_back_than_is_open() -> None:
    shops = begun(Shops({"a": 4, "b": 4}))
    shops.ask(several(RELEASE, command_id="x", lines=lines(a=3)))
    shops.settle()
    assert (shops.state, shops.open()) == (HELD, {"a": 2, "b": 1})


def test_what_shipped_of_a_former_line_is_no_word_of_the_one_in_its_place() -> None:
    """The coordinator's partition has lost the reservation, and a line tells of it when it is made anew."""
    shops = begun(Shops({"a": 9, "b": 4}))
    assert shops.ship(parcel(1, "a", 2)) == 2
    shops.record, shops.now_ms = None, shops.now_ms + 1
    shops.ask(several(lines=lines(a=2, b=1)))
    shops.receive(shops.waiting[RID].popleft())
    shops.settle()
    assert (shops.state, shops.open()) == (HELD, {"a": 2, "b": 1})
    shops.agree()


@pytest.mark.parametrize("seed", range(300))
def test_lines_and_their_reservation_agree_whatever_ships_meanwhile(seed: int) -> None:
    rng = random.Random(seed)
    shops = Shops({"a": 4, "b": 4, "c": 3}, rng)
    wanted = lines(a=rng.randint(1, 4), b=rng.randint(1, 3))
    shops.ask(several(lines=wanted, allow_partial=rng.random() < 0.3, expires_in_ms=rng.choice((500, MINUTE_MS))))
    closed = 0
    for n in range(rng.randint(5, 40)):
        shape = rng.random()
        if shape < 0.5:
            shops.deliver(lossy=0.1)
        elif shape < 0.55:
            shops.replay()
        elif shape < 0.65:
            shops.now_ms += rng.choice((100, 1_000, ASK_AGAIN_MS))
            shops.look()
        elif shape < 0.8:
            closed += shops.ship(parcel(rng.randrange(n + 1), rng.choice("ab"), rng.randint(1, 2), rng.choice(SOURCES)))
        else:
            shops.ask(drawn(n, rng))
    shops.settle()
    shops.agree()
    assert sum(part.quantity for hold in shops.holds.values() for part in hold.parts if part.closed) == closed
    assert shops.state not in (HELD, COMMITTED) or shops.open()


def shipped(shops: Shops) -> Shops:
    begun(shops)
    for action in (COMMIT, FULFIL):
        shops.ask(several(action, command_id=action))
    shops.settle()
    return shops


def test_lines_of_a_forgotten_reservation_are_no_answer_to_one_that_is_made_anew() -> None:
    """The coordinator's partition has forgotten it, and those of its lines have not."""
    shops = shipped(Shops({"a": 5, "b": 5}))
    shops.now_ms += KEPT_MS
    shops.forget(NO_SKU)
    assert {hold.state for hold in shops.holds.values()} == {FULFILLED}
    begun(shops)
    assert (shops.state, shops.open()) == (HELD, {"a": 2, "b": 1})
    assert shops.left() == {"a": 1, "b": 3}, "what was shipped, and what is held"
    shops.agree()


def test_a_reservation_is_kept_while_a_line_has_to_answer() -> None:
    shops = begun(Shops({"a": 5, "b": 5}), expires_in_ms=MINUTE_MS)
    shops.now_ms += MINUTE_MS
    shops.look()
    shops.now_ms += KEPT_MS
    shops.forget(NO_SKU)
    assert shops.state == EXPIRED
    shops.settle()
    shops.forget(NO_SKU)
    assert shops.record is None


@pytest.mark.parametrize("gone", ["a", "b"])
def test_what_a_line_was_asked_that_is_forgotten_since_is_done_with(gone: str) -> None:
    shops = begun(Shops({"a": 5, "b": 5}), expires_in_ms=MINUTE_MS)
    shops.now_ms += MINUTE_MS
    shops.look()
    for queue in list(shops.waiting.values()):
        shops.receive(queue.popleft())
    shops.waiting.clear()  # the answers are lost for so long
    shops.now_ms += KEPT_MS
    shops.forget(gone)
    shops.look()
    shops.settle()
    assert shops.record is not None
    assert {(line.sku, line.state, len(line.parts)) for line in shops.record.lines} == {
        ("a", EXPIRED, 0),
        ("b", EXPIRED, 0),
    }
    assert shops.left() == {"a": 5, "b": 5}


def test_what_a_line_is_asked_so_late_that_its_reservation_is_over_for_long_holds_nothing() -> None:
    shops = Shops({"a": 5, "b": 5})
    shops.ask(several(lines=lines(a=2, b=1), expires_in_ms=MINUTE_MS))
    shops.now_ms += LATE_MS
    shops.look()
    shops.settle()
    assert shops.record is not None
    assert (shops.state, shops.holds, {line.state for line in shops.record.lines}) == (EXPIRED, {}, {EXPIRED})
    assert shops.now_ms < NOW + KEPT_MS + LATE_MS, "and that is the end of it"


def test_a_line_that_is_asked_once_more_after_it_was_forgotten_holds_nothing() -> None:
    shops = begun(Shops({"a": 5, "b": 5}), expires_in_ms=MINUTE_MS)
    shops.now_ms += MINUTE_MS
    shops.look()
    shops.settle()
    shops.now_ms += KEPT_MS
    shops.forget("a", "b", NO_SKU)
    for sku in ("a", "b"):
        for message in shops.come[sku]:
            shops.receive(message)
    assert (shops.record, shops.holds) == (None, {})


def test_a_transfer_of_a_line_that_was_over_for_long_comes_to_nothing() -> None:
    shops = begun(Shops({"a": 5, "b": 5}))
    shops.ask(several(COMMIT, command_id="c"))
    shops.ask(several(FULFIL, command_id="f", lines=lines(a=2)))
    shops.settle()
    shops.now_ms += KEPT_MS
    shops.forget("a", "b", NO_SKU)
    assert (set(shops.holds), shops.state) == ({"b"}, COMMITTED)
    shops.ask(several(TRANSFER, command_id="t", lines=lines(a=0), to_location="south"))
    assert shops.record is not None
    assert (shops.record.waits_for("t"), shops.record.answers("t")) == (False, False)
    assert [line.held for line in shops.record.lines] == [2, 1]
    assert shops.record.lines[0].state == FULFILLED


@pytest.mark.parametrize("seed", range(300))
def test_nothing_is_left_held_by_nobody_where_it_is_forgotten_bit_by_bit_and_asked_for_again(seed: int) -> None:
    rng = random.Random(seed)
    shops = Shops({"a": 9, "b": 9, "c": 3}, rng)
    for n in range(60):
        shape = rng.random()
        if shape < 0.5:
            shops.deliver(lossy=0.1)
        elif shape < 0.6:
            shops.now_ms += rng.choice((1_000, ASK_AGAIN_MS))
            shops.look()
        elif shape < 0.7:
            shops.now_ms += rng.choice((MINUTE_MS, KEPT_MS))
            shops.look()
            shops.forget(*(place for place in (NO_SKU, "a", "b", "c") if rng.random() < 0.5))
        elif shape < 0.85:
            shops.ask(drawn(n, rng))
        else:
            shops.ask(several(lines=lines(a=1, b=1), expires_in_ms=rng.choice((500, MINUTE_MS))))
        assert all(units >= 0 for units in shops.left().values())
    shops.settle()
    if shops.record is None:
        assert shops.open() == {}
    else:
        shops.agree()
