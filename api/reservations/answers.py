"""What the reservation routes answer: the JSON types, which are also their documentation, and how holds become them.

Times are RFC 3339 in UTC. Called by the routes.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from api.answers import Time, rfc3339
from schemas.reservations import COMMITTED, FULFILLED, Hold, Line, Part
from stockweave.problems import standard_members

STATE = "PENDING while several SKUs are asked; HELD, COMMITTED or FULFILLED; RELEASED or EXPIRED; REFUSED."
FACT = (
    "BEGUN, of several SKUs; HELD, COMMITTED, FULFILLED, RELEASED, TRANSFERRED, EXTENDED, EXPIRED or REFUSED; CLOSED: "
    "a supplier has told that units left, which the shop may also have told."
)


class Reserved(Struct):
    """Units that are reserved."""

    success: bool
    reserved_quantity: Annotated[int, Meta(description="What was reserved at first, in whole units.")]
    reservation_id: str
    expires_at: Annotated[Time | None, Meta(description="When it lapses; null once it is committed, or ended.")]


class ReservationPart(Struct):
    """What one source gives. Without supplier and location: what is sold beyond the stock."""

    supplier_id: str | None
    location_id: str | None
    quantity: int
    standing: Annotated[str, Meta(description="held, committed or fulfilled.")]


class ReservationLine(Struct):
    """One SKU of a reservation."""

    sku: str
    quantity: Annotated[int, Meta(description="What was asked for.")]
    reserved_quantity: Annotated[int, Meta(description="What was reserved at first.")]
    open_quantity: Annotated[int, Meta(description="Units that are reserved and have not left.")]
    fulfilled_quantity: Annotated[int, Meta(description="Units that have left.")]
    parts: list[ReservationPart]


class Reservation(Struct):
    """A reservation as it stands."""

    reservation_id: str
    state: Annotated[str, Meta(description=STATE)]
    order_id: str | None
    channel: str
    lines: list[ReservationLine]
    expires_at: Annotated[Time | None, Meta(description="When it lapses; null once it is committed, or ended.")]
    created_at: Annotated[Time, Meta(description="When it was decided.")]
    ended_at: Annotated[Time | None, Meta(description="When nothing of it was open any more.")]
    reason: Annotated[str | None, Meta(description="Why it was refused: the code of the refusal.")]


class ReservationStep(Struct):
    """What became of a reservation, once."""

    fact: Annotated[str, Meta(description=FACT)]
    at: Time
    units: int


class ReservationHistory(Reservation):
    """A reservation as it stands, and how it came to that."""

    history: Annotated[list[ReservationStep], Meta(description="The first step first.")]


class Reservations(Struct):
    """Those of an order, in the order of their SKUs."""

    reservations: list[Reservation]
    more: Annotated[bool, Meta(description="Whether the order has more than are told.")]


class ReservationResult(Struct):
    """What became of an entry: as a call of its own would have been answered."""

    status: Annotated[int, Meta(description="As a single call's.")]
    body: Annotated[
        Any,
        Meta(
            description="As a single call's.",
            extra_json_schema={
                "anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("Reserved", "Reservation", "Problem")]
            },
        ),
    ]


class ReservationResults(Struct):
    """What became of each entry, in their order."""

    results: list[ReservationResult]


class Reply(NamedTuple):
    """An answer before it has a form. `own_id`: of the reservation that was made."""

    status: int
    body: object
    retry_after_s: int | None = None
    own_id: str | None = None


def refusal(status: int, code: str, detail: str, **members: object) -> Reply:
    """A problem with a code."""
    return Reply(status, standard_members(status, code.lower(), detail) | {"code": code} | members)


def reserved(hold: Hold) -> Reserved:
    """The short answer."""
    return Reserved(True, first_units(hold), hold.reservation_id, _time(hold.expires_at))


def reservation(hold: Hold) -> Reservation:
    """The whole answer, without history."""
    return Reservation(
        hold.reservation_id,
        hold.state,
        hold.order_id,
        hold.channel,
        [_line_of_several(line, hold.state) for line in hold.lines] if hold.lines else [_line(hold)],
        _time(hold.expires_at),
        rfc3339(hold.created_at),
        _time(hold.ended_at),
        hold.reason,
    )


def history(hold: Hold) -> ReservationHistory:
    """The whole answer, and all steps."""
    steps = [ReservationStep(step.fact, rfc3339(step.at), step.units) for step in hold.steps]
    return ReservationHistory(**msgspec.structs.asdict(reservation(hold)), history=steps)


def first_units(hold: Hold) -> int:
    """What was reserved at first."""
    if hold.lines:
        return sum(line.held for line in hold.lines)
    return hold.steps[0].units if hold.steps else hold.held


def _line(hold: Hold) -> ReservationLine:
    open_units = hold.open_units
    parts = [_part(part) for part in hold.parts]
    return ReservationLine(hold.sku, hold.quantity, first_units(hold), open_units, hold.held - open_units, parts)


def _line_of_several(line: Line, state: str) -> ReservationLine:
    is_committed = state in (COMMITTED, FULFILLED)
    parts = [_part(part, is_committed) for part in line.parts]
    fulfilled = sum(part.quantity for part in line.parts) - line.open_units
    return ReservationLine(line.sku, line.quantity, line.held, line.open_units, fulfilled, parts)


def _part(part: Part, is_committed: bool = False) -> ReservationPart:
    standing = "committed" if is_committed else "held"
    if not part.is_open:
        standing = "fulfilled"
    elif part.committed_at is not None:
        standing = "committed"
    return ReservationPart(part.supplier_id or None, part.location_id or None, part.quantity, standing)


def _time(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)
