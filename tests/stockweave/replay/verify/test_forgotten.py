"""Verify where holds that were over long ago are forgotten: they are not missed, and all else is."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from schemas import keys
from schemas.reservations import FULFILLED, Hold
from schemas.rows import encode
from stockweave.replay.verify.report import reservation_lines
from tests.deployment import Deployment, Snapshot
from tests.reservations import check
from tests.stockweave.replay.planted import verified
from tests.stockweave.replay.reserved import again, decide, forget, partition_of, reserved, tamper, working


@pytest.fixture
def before(deployment: Deployment) -> Snapshot:
    reserved(deployment)
    return forget(deployment)


def lost(before: Snapshot, seen: Snapshot) -> list[Hold]:
    return [before.holds[name] for name in sorted(before.holds.keys() - seen.holds.keys())]


def said(deployment: Deployment) -> list[str]:
    verdict, parting = verified(deployment)
    lines = list(reservation_lines(verdict))
    assert (verdict.is_right, parting) == (not lines, None)
    return lines


def tampered(deployment: Deployment, seen: Snapshot, of: Hold, /, **changed: bytes | None) -> None:
    """`hold`, `order`: the value of its record."""
    number = partition_of(deployment, of.sku)
    assert of.order_id is not None
    names = {
        "hold": keys.hold_key(of.sku, of.reservation_id),
        "order": keys.order_key(of.order_id, of.sku, of.reservation_id),
    }
    tamper(deployment, {names[name]: value for name, value in changed.items()}, number, seen.positions[number])


def test_what_is_forgotten_is_not_missed_and_what_rows_have_of_it_is_right(
    deployment: Deployment, before: Snapshot
) -> None:
    seen = deployment.stock()
    gone = lost(before, seen)
    assert any(hold.state == FULFILLED for hold in gone), "a row still has what it took"
    assert seen.rows == before.rows
    check(seen, deployment)
    for thorough in (False, True):
        verdict, _ = verified(deployment, thorough=thorough)
        assert (verdict.is_right, list(reservation_lines(verdict)), verdict.holds) == (True, [], len(seen.holds))


def test_ids_of_forgotten_ones_that_are_held_anew_are_right_as_well(deployment: Deployment, before: Snapshot) -> None:
    gone = {hold.reservation_id for hold in lost(before, deployment.stock())}
    with working(deployment) as engine:
        decide(engine, deployment, again(gone))
    seen = deployment.stock()
    assert {name for name, hold in seen.holds.items() if hold.order_id == "another"} == gone
    check(seen, deployment)
    assert said(deployment) == []


def test_what_may_be_forgotten_and_is_there_is_compared(deployment: Deployment, before: Snapshot) -> None:
    seen = deployment.stock()
    hold = next(hold for hold in lost(before, seen) if hold.order_id is not None)
    tampered(deployment, seen, hold, hold=encode(hold), order=b"\x01")
    assert said(deployment) == []
    tampered(deployment, seen, hold, hold=encode(replace(hold, left=77)))
    assert said(deployment)[-1] == "  they differ in left"


def test_a_record_of_an_order_goes_with_its_hold(deployment: Deployment, before: Snapshot) -> None:
    seen = deployment.stock()
    hold = next(hold for hold in lost(before, seen) if hold.order_id is not None)
    tampered(deployment, seen, hold, order=b"\x01")
    [line] = said(deployment)
    assert f"{hold.order_id!r} and {hold.sku!r} and {hold.reservation_id!r} is in the store, and in no fact" in line
    tampered(deployment, seen, hold, hold=encode(hold), order=None)
    [line] = said(deployment)
    assert "is in the facts, and not in the store" in line


def test_what_ended_later_or_is_open_is_missed(deployment: Deployment, before: Snapshot) -> None:
    seen = deployment.stock()
    for ended in (True, False):
        hold = next(h for h in seen.holds.values() if h.order_id and (h.ended_at is not None) is ended and h.parts)
        tampered(deployment, seen, hold, hold=None, order=None)
        lines = said(deployment)
        assert any(f"reservation {hold.reservation_id!r} of SKU {hold.sku!r} is not what its" in one for one in lines)
        assert ended or any(f"the row of {hold.sku!r} has reserved" in one for one in lines)
        tampered(deployment, seen, hold, hold=encode(hold), order=b"\x01")


def test_a_position_that_forgets_what_is_yet_to_come_is_told(deployment: Deployment, before: Snapshot) -> None:
    number, position = next(iter(deployment.stock().positions.items()))
    tamper(deployment, {}, number, replace(position, forgotten_to=position.decided_at + 1))
    [line] = said(deployment)
    later = f"holds that ended by {position.decided_at + 1} may be forgotten"
    assert (
        line == f"partition {number}: the position says that {later}, and its decision clock is {position.decided_at}"
    )
