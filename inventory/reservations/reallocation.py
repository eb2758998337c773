"""Which units of a hold have to come from another source, since theirs has less than is held of it: pure.

A shop has sold what a supplier turns out not to have. What others have and nobody holds takes its place, by the rules
by which it would be held anew, and a caller's wish for a supplier or a location stands. It is a transfer like any
other, that the worker asks for itself. Called by the single writer of the SKU's partition.
"""

from __future__ import annotations

from inventory.availability import Availability, availability
from inventory.policies import Policies
from inventory.reservations.allocation import Wanted, allocate, obtainable
from inventory.reservations.decide import STEPS_MAX, Command, LineAsked
from schemas.keys import source_key
from schemas.reservations import HELD, MOVED, NO_SKU, TRANSFER, Hold
from schemas.rows import StockRow

Turn = tuple[bool, int, str]


def coverable(row: StockRow, policies: Policies, now_ms: int) -> Availability | None:
    """What can be had of a SKU, if some source has less than is held of it and others have something left."""
    answer = availability(row, policies.rules(row.sku), now_ms)
    return answer if answer.available > 0 and shortages(answer) else None


def shortages(answer: Availability) -> dict[str, int]:
    """By how many units each source has less than is held of it, by its key."""
    lacks = ((part, part.reserved - max(0, part.on_hand)) for part in answer.parts if part.reserved > 0)
    return {source_key(part.supplier, part.location): units for part, units in lacks if units > 0}


def turn(hold: Hold) -> Turn:
    """In which order holds are moved: who has paid keeps the source that was named, and so does who came first."""
    return hold.state != HELD, -hold.created_at, hold.reservation_id


def may_move(hold: Hold, answer: Availability) -> bool:
    """Whether a hold has units of a source that lacks them, and may have them of one that has some left."""
    if not hold.is_open or len(hold.steps) >= STEPS_MAX or not obtainable(answer, _wanted(hold)):
        return False
    short = shortages(answer)
    return any(part.is_open and part.source in short for part in hold.parts)


def reallocate(row: StockRow, hold: Hold, policies: Policies, now_ms: int) -> Command | None:
    """A transfer that lessens a shortage of one of the sources of a hold; None where there is none, or nothing to have.

    Of a line of a reservation of several SKUs it is for the coordinator, who asks the line in its turn.
    """
    rules = policies.rules(row.sku, hold.channel)
    answer = availability(row, rules, now_ms, hold.channel)
    if hold.has_expired(now_ms) or not may_move(hold, answer):
        return None
    short = shortages(answer)
    for part in hold.parts:
        units = min(part.quantity, short.get(part.source, 0)) if part.is_open else 0
        wanted = _wanted(hold)
        units = min(units, answer.available, obtainable(answer, wanted))
        if units > 0:
            to = allocate(answer, wanted._replace(units=units), rules.priority)[0]
            return _transfer(hold, (part.supplier_id, part.location_id), (to.supplier_id, to.location_id), to.quantity)
    return None


def _wanted(hold: Hold) -> Wanted:
    return Wanted(1, hold.supplier_id, hold.location_id, hold.preferred_locations)


def _transfer(hold: Hold, source: tuple[str, str], to: tuple[str, str], units: int) -> Command:
    line = LineAsked(sku=hold.sku, quantity=units, location_id=source[1], supplier_id=source[0])
    return Command(
        command_id=f"{MOVED}{hold.sku}:{len(hold.steps)}",
        action=TRANSFER,
        reservation_id=hold.reservation_id,
        order_id=hold.order_id,
        sku=NO_SKU if hold.coordinated else hold.sku,
        quantity=0 if hold.coordinated else units,
        location_id=None if hold.coordinated else source[1],
        channel=hold.channel,
        received_at=hold.created_at,
        supplier_id=None if hold.coordinated else source[0],
        preferred_locations=[],
        allow_partial=False,
        expires_in_ms=1,
        if_version=None,
        fingerprint="",
        coordinated=hold.coordinated,
        lines=[line] if hold.coordinated else [],
        to_location=to[1],
        to_supplier=to[0],
        answer=None,
    )
