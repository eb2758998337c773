"""Facts, as records of ReservationFact.2.avsc, and what they make of holds and rows.

A fact holds the whole line as it is after it, so that holds, and with the counts of suppliers the rows, come of facts
alone. Both the worker that decides and a replay that only reads apply them here, so that neither can differ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from inventory.reservations.decide import Decision
from inventory.reservations.reserved import moved
from schemas.keys import hold_key, order_key
from schemas.reservations import COMMITTED, HELD, Hold, Part, Step
from schemas.rows import Count, PackedRow, decode_source, encode

PRESENT = b"\x01"  # the value of a key that says it all; not empty, for that would be a row that is not there

Fact = dict[str, Any]


class Origin(NamedTuple):
    """Where a decision came from. `command_offset`: None for what came of time."""

    number: int
    command_id: str | None
    command_offset: int | None
    decided_at: int


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
    }


def hold_after(before: Hold | None, fact: Fact) -> Hold:
    """The hold that a fact leaves."""
    step = Step(fact["fact"], fact["decided_at"], fact["units"], fact["command_id"] or None)
    parts = [Part(**part) for part in fact["parts"]]
    is_open = fact["state"] in (HELD, COMMITTED)
    return Hold(
        fact["sku"],
        fact["reservation_id"],
        fact["state"],
        fact["order_id"],
        fact["channel"],
        fact["quantity"],
        fact["fingerprint"],
        parts,
        fact["reason"],
        fact["left"],
        fact["policy_version"],
        fact["decided_at"] if before is None else before.created_at,
        fact["expires_at"],
        None if is_open else fact["decided_at"],
        [*(before.steps if before is not None else ()), step],
    )


def row_after(row: PackedRow, before: Hold | None, after: Hold) -> bool:
    """Let a row have what a hold now takes of it, in place; whether that is anything else than before."""
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


def records_of(before: Hold | None, after: Hold) -> dict[bytes, bytes]:
    """What is written beside the row: the hold, and at first that its order has it."""
    records = {hold_key(after.sku, after.reservation_id): encode(after)}
    if before is None and after.order_id is not None:
        records[order_key(after.order_id, after.sku, after.reservation_id)] = PRESENT
    return records
