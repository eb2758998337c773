"""Facts, as records of ReservationFact.5.avsc, and what they make of holds and rows.

A fact holds the whole line as it is after it, so that holds, and with the counts of suppliers the rows, come of facts
alone. Both the worker that decides and a replay that only reads apply them here, so that neither can differ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from inventory.reservations.decide import Decision
from inventory.reservations.reserved import moved
from inventory.reservations.unchanged import keep
from schemas.keys import hold_key, order_key
from schemas.reservations import (
    BEGUN,
    HELD,
    NO_SKU,
    NOTED,
    REFUSED,
    UNCHANGED,
    Hold,
    Line,
    Part,
    Question,
    Step,
    Unchanged,
)
from schemas.rows import Count, PackedRow, decode_source, encode

PRESENT = b"\x01"  # the value of a key that says it all; not empty, for that would be a row that is not there
LINE = b"\x02"  # likewise, of a line: the reservation that it belongs to has a record of its own

Fact = dict[str, Any]


class Origin(NamedTuple):
    """Where a decision came from. `command_offset`, `step_offset`: of what asked for it; none for what came of time.

    `update_offset`: of what closed it. `next_update`: an offset of the updates, see ReservationFact.5.avsc.
    """

    number: int
    command_id: str | None
    command_offset: int | None
    decided_at: int
    step_offset: int | None = None
    update_offset: int | None = None
    next_update: int = 0


def fact_of(decision: Decision, origin: Origin) -> Fact:
    """The record of a decision."""
    hold = decision.hold
    return {
        "command_id": origin.command_id or "",
        "fact": decision.fact,
        "reservation_id": hold.reservation_id,
        "order_id": hold.order_id,
        "sku": hold.sku,
        "parts": [msgspec.structs.asdict(part) for part in hold.parts],
        "reason": hold.reason,
        "channel": hold.channel,
        "policy_version": hold.policy_revision,
        "decided_at": origin.decided_at,
        "expires_at": hold.expires_at,
        "number": origin.number,
        "command_offset": origin.command_offset,
        "state": hold.state,
        "units": decision.units,
        "quantity": hold.quantity,
        "fingerprint": hold.fingerprint,
        "left": hold.left,
        "coordinated": hold.coordinated,
        "lines": [_line_record(line) for line in hold.lines],
        "step_offset": origin.step_offset,
        "update_offset": origin.update_offset,
        "next_update": origin.next_update,
        "supplier_id": hold.supplier_id,
        "location_id": hold.location_id,
        "preferred_locations": hold.preferred_locations,
        "unchanged": msgspec.structs.asdict(hold.unchanged[-1]) if decision.fact == UNCHANGED else None,
    }


def _line_record(line: Line) -> Fact:
    return msgspec.structs.asdict(line) | {
        "parts": [msgspec.structs.asdict(part) for part in line.parts],
        "asked": [msgspec.structs.asdict(question) for question in line.asked],
    }


def _line(record: Fact) -> Line:
    parts = [Part(**part) for part in record["parts"]]
    asked = [Question(**question) for question in record["asked"]]
    return Line(**record | {"parts": parts, "asked": asked})


def begins(fact: Fact) -> bool:
    """Whether a hold begins by a fact. One of its id may be there all the same: another, that was forgotten before."""
    return fact["fact"] == BEGUN or (fact["fact"] in (HELD, REFUSED) and fact["sku"] != NO_SKU)


def hold_after(before: Hold | None, fact: Fact) -> Hold:
    """The hold that a fact leaves."""
    if begins(fact):
        before = None
    steps = [] if before is None else before.steps
    if fact["fact"] not in (NOTED, UNCHANGED):
        steps = [*steps, Step(fact["fact"], fact["decided_at"], fact["units"], fact["command_id"] or None)]
    after = Hold(
        fact["sku"],
        fact["reservation_id"],
        fact["state"],
        fact["order_id"],
        fact["channel"],
        fact["quantity"],
        fact["fingerprint"],
        [Part(**part) for part in fact["parts"]],
        fact["reason"],
        fact["left"],
        fact["policy_version"],
        fact["decided_at"] if before is None else before.created_at,
        fact["expires_at"],
        None if before is None else before.ended_at,
        steps,
        fact["coordinated"],
        [_line(line) for line in fact["lines"]],
        fact["supplier_id"],
        fact["location_id"],
        fact["preferred_locations"],
        [] if before is None else before.unchanged,
    )
    if fact["unchanged"] is not None:
        after = keep(after, Unchanged(**fact["unchanged"]))
    if after.is_open or after.ended_at is not None:
        return after
    return msgspec.structs.replace(after, ended_at=fact["decided_at"])


def row_after(row: PackedRow, before: Hold | None, after: Hold) -> bool:
    """Let a row have what a hold now takes of it, in place; whether that is anything else than before.

    What a hold of the same id had that was forgotten when this one began stays reserved, as it does without this one.
    """
    if len(after.steps) == 1 and not after.unchanged:
        before = None
    touched = {part.source for hold in (before, after) if hold is not None for part in hold.parts}
    counts: dict[str, Count | None] = {}
    for key in touched:
        packed = row.sources.get(key)
        counts[key] = None if packed is None else decode_source(packed).count
    reserved = moved(row.reserved, before, after, counts)
    if reserved == row.reserved:
        return False
    row.reserved = reserved
    row.version += 1
    return True


def row_to_come(sku: str) -> PackedRow:
    """A row that has nothing but what is reserved of it: for a fact that is applied before the updates it rests on."""
    return PackedRow(sku, 0, 0, 0, {})


def records_of(before: Hold | None, after: Hold) -> dict[bytes, bytes | None]:
    """What is written beside the row: the hold, and at first that its order has it.

    None: no longer, for it belonged to one that was forgotten, as in `row_after`.
    """
    records: dict[bytes, bytes | None] = {hold_key(after.sku, after.reservation_id): encode(after)}
    if before is not None and before.order_id not in (None, after.order_id):
        records[_of_order(before)] = None
    if after.order_id is not None and (before is None or before.order_id != after.order_id):
        records[_of_order(after)] = LINE if after.coordinated else PRESENT
    return records


def keys_of(hold: Hold) -> list[bytes]:
    """Of all that is written beside the row for a hold."""
    return list(records_of(None, hold))


def _of_order(hold: Hold) -> bytes:
    return order_key(hold.order_id or "", hold.sku, hold.reservation_id)
