"""Which units of a hold have to come from another source, since theirs has less than is held of it: pure.

A shop has sold what a supplier turns out not to have. What others have and nobody holds takes its place, by the rules
by which it would be held anew, and a caller's wish for a supplier or a location stands. It is a transfer like any
other, that the worker asks for itself; of a line of a reservation of several SKUs once its coordinator has agreed.
Called by the single writer of the SKU's partition.
"""

from __future__ import annotations

from typing import NamedTuple

from inventory.availability import Availability, availability
from inventory.policies import DEFAULT_CHANNEL, Policies, Rules
from inventory.reservations.allocation import Wanted, obtainable
from inventory.reservations.decide import STEPS_MAX, Case, Command, Decision, LineAsked, transferred
from inventory.reservations.parts import Fits, units_of
from inventory.reservations.questions import command_of
from schemas.keys import source_key
from schemas.reservations import HELD, MOVED, NO_SKU, TRANSFER, Hold, Line, Question
from schemas.rows import StockRow

Turn = tuple[bool, int, str]


class Shortage(NamedTuple):
    """What stocks lack of what is held of them. `answer`: what can be had; `units`: by source, or by pool."""

    answer: Availability
    units: dict[str, int]
    rules: Rules

    def stock_of(self, source: str) -> str:
        """What a source's units are of: its pool, by whose number it is told, or itself."""
        of_source = self.rules.source(source) if self.rules.pooled and source else None
        return source if of_source is None or of_source.pool is None or of_source.excluded else of_source.pool


def shortage(row: StockRow, policies: Policies, now_ms: int, channel: str = DEFAULT_CHANNEL) -> Shortage | None:
    """What is lacking, if some source has less than is held of it and others have something left."""
    rules = policies.rules(row.sku, channel)
    answer = availability(row, rules, now_ms, channel)
    lacks = Shortage(answer, {}, rules)
    if row.reserved and answer.available > 0:
        for part in answer.parts:
            units = part.reserved - max(0, part.number)
            if part.reserved > 0 and units > 0:
                lacks.units[lacks.stock_of(source_key(part.supplier, part.location))] = units
    return lacks if lacks.units else None


def turn(hold: Hold) -> Turn:
    """In which order holds are moved: who has paid keeps the source that was named, and so does who came first."""
    return hold.state != HELD, -hold.created_at, hold.reservation_id


def may_move(hold: Hold, lacks: Shortage) -> bool:
    """Whether a hold has units of a stock that lacks them, and may have them of one that has some left."""
    if not hold.is_open or len(hold.steps) >= STEPS_MAX or not obtainable(lacks.answer, _wanted(hold, 1)):
        return False
    return any(part.is_open and lacks.stock_of(part.source) in lacks.units for part in hold.parts)


def reallocate(case: Case, command_id: str = "") -> Decision | None:
    """A hold with what some source of it lacks coming from others; None where it lacks nothing, or they have nothing.

    Args:
        case: the hold, its row, the policies and the time.
        command_id: of the coordinator that says that a line may be moved; of other holds it is made here.
    """
    row, hold = case.row, case.hold
    if row is None or hold is None or hold.has_expired(case.now_ms) or hold.answers(command_id):
        return None
    lacks = shortage(row, case.policies, case.now_ms, hold.channel)
    if lacks is None or not may_move(hold, lacks):
        return None
    for stock, lacking in lacks.units.items():
        leaves = _open_of(stock, lacks)
        most = min(lacking, units_of(hold.parts, leaves), lacks.answer.available)
        units = min(most, obtainable(lacks.answer, _wanted(hold, most)))
        if units > 0:
            return transferred(case, leaves, _wanted(hold, units), command_id or _command_id(hold))
    return None


def ask_to_move(hold: Hold, now_ms: int) -> Command:
    """What the writer of a line asks its coordinator, who alone says what becomes of a line: whether it may move it."""
    asked = command_of(hold, Line(hold.sku, 0), Question(_command_id(hold), TRANSFER, now_ms))
    line = LineAsked(sku=hold.sku, quantity=0, location_id=None, supplier_id=None)
    return {**asked, "sku": NO_SKU, "lines": [line]}


def _command_id(hold: Hold) -> str:
    return f"{MOVED}{hold.sku}:{len(hold.steps)}"


def _wanted(hold: Hold, units: int) -> Wanted:
    return Wanted(units, hold.supplier_id, hold.location_id, hold.preferred_locations)


def _open_of(stock: str, lacks: Shortage) -> Fits:
    return lambda part: part.is_open and lacks.stock_of(part.source) == stock
