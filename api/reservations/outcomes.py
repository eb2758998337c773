"""What is answered to a command, by the hold that the view has once the command is decided: pure.

A hold may have gone on since; what a command came to is told all the same, for its steps name the commands that were
carried out. Called by the routes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from api.reservations.answers import Reply, refusal, reservation
from inventory.reservations.decide import STEPS_MAX
from schemas.reservations import (
    COMMIT,
    COMMITTED,
    EXPIRED,
    FULFIL,
    FULFILLED,
    HELD,
    PENDING,
    REFUSED,
    RELEASE,
    RELEASED,
    SOLD_OUT,
    TRANSFER,
    UNKNOWN_SKU,
    Hold,
)

UNKNOWN_RESERVATION, CONFLICT = "UNKNOWN_RESERVATION", "IDEMPOTENCY_CONFLICT"
INVALID_STATE = "INVALID_STATE"
SHOWN_MAX = 3  # lines, in words
ANOTHER_KEY = "with another Idempotency-Key, for this one keeps its answer"

SAME_ALREADY = {COMMIT: (COMMITTED, FULFILLED), RELEASE: (RELEASED,)}
"""States in which a command has nothing to do, and is answered as if it had done it."""


def of_hold(command: Mapping[str, Any], hold: Hold, told: Callable[[Hold], object]) -> Reply:
    """The answer to a call that reserves. `told`: gives it its form."""
    if hold.fingerprint != command["fingerprint"]:
        detail = "the Idempotency-Key was used for another request; send that one as it was, or this one " + ANOTHER_KEY
        return refusal(409, CONFLICT, detail, reservation_id=hold.reservation_id)
    if hold.state != REFUSED:
        return Reply(201, told(hold), own_id=hold.reservation_id)
    if hold.lines:
        return _several_refused(hold)
    if hold.reason == UNKNOWN_SKU:
        detail = f"nothing was ever heard of SKU {hold.sku!r}; once it is known, ask again {ANOTHER_KEY}"
        return refusal(404, UNKNOWN_SKU, detail, sku=hold.sku)
    if hold.reason == SOLD_OUT:
        lines = [{"sku": hold.sku, "left": hold.left}]
        detail = (
            f"{hold.left} of {hold.quantity} units of SKU {hold.sku!r} could be had; "
            f"ask for no more than that, or with allow_partial, {ANOTHER_KEY}"
        )
        return refusal(409, SOLD_OUT, detail, lines=lines)
    detail = f"SKU {hold.sku!r} has another version by now; read it again, and ask {ANOTHER_KEY}"
    return refusal(409, hold.reason or REFUSED, detail, lines=[{"sku": hold.sku, "left": hold.left}])


def _several_refused(hold: Hold) -> Reply:
    """Nothing is held of any line; those that lack are named."""
    lacking = [line for line in hold.lines if line.held < line.quantity]
    unknown = [line.sku for line in lacking if line.reason == UNKNOWN_SKU]
    if hold.reason == UNKNOWN_SKU:
        detail = f"nothing was ever heard of SKU {unknown[0]!r}; leave it out, or wait until it is known, and ask again"
        return refusal(404, UNKNOWN_SKU, f"{detail} {ANOTHER_KEY}", sku=unknown[0])
    lines = [{"sku": line.sku, "left": line.left} for line in lacking]
    told = ", ".join(f"{line.left} of {line.quantity} of SKU {line.sku!r}" for line in lacking[:SHOWN_MAX])
    detail = f"there could be had {told}; ask for no more than that, or with allow_partial, {ANOTHER_KEY}"
    return refusal(409, SOLD_OUT, detail, lines=lines)


def of_change(command: Mapping[str, Any], hold: Hold | None, now_ms: int) -> Reply:
    """The answer to a command on a reservation; `now_ms`: the API's, for one that lapsed and is not said so yet."""
    if hold is None:
        return unknown(command["reservation_id"])
    action, units = command["action"], command["quantity"]
    for step in hold.steps:
        if step.command_id == command["command_id"]:
            if units and step.units != units:
                detail = f"the Idempotency-Key was used for {step.units} units, not {units}; ask {ANOTHER_KEY}"
                return refusal(409, CONFLICT, detail, reservation_id=hold.reservation_id)
            return Reply(200, reservation(hold))
    if hold.state in SAME_ALREADY.get(action, ()):
        return Reply(200, reservation(hold))
    if hold.state == EXPIRED or hold.has_expired(now_ms):
        detail = "the reservation has lapsed, and its units may be another's; reserve them again " + ANOTHER_KEY
        return refusal(409, EXPIRED, detail, state=EXPIRED)
    return refusal(409, INVALID_STATE, _why(command, hold), state=hold.state, open=hold.open_units)


def unknown(own_id: str) -> Reply:
    """There is no such reservation."""
    return refusal(404, UNKNOWN_RESERVATION, f"there is no reservation {own_id!r}; send the id that a call was told")


def _why(command: Mapping[str, Any], hold: Hold) -> str:
    action, location = command["action"], command["location_id"]
    if hold.state == PENDING:
        return "not all of its lines are decided; try again"
    if action == TRANSFER and hold.state in (HELD, COMMITTED):
        return (
            f"{command['to_location']!r} has not enough for that, or fewer units are open; read what is available "
            f"there, and ask for no more than that {ANOTHER_KEY}"
        )
    if hold.lines and action in (FULFIL, RELEASE) and hold.state in (HELD, COMMITTED) and command["lines"]:
        return "a line has fewer units open than asked for, or is being transferred; read it, and ask for what is open"
    if len(hold.steps) >= STEPS_MAX:
        return f"the reservation has had {len(hold.steps)} steps, and no more are kept; take larger quantities"
    if action in (FULFIL, RELEASE) and hold.state in (COMMITTED, *((HELD,) if action == RELEASE else ())):
        there = [part for part in hold.parts if location in (None, part.location_id)]
        units = open_units = sum(part.quantity for part in there if part.is_open)
        if action == FULFIL:  # what its supplier alone has told of so far may be fulfilled too
            units = sum(part.quantity for part in there if part.fulfilled_at is None)
        what = "are open" if units == open_units else "are not fulfilled"
        where = "" if location is None else f" at {location!r}"
        return f"{units} units {what}{where}, fewer than asked for; ask for no more than that"
    remedy = "; commit it first" if action == FULFIL and hold.state == HELD else ""
    return f"the reservation is {hold.state}, in which it cannot be the object of {action}{remedy}"
