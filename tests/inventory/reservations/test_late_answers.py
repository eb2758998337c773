"""What a line does that was asked for a transfer twice, and refused it at first."""

from __future__ import annotations

import pytest

from inventory.reservations.decide import Command
from inventory.reservations.reallocation import ask_to_move
from schemas.keys import source_key
from schemas.reservations import COMMIT, TRANSFER
from schemas.rows import Count, Source, encode
from tests.inventory.reservations.builders import NOW
from tests.inventory.reservations.several import Shops, lines, several

NORTH, SOUTH = source_key("acme", "north"), source_key("acme", "south")


def held() -> Shops:
    shops = Shops({"a": 4, "b": 5})
    shops.ask(several(lines=lines(a=2, b=1)))
    shops.settle()
    return shops


def refused_and_asked_again(shops: Shops, ask: Command) -> None:
    """A line has nothing in the south when it is asked, and has when the same message comes a second time."""
    had = shops.rows["a"].sources[SOUTH]
    shops.rows["a"].sources[SOUTH] = encode(Source(Count(0, "c", NOW - 1, 0)))
    shops.ask(ask)
    asked = shops.waiting["a"][-1]
    shops.settle()
    assert shops.record is not None
    assert not shops.record.answers(ask["command_id"])
    shops.rows["a"].sources[SOUTH] = had
    shops.receive(asked)


def locations(shops: Shops) -> list[str]:
    return [part.location_id for part in shops.holds["a"].parts]


def test_a_transfer_that_a_line_refused_it_refuses_for_good_since_its_storefront_was_told_so() -> None:
    shops = held()
    refused_and_asked_again(shops, several(TRANSFER, command_id="t", lines=lines(a=0), to_location="south"))
    shops.settle()
    assert shops.record is not None
    told = shops.record.unchanged_by("t")
    shops.replay()
    shops.settle()
    assert locations(shops) == ["north"]
    assert shops.record.unchanged_by("t") == told is not None
    assert not shops.record.answers("t")
    shops.agree()


def test_the_same_transfer_under_another_key_is_carried_out() -> None:
    shops = held()
    refused_and_asked_again(shops, several(TRANSFER, command_id="t", lines=lines(a=0), to_location="south"))
    shops.ask(several(TRANSFER, command_id="u", lines=lines(a=0), to_location="south"))
    shops.settle()
    assert locations(shops) == ["south"]
    shops.agree()


@pytest.mark.parametrize("meanwhile", [[], [several(COMMIT, command_id="c")]])
def test_what_a_worker_asks_for_may_be_done_when_it_comes_again_and_is_known_to_its_reservation_once(
    meanwhile: list[Command],
) -> None:
    shops = held()
    shops.rows["a"].sources[NORTH] = encode(Source(Count(0, "c", NOW - 1, 0)))
    ask = ask_to_move(shops.holds["a"], shops.now_ms)
    refused_and_asked_again(shops, ask)
    for each in meanwhile:
        shops.ask(each)
    shops.settle()
    shops.replay()
    shops.settle()
    assert locations(shops) == ["south"]
    assert shops.record is not None
    assert [step.command_id for step in shops.record.steps].count(ask["command_id"]) == 1
    shops.agree()
