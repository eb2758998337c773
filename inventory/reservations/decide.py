"""What becomes of a command: pure. The hold and the row as they are, the time and the policies in; the next hold out.

Nothing is decided twice: a command that its hold has carried out or refused, and a request for a hold that is there
already, have no effect, and what a hold says then is the one true answer. A hold that has lapsed is ended before
anything is decided by it. Called by the single writer of the SKU's partition, so nothing else decides meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict

import msgspec

from inventory.availability import availability
from inventory.policies import Policies
from inventory.reservations.allocation import Wanted, allocate, obtainable
from inventory.reservations.parts import Fits, joined, taken, units_of
from inventory.reservations.reserved import moved, nets_at
from inventory.reservations.retention import KEPT_MS_MIN
from inventory.reservations.unchanged import keep, told
from schemas.reservations import (
    COMMIT,
    COMMITTED,
    EXPIRE,
    EXPIRED,
    EXTEND,
    EXTENDED,
    FULFIL,
    FULFILLED,
    HELD,
    HOLD,
    NOTED,
    REFUSED,
    RELEASE,
    RELEASED,
    SOLD_OUT,
    TRANSFER,
    TRANSFERRED,
    UNCHANGED,
    UNKNOWN_SKU,
    VERSION_MISMATCH,
    Hold,
    Part,
    Step,
)
from schemas.rows import StockRow

STEPS_MAX = 200  # of a hold: shipping one unit at a time ends there
LATE_MS = KEPT_MS_MIN // 2  # so late, no line is held any more; the other half is for clocks


class LineAsked(TypedDict):
    """One SKU of several."""

    sku: str
    quantity: int
    location_id: str | None
    supplier_id: str | None


class Answer(TypedDict):
    """A line's hold, for its coordinator. `units`: that what was asked was about; 0: it was not carried out."""

    state: str
    parts: list[dict[str, Any]]
    reason: str | None
    left: int | None
    steps: int
    units: int


class Command(TypedDict):
    """A decoded command; ReservationCommand.3.avsc says what each field means. Times in ms, quantities in units."""

    command_id: str
    action: str
    reservation_id: str
    order_id: str | None
    sku: str
    quantity: int
    location_id: str | None
    channel: str
    received_at: int
    supplier_id: str | None
    preferred_locations: list[str]
    allow_partial: bool
    expires_in_ms: int
    if_version: int | None
    fingerprint: str
    coordinated: bool
    lines: list[LineAsked]
    to_location: str | None
    answer: Answer | None


class Case(NamedTuple):
    """What a decision is made of. `row`: None if the SKU is unknown; `now_ms`: of the partition's decision clock."""

    row: StockRow | None
    hold: Hold | None
    policies: Policies
    now_ms: int


class Decision(NamedTuple):
    """A fact to be: the hold from then on. `units`: that it is about."""

    fact: str
    hold: Hold
    units: int

    @property
    def command_id(self) -> str | None:
        """The command that it is about; None for what came of time."""
        if self.fact == UNCHANGED:
            return self.hold.unchanged[-1].command_id
        return None if self.fact == NOTED else self.hold.steps[-1].command_id


def decide(command: Command, case: Case) -> Decision | None:
    """The next hold; None when nothing is to be told of it: it was decided already, or there is nothing to change."""
    hold = case.hold
    if command["action"] == HOLD:
        return _hold(command, case) if _may_begin(command, case) else None
    change = CHANGES.get(command["action"])
    if hold is None or change is None or hold.has_expired(case.now_ms) or hold.coordinated != command["coordinated"]:
        return None
    if hold.knows(command["command_id"]):
        return None
    decision = change(command, hold, case) if len(hold.steps) < STEPS_MAX else None
    if decision is None and (not command["coordinated"] or command["action"] == TRANSFER):
        return unchanged(command, hold, case.now_ms)  # all else a coordinator asks a line until it is done
    return decision


def unchanged(command: Command, hold: Hold, now_ms: int) -> Decision:
    """A storefront's command that is refused, or has nothing to do: its repeat is to be told the same.

    A line keeps a transfer so, which is its own to decide: what its coordinator has told the storefront then stays so.
    """
    return Decision(UNCHANGED, keep(hold, told(command, hold, now_ms)), 0)


def expire(hold: Hold, now_ms: int) -> Decision | None:
    """The end of a hold that has lapsed; None if it has not."""
    if not hold.has_expired(now_ms):
        return None
    left = [part for part in hold.parts if not part.is_open]
    return _ended(hold, EXPIRED, now_ms, hold.open_units, None, left)


def _may_begin(command: Command, case: Case) -> bool:
    """Whether there is no hold yet; a line's may be there from a reservation that was forgotten, and is made anew."""
    hold = case.hold
    if not command["coordinated"]:
        return hold is None
    if case.now_ms - command["received_at"] >= LATE_MS:
        return False  # its reservation is over: should it be asked for twice, it may have been held, and be forgotten
    return hold is None or not (hold.is_open or hold.answers(command["command_id"]))


def _hold(command: Command, case: Case) -> Decision:
    row, now_ms = case.row, case.now_ms
    wanted = Wanted(command["quantity"], command["supplier_id"], command["location_id"], command["preferred_locations"])
    left, refused, parts = 0, UNKNOWN_SKU, list[Part]()
    if row is not None:
        rules = case.policies.rules(row.sku, command["channel"])
        answer = availability(row, rules, now_ms, command["channel"])
        left = obtainable(answer, wanted)
        units = min(wanted.units, left) if command["allow_partial"] else wanted.units
        if command["if_version"] not in (None, row.version):
            refused = VERSION_MISMATCH
        elif not 0 < units <= left:
            refused = SOLD_OUT
        else:
            parts = allocate(answer, wanted._replace(units=units), rules.priority)
    hold = Hold(
        command["sku"],
        command["reservation_id"],
        HELD if parts else REFUSED,
        command["order_id"],
        command["channel"],
        command["quantity"],
        command["fingerprint"],
        parts,
        None if parts else refused,
        left,
        case.policies.revision,
        now_ms,
        now_ms + command["expires_in_ms"] if parts and not command["coordinated"] else None,
        None if parts else now_ms,
        coordinated=command["coordinated"],
        supplier_id=command["supplier_id"],
        location_id=command["location_id"],
        preferred_locations=command["preferred_locations"],
    )
    return _step(hold, HELD if parts else REFUSED, now_ms, hold.held, command["command_id"])


def _commit(command: Command, hold: Hold, case: Case) -> Decision | None:
    if hold.state != HELD:
        return None
    parts = [msgspec.structs.replace(part, committed_at=_known_from(part, hold, case)) for part in hold.parts]
    committed = msgspec.structs.replace(hold, state=COMMITTED, parts=parts, expires_at=None)
    return _step(committed, COMMITTED, case.now_ms, hold.held, command["command_id"])


def _known_from(part: Part, hold: Hold, case: Case) -> int:
    """From when on a count of the part's source knows of what is decided now.

    It is decided here, once, and not where rows are read: so rows stay what facts and counts make of them, whatever
    becomes of the policies.
    """
    rules, sources = case.policies.rules(hold.sku, hold.channel), () if case.row is None else case.row.sources
    return nets_at(case.now_ms, rules.netting_delay_ms(part.source, sources) if part.source else 0)


def _extend(command: Command, hold: Hold, case: Case) -> Decision | None:
    if hold.state != HELD:
        return None
    extended = msgspec.structs.replace(hold, expires_at=case.now_ms + command["expires_in_ms"])
    return _step(extended, EXTENDED, case.now_ms, hold.held, command["command_id"])


def _fulfil(command: Command, hold: Hold, case: Case) -> Decision | None:
    """Units leave their sources: first those that suppliers have told of, for they are the same; then part by part."""
    fits = _not_told(command["location_id"])
    there = units_of(hold.parts, fits)
    units = command["quantity"] or there
    if hold.state != COMMITTED or not 0 < units <= there:
        return None
    told_first = sorted(hold.parts, key=lambda part: not part.closed)
    leaving, rest = taken(told_first, units, fits)
    left = [msgspec.structs.replace(part, fulfilled_at=_known_from(part, hold, case)) for part in leaving]
    parts = joined([*rest, *left])
    if any(part.is_open for part in parts):
        part_of_it = msgspec.structs.replace(hold, parts=parts)
        return _step(part_of_it, FULFILLED, case.now_ms, units, command["command_id"])
    return _ended(hold, FULFILLED, case.now_ms, units, command["command_id"], parts)


def _release(command: Command, hold: Hold, case: Case) -> Decision | None:
    """Units that have not left go back, the last part's first.

    Of a line as many as there are: its coordinator may not know yet what its supplier has shipped.
    """
    fits = _is_open(command["location_id"])
    there = units_of(hold.parts, fits)
    units = command["quantity"] or there
    if hold.coordinated:
        units = min(units, there)
    if hold.state not in (HELD, COMMITTED) or not 0 < units <= there:
        return None
    _, rest = taken(hold.parts[::-1], units, fits)
    parts = rest[::-1]
    if any(part.is_open for part in parts):
        part_of_it = msgspec.structs.replace(hold, parts=parts)
        return _step(part_of_it, RELEASED, case.now_ms, units, command["command_id"])
    state = FULFILLED if parts else RELEASED
    return _ended(hold, RELEASED, case.now_ms, units, command["command_id"], parts, state)


def _transfer(command: Command, hold: Hold, case: Case) -> Decision | None:
    """Units are to come from another location: all that are asked for, or none."""
    to = command["to_location"]
    leaves = _is_open_beside(to, command["location_id"])
    there = units_of(hold.parts, leaves)
    units = command["quantity"] or there
    if to is None or not 0 < units <= there:
        return None
    return transferred(case, leaves, Wanted(units, location=to), command["command_id"])


def transferred(case: Case, leaves: Fits, wanted: Wanted, command_id: str) -> Decision | None:
    """As many of the hold's units that fit as are wanted come from elsewhere: all of them, or none."""
    row, hold = case.row, case.hold
    if row is None or hold is None or hold.state not in (HELD, COMMITTED):
        return None
    _, rest = taken(hold.parts, wanted.units, leaves)
    rules = case.policies.rules(row.sku, hold.channel)
    answer = availability(_without(row, hold, rest), rules, case.now_ms, hold.channel)
    if wanted.units > obtainable(answer, wanted):
        return None
    moved_there = allocate(answer, wanted, rules.priority)
    if hold.state == COMMITTED:  # no count there knows of the sale before that
        moved_there = [msgspec.structs.replace(p, committed_at=_known_from(p, hold, case)) for p in moved_there]
    after = msgspec.structs.replace(hold, parts=joined([*rest, *moved_there]))
    return _step(after, TRANSFERRED, case.now_ms, wanted.units, command_id)


def _without(row: StockRow, hold: Hold, parts: list[Part]) -> StockRow:
    """The row as if a hold had only these parts."""
    counts = {key: source.count for key, source in row.sources.items()}
    reserved = moved(row.reserved, hold, msgspec.structs.replace(hold, parts=parts), counts)
    return msgspec.structs.replace(row, reserved=reserved)


def _lapse(command: Command, hold: Hold, case: Case) -> Decision | None:
    """Its coordinator says that the reservation has lapsed: so it has, whatever the line has heard before."""
    if hold.state not in (HELD, COMMITTED) or not hold.coordinated:
        return None
    left = [part for part in hold.parts if not part.is_open]
    return _ended(hold, EXPIRED, case.now_ms, hold.open_units, command["command_id"], left)


CHANGES: dict[str, Callable[[Command, Hold, Case], Decision | None]] = {
    COMMIT: _commit,
    FULFIL: _fulfil,
    RELEASE: _release,
    EXTEND: _extend,
    TRANSFER: _transfer,
    EXPIRE: _lapse,
}


def _not_told(location: str | None) -> Fits:
    """Units of which the shop has not said that they left, at a location or anywhere."""
    return lambda part: part.fulfilled_at is None and location in (None, part.location_id)


def _is_open(location: str | None) -> Fits:
    """Units that have not left a location, or anywhere."""
    return lambda part: part.is_open and location in (None, part.location_id)


def _is_open_beside(to: str | None, location: str | None) -> Fits:
    """The same, but for those that are where they are to go."""
    return lambda part: part.is_open and location in (None, part.location_id) and part.location_id != to


def _ended(
    hold: Hold, fact: str, now_ms: int, units: int, command_id: str | None, parts: list[Part], state: str | None = None
) -> Decision:
    ended = msgspec.structs.replace(hold, state=state or fact, parts=parts, ended_at=now_ms, expires_at=None)
    return _step(ended, fact, now_ms, units, command_id)


def _step(hold: Hold, fact: str, now_ms: int, units: int, command_id: str | None) -> Decision:
    steps = [*hold.steps, Step(fact, now_ms, units, command_id)]
    return Decision(fact, msgspec.structs.replace(hold, steps=steps), units)
