"""Which units of a hold have to come from another source, since theirs has less than is held of it: pure.

A shop has sold what a supplier turns out not to have. What others have and nobody holds takes its place, by the rules
by which it would be held anew, and a caller's wish for a supplier or a location stands. It is a transfer like any
other, that the worker asks for itself; of a line of a reservation of several SKUs once its coordinator has agreed.
Called by the single writer of the SKU's partition.
"""

from __future__ import annotations

from inventory.availability import Availability, availability
from inventory.policies import Policies
from inventory.reservations.allocation import Wanted, obtainable
from inventory.reservations.decide import STEPS_MAX, Case, Command, Decision, LineAsked, transferred
from inventory.reservations.parts import Fits, units_of
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
    if not hold.is_open or len(hold.steps) >= STEPS_MAX or not obtainable(answer, _wanted(hold, 1)):
        return False
    short = shortages(answer)
    return any(part.is_open and part.source in short for part in hold.parts)


def reallocate(case: Case, command_id: str = "") -> Decision | None:
    """A hold with what some source of it lacks coming from others; None where it lacks nothing, or they have nothing.

    Args:
        case: the hold, its row, the policies and the time.
        command_id: of the coordinator that says that a line may be moved; of other holds it is made here.
    """
    row, hold = case.row, case.hold
    if row is None or hold is None or hold.has_expired(case.now_ms) or hold.answers(command_id):
        return None
    answer = availability(row, case.policies.rules(row.sku, hold.channel), case.now_ms, hold.channel)
    if not may_move(hold, answer):
        return None
    for source, lacks in shortages(answer).items():
        leaves = _open_at(source)
        most = min(lacks, units_of(hold.parts, leaves), answer.available)
        units = min(most, obtainable(answer, _wanted(hold, most)))
        if units > 0:
            return transferred(case, leaves, _wanted(hold, units), command_id or _command_id(hold))
    return None


def ask_to_move(hold: Hold, now_ms: int) -> Command:
    """What the writer of a line asks its coordinator, who alone says what becomes of a line: whether it may move it."""
    return Command(
        command_id=_command_id(hold),
        action=TRANSFER,
        reservation_id=hold.reservation_id,
        order_id=hold.order_id,
        sku=NO_SKU,
        quantity=0,
        location_id=None,
        channel=hold.channel,
        received_at=now_ms,
        supplier_id=None,
        preferred_locations=[],
        allow_partial=False,
        expires_in_ms=1,
        if_version=None,
        fingerprint="",
        coordinated=True,
        lines=[LineAsked(sku=hold.sku, quantity=0, location_id=None, supplier_id=None)],
        to_location=None,
        answer=None,
    )


def _command_id(hold: Hold) -> str:
    return f"{MOVED}{hold.sku}:{len(hold.steps)}"


def _wanted(hold: Hold, units: int) -> Wanted:
    return Wanted(units, hold.supplier_id, hold.location_id, hold.preferred_locations)


def _open_at(source: str) -> Fits:
    return lambda part: part.is_open and part.source == source
