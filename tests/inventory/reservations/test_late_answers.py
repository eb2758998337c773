"""What a line does after its coordinator has heard that it would not: a transfer that was asked for twice."""

from __future__ import annotations

from schemas.keys import source_key
from schemas.reservations import COMMIT, TRANSFER
from schemas.rows import Count, Source, encode
from tests.inventory.reservations.builders import NOW
from tests.inventory.reservations.several import Shops, lines, several

SOUTH = source_key("acme", "south")


def refused_and_asked_again() -> Shops:
    """A line has refused a transfer, since there was nothing; what it was asked came a second time, when there was."""
    shops = Shops({"a": 4, "b": 5})
    shops.ask(several(lines=lines(a=2, b=1)))
    shops.settle()
    had = shops.rows["a"].sources[SOUTH]
    shops.rows["a"].sources[SOUTH] = encode(Source(Count(0, "c", NOW - 1, 0)))
    shops.ask(several(TRANSFER, command_id="t", lines=lines(a=0), to_location="south"))
    asked = shops.waiting["a"][-1]
    shops.settle()
    assert shops.record is not None
    assert not shops.record.answers("t")
    shops.rows["a"].sources[SOUTH] = had
    shops.receive(asked)
    return shops


def test_a_transfer_that_was_refused_and_is_carried_out_when_it_comes_again_is_known_to_its_reservation() -> None:
    shops = refused_and_asked_again()
    shops.settle()
    while shops.deliver():
        pass
    assert [(part.location_id, part.quantity) for part in shops.holds["a"].parts] == [("south", 2)]
    assert shops.record is not None
    assert shops.record.units_of("t") == 2
    shops.agree()


def test_such_a_transfer_counts_once_however_often_it_is_told_and_whatever_was_asked_meanwhile() -> None:
    shops = refused_and_asked_again()
    shops.ask(several(COMMIT, command_id="c"))
    shops.settle()
    shops.replay()
    shops.settle()
    assert shops.record is not None
    assert [step.command_id for step in shops.record.steps].count("t") == 1
    shops.agree()
