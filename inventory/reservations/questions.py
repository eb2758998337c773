"""What a worker asks of a line, or of its own accord of a hold, as a command: pure.

Called by the coordinator, and by who looks for holds that are to be moved.
"""

from __future__ import annotations

from inventory.reservations.decide import Command
from schemas.reservations import Hold, Line, Question


def command_of(hold: Hold, line: Line, question: Question) -> Command:
    """What a worker asks of a line, or of its own accord of a hold."""
    return Command(
        command_id=question.command_id,
        action=question.action,
        reservation_id=hold.reservation_id,
        order_id=hold.order_id,
        sku=line.sku,
        quantity=question.quantity,
        location_id=question.location_id,
        channel=hold.channel,
        received_at=question.at,
        supplier_id=question.supplier_id,
        preferred_locations=question.preferred_locations,
        allow_partial=line.allow_partial,
        expires_in_ms=1,  # it has none of its own
        if_version=None,
        fingerprint=hold.fingerprint,
        coordinated=True,
        lines=[],
        to_location=question.to_location,
        answer=None,
    )
