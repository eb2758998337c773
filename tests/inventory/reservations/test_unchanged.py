"""Changes that are refused, or have nothing to do: what they are told is kept, and nothing else comes of them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from inventory.policies import Policies
from inventory.reservations.decide import STEPS_MAX, Case, Decision, decide, expire
from inventory.reservations.facts import Origin, fact_of, hold_after, row_after
from inventory.reservations.reallocation import ask_to_move
from inventory.reservations.unchanged import UNCHANGED_MAX
from schemas.reservations import (
    COMMIT,
    COMMITTED,
    EXPIRED,
    EXTEND,
    FULFIL,
    FULFILLED,
    HELD,
    PENDING,
    RELEASE,
    RELEASED,
    TRANSFER,
    UNCHANGED,
    Hold,
    Unchanged,
)
from schemas.rows import encode
from tests.inventory.reservations.builders import NOW, command
from tests.inventory.reservations.several import Shops, lines, several
from tests.inventory.reservations.shop import SOURCES, Shop, stock

MINUTE_MS = 60_000


def begun(*done: str, units: int = 4) -> Shop:
    """A shop with a hold of four units, two at each of two places, to which this was done."""
    shop = Shop(stock({SOURCES[0]: 2, SOURCES[1]: 2}))
    shop.ask(command(quantity=units, expires_in_ms=MINUTE_MS))
    for action in done:
        shop.ask(command(action, command_id=f"done-{action}", quantity=0))
    return shop


def asked(shop: Shop, action: str, command_id: str = "x", **fields: Any) -> Decision | None:
    return shop.ask(command(action, command_id=command_id, **{"quantity": 0} | fields))


def hold(shop: Shop) -> Hold:
    return shop.holds["r1"]


REFUSED: dict[str, tuple[tuple[str, ...], str, dict[str, Any], tuple[Any, ...]]] = {
    "shipped before it is committed": ((), FULFIL, {}, (HELD, 4, 0, 4, 1)),
    "more given back than is open": ((), RELEASE, {"quantity": 5}, (HELD, 4, 5, 4, 1)),
    "more given back than is open there": ((), RELEASE, {"quantity": 3, "location_id": "north"}, (HELD, 4, 3, 2, 1)),
    "more shipped than is there": ((COMMIT,), FULFIL, {"quantity": 5}, (COMMITTED, 4, 5, 4, 2)),
    "extended after its commit": ((COMMIT,), EXTEND, {}, (COMMITTED, 4, 0, 0, 2)),
    "moved to where there is nothing": ((COMMIT,), TRANSFER, {"to_location": "mars"}, (COMMITTED, 4, 0, 0, 2)),
    "committed after it was given back": ((RELEASE,), COMMIT, {}, (RELEASED, 0, 0, 0, 2)),
    "shipped twice": ((COMMIT, FULFIL), FULFIL, {}, (FULFILLED, 0, 0, 0, 3)),
    "committed twice, which succeeds": ((COMMIT,), COMMIT, {}, (COMMITTED, 4, 0, 0, 2)),
    "given back twice, which succeeds": ((RELEASE,), RELEASE, {}, (RELEASED, 0, 0, 0, 2)),
}
"""What was done, what is asked, and what is kept of it: state, open units, units asked for, units there, steps."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_change_is_told_that_changes_nothing_is_kept_and_nothing_else_is_other_than_before(name: str) -> None:
    done, action, fields, (state, still_open, quantity, there, steps) = REFUSED[name]
    shop = begun(*done)
    before, row = hold(shop), encode(shop.row)
    decision = asked(shop, action, **fields)
    assert decision is not None
    assert (decision.fact, decision.units, decision.command_id) == (UNCHANGED, 0, "x")
    assert hold(shop).unchanged == [Unchanged("x", NOW, state, still_open, quantity, there, steps)]
    assert replace(hold(shop), unchanged=[]) == before
    assert encode(shop.row) == row, "no sum is other than before, and no version"


@pytest.mark.parametrize("name", REFUSED)
def test_its_repeat_does_nothing_whatever_has_become_of_the_hold(name: str) -> None:
    done, action, fields, _ = REFUSED[name]
    shop = begun(*done)
    asked(shop, action, **fields)
    for now in (None, COMMIT, RELEASE):
        if now is not None:
            asked(shop, now, command_id=f"then-{now}")
        before, facts = hold(shop), len(shop.facts)
        assert asked(shop, action, **fields) is None
        assert asked(shop, action, **fields | {"quantity": 1}) is None, "it is the same command, asked in another way"
        assert (hold(shop), len(shop.facts)) == (before, facts)
    assert hold(shop).unchanged[0].command_id == "x"


def test_what_was_refused_can_be_done_by_another_command() -> None:
    shop = begun()
    asked(shop, FULFIL, command_id="early")
    asked(shop, COMMIT, command_id="commit")
    asked(shop, FULFIL, command_id="again")
    assert (hold(shop).state, [one.command_id for one in hold(shop).unchanged]) == (FULFILLED, ["early"])


def test_a_change_that_was_carried_out_stays_so() -> None:
    shop = begun()
    asked(shop, COMMIT, command_id="commit")
    asked(shop, RELEASE, command_id="release")
    assert asked(shop, COMMIT, command_id="commit") is None
    assert hold(shop).unchanged == []


def test_the_oldest_of_too_many_goes_and_is_decided_anew() -> None:
    shop = begun()
    for n in range(UNCHANGED_MAX):
        asked(shop, FULFIL, command_id=f"x{n}")
    asked(shop, COMMIT, command_id="commit")
    assert asked(shop, FULFIL, command_id="x0", quantity=1) is None
    asked(shop, EXTEND, command_id="one-more")
    assert [one.command_id for one in hold(shop).unchanged] == [f"x{n}" for n in range(1, UNCHANGED_MAX)] + ["one-more"]
    assert asked(shop, FULFIL, command_id="x1", quantity=1) is None
    assert asked(shop, FULFIL, command_id="x0", quantity=1) is not None
    assert hold(shop).open_units == 3


def test_refused_changes_take_none_of_the_steps_of_a_hold() -> None:
    shop = begun()
    for n in range(2 * STEPS_MAX):
        asked(shop, FULFIL, command_id=f"x{n}")
    asked(shop, COMMIT, command_id="commit")
    assert [step.fact for step in hold(shop).steps] == [HELD, COMMITTED]


def test_what_comes_after_the_last_step_that_is_kept_is_refused_and_kept() -> None:
    shop = begun()
    for n in range(STEPS_MAX - 1):
        asked(shop, EXTEND, command_id=f"e{n}")
    asked(shop, COMMIT, command_id="commit")
    assert (hold(shop).state, hold(shop).unchanged[-1].steps) == (HELD, STEPS_MAX)


def test_what_has_lapsed_is_ended_before_a_change_of_it_is_refused() -> None:
    shop = begun()
    lapsed, commit = hold(shop), command(COMMIT, command_id="x", quantity=0)
    shop.now_ms += MINUTE_MS
    assert decide(commit, Case(None, lapsed, Policies(), shop.now_ms)) is None, "it is not said yet what it is"
    shop.ask(commit)
    assert [fact["fact"] for fact in shop.facts] == [HELD, EXPIRED, UNCHANGED]
    assert hold(shop).unchanged == [Unchanged("x", shop.now_ms, EXPIRED, 0, 0, 0, 2)]
    assert expire(hold(shop), shop.now_ms) is None
    assert hold(shop).ended_at == shop.now_ms


def test_of_a_reservation_that_is_not_there_nothing_is_kept() -> None:
    shop = Shop(stock({SOURCES[0]: 5}))
    for action in (COMMIT, EXTEND, FULFIL, RELEASE, TRANSFER):
        assert asked(shop, action) is None
    assert (shop.holds, shop.facts) == ({}, [])


def test_of_a_line_nothing_is_kept_whoever_asks() -> None:
    line = replace(hold(begun()), coordinated=True, expires_at=None)
    for coordinated in (True, False):
        ship = command(FULFIL, command_id="x", quantity=0, coordinated=coordinated)
        assert decide(ship, Case(None, line, Policies(), NOW)) is None


def test_one_that_begins_anew_knows_nothing_of_what_a_former_one_was_told() -> None:
    shop = begun()
    asked(shop, FULFIL)
    assert hold_after(hold(shop), shop.facts[0]).unchanged == []


def test_what_a_hold_has_in_its_row_is_there_once_also_if_its_first_step_is_its_only_one() -> None:
    """What is made anew takes nothing of a former one's away; what was refused something is not made anew."""
    shop = begun()
    held, before = encode(shop.row), hold(shop)
    asked(shop, FULFIL)
    again = hold_after(before, shop.facts[-1])
    assert not row_after(shop.row, before, again)
    assert encode(shop.row) == held


# -- of several SKUs


def two() -> Shops:
    shops = Shops({"a": 4, "b": 5})
    shops.ask(several(lines=lines(a=2, b=1)))
    shops.settle()
    assert shops.state == HELD
    return shops


def kept(shops: Shops) -> list[tuple[Any, ...]]:
    assert shops.record is not None
    return [(one.command_id, one.state, one.open, one.quantity, one.steps) for one in shops.record.unchanged]


def test_what_a_coordinator_refuses_is_kept_with_the_reservation_and_no_line_hears_of_it() -> None:
    shops = two()
    sent = shops.sent
    ship = several(FULFIL, command_id="early", lines=lines(a=1, b=1))
    shops.ask(ship)
    assert (kept(shops), shops.sent) == ([("early", HELD, 3, 2, 2)], sent)
    shops.ask(several(COMMIT, command_id="commit"))
    shops.settle()
    before = shops.record
    shops.ask(ship)
    assert shops.record == before
    shops.ask(several(FULFIL, command_id="later", lines=lines(a=1, b=1)))
    shops.settle()
    assert sum(shops.open().values()) == 1
    shops.agree()


def test_what_is_asked_before_all_lines_have_answered_is_refused_at_once() -> None:
    shops = Shops({"a": 4, "b": 5})
    shops.ask(several(lines=lines(a=2, b=1)))
    shops.ask(several(COMMIT, command_id="early"))
    assert kept(shops) == [("early", PENDING, 0, 0, 1)]
    assert shops.record is not None
    assert (shops.record.waits_for("early"), shops.record.waits_for("h")) == (False, True)
    shops.settle()
    shops.ask(several(COMMIT, command_id="early"))
    assert shops.state == HELD


def test_a_transfer_that_its_line_refuses_is_kept_and_is_not_asked_again() -> None:
    shops = two()
    move = several(TRANSFER, command_id="u", lines=lines(b=1), to_location="mars")
    shops.ask(move)
    assert kept(shops) == []
    shops.settle()
    assert kept(shops) == [("u", HELD, 3, 1, 2)]
    sent = shops.sent
    shops.ask(move)
    assert (len(kept(shops)), shops.sent) == (1, sent)
    shops.agree()


def test_what_a_worker_asks_for_by_itself_is_not_kept() -> None:
    shops = two()
    shops.ask(ask_to_move(shops.holds["a"], shops.now_ms))
    shops.settle()
    assert kept(shops) == []
    shops.ask(several(RELEASE, command_id="r"))
    shops.settle()
    shops.ask(ask_to_move(shops.holds["a"], shops.now_ms))
    assert kept(shops) == []


def test_a_fact_has_what_was_told_and_no_other_fact_has() -> None:
    shop = begun()
    asked(shop, FULFIL)
    asked(shop, COMMIT, command_id="commit")
    told = [fact["unchanged"] for fact in shop.facts]
    assert [one and one["command_id"] for one in told] == [None, "x", None]
    decision = Decision(COMMITTED, hold(shop), 4)
    assert fact_of(decision, Origin(3, "commit", None, NOW))["unchanged"] is None, "though its hold has one"
