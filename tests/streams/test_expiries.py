"""Which holds are to be looked at, and for how long."""

from __future__ import annotations

from schemas import keys
from schemas.reservations import COMMITTED, HELD, Hold
from schemas.rows import encode
from streams.expiries import Expiries


def queue(**expires_at: int) -> Expiries:
    holds = [Hold("sku-1", name, HELD, expires_at=at) for name, at in expires_at.items()]
    return Expiries((keys.hold_key(hold.sku, hold.reservation_id), encode(hold)) for hold in holds)


def names(due: list[tuple[int, bytes]]) -> list[str]:
    return [key.decode().rpartition("\0")[2] for _, key in due]


def test_holds_are_due_in_the_order_of_their_times_once_these_have_come() -> None:
    assert names(queue(b=20, a=10, c=30).due(20, 9)) == ["a", "b"]


def test_what_is_due_stays_so_until_it_is_settled() -> None:
    expiries = queue(a=10, b=20, c=30)
    first = expiries.due(25, 1)
    assert names(first) == names(expiries.due(25, 1)) == ["a"]
    expiries.settled(first, [])
    assert names(expiries.due(25, 9)) == ["b"]


def test_a_hold_that_is_made_meanwhile_is_due_in_its_turn() -> None:
    expiries = queue(b=20)
    expiries.settled([], [(10, keys.hold_key("sku-1", "a"))])
    assert names(expiries.due(25, 9)) == ["a", "b"]


def test_a_hold_that_cannot_lapse_is_not_kept() -> None:
    hold = Hold("sku-1", "a", COMMITTED)
    assert len(Expiries([(keys.hold_key("sku-1", "a"), encode(hold))])) == 0
