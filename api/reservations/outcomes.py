"""What is answered to a command, by the hold that the view has once the command is decided: pure.

A hold may have gone on since; what a command came to is told all the same, for its steps name the commands that were
carried out, and it keeps what others were told. Called by the routes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from api.reservations.answers import Reply, refusal, reservation
from inventory.reservations.decide import STEPS_MAX
from inventory.reservations.unchanged import told as told_now
from inventory.reservations.unchanged import units_asked
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
    Unchanged,
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
    """The answer to a command on a reservation.

    Args:
        command: that was decided.
        hold: of the view; None: there is no such reservation.
        now_ms: the API's, for a command that the hold does not know any more, and may have lapsed by.
    """
    if hold is None:
        return unknown(command["reservation_id"])
    command_id, units = command["command_id"], command["quantity"]
    if hold.answers(command_id):
        done = hold.units_of(command_id)
        return _conflict(hold, done, units) if units not in (0, done) else Reply(200, reservation(hold))
    first, units = hold.unchanged_by(command_id), units_asked(command)
    if first is not None and first.quantity != units:
        return _conflict(hold, first.quantity, units)
    return _of_unchanged(command, hold, first or told_now(command, hold, now_ms))


def _conflict(hold: Hold, first: int, units: int) -> Reply:
    """The same key for other units."""
    was, now = (f"{n} units" if n else "all units" for n in (first, units))
    detail = f"the Idempotency-Key was used for {was}, not {now}; ask {ANOTHER_KEY}"
    return refusal(409, CONFLICT, detail, reservation_id=hold.reservation_id)


def _of_unchanged(command: Mapping[str, Any], hold: Hold, told: Unchanged) -> Reply:
    """The answer to a command that changed nothing."""
    if told.state in SAME_ALREADY.get(command["action"], ()):
        return Reply(200, reservation(hold))
    if told.state == EXPIRED:
        detail = "the reservation has lapsed, and its units may be another's; reserve them again " + ANOTHER_KEY
        return refusal(409, EXPIRED, detail, state=EXPIRED)
    return refusal(409, INVALID_STATE, _why(command, hold, told), state=told.state, open=told.open)


def unknown(own_id: str) -> Reply:
    """There is no such reservation."""
    return refusal(404, UNKNOWN_RESERVATION, f"there is no reservation {own_id!r}; send the id that a call was told")


def _why(command: Mapping[str, Any], hold: Hold, told: Unchanged) -> str:
    """Of what changes later nothing is asked but what was told, so that a repeat is told the same."""
    action, location = command["action"], command["location_id"]
    if told.state == PENDING:
        return f"not all of its lines are decided; wait until they are, and ask {ANOTHER_KEY}"
    if action == TRANSFER and told.state in (HELD, COMMITTED):
        return (
            f"{command['to_location']!r} has not enough for that, or fewer units are open; read what is available "
            f"there, and ask for no more than that {ANOTHER_KEY}"
        )
    if hold.lines and action in (FULFIL, RELEASE) and told.state in (HELD, COMMITTED) and command["lines"]:
        detail = "a line has fewer units open than asked for, or is being transferred; read it"
        return f"{detail}, and ask for what is open {ANOTHER_KEY}"
    if told.steps >= STEPS_MAX:
        return f"the reservation has had {told.steps} steps, and no more are kept; take larger quantities"
    if action in (FULFIL, RELEASE) and told.state in (COMMITTED, *((HELD,) if action == RELEASE else ())):
        what = "are not fulfilled" if action == FULFIL else "are open"
        where = "" if location is None else f" at {location!r}"
        return f"{told.there} units {what}{where}, fewer than asked for; ask for no more than that {ANOTHER_KEY}"
    remedy = f"; commit it first, and ask {ANOTHER_KEY}" if action == FULFIL and told.state == HELD else ""
    return f"the reservation is {told.state}, in which it cannot be the object of {action}{remedy}"
