"""What a storefront's command is told that changed nothing: it was refused, or had nothing to do. Pure.

A hold keeps it, so that a repeat is told the same, whatever has become of the hold since. Called by the single writer
that decides, and by the API where a hold keeps it no longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from schemas.reservations import EXPIRED, FULFIL, RELEASE, Hold, Unchanged

UNCHANGED_MAX = 16  # that a hold keeps; the oldest goes first


def told(command: Mapping[str, Any], hold: Hold, now_ms: int) -> Unchanged:
    """What a command is told of a hold that it does not change, by the hold as it is."""
    return Unchanged(
        command["command_id"],
        now_ms,
        EXPIRED if hold.has_expired(now_ms) else hold.state,
        hold.open_units,
        units_asked(command),
        _there(command, hold),
        len(hold.steps),
    )


def keep(hold: Hold, one: Unchanged) -> Hold:
    """The hold with one more."""
    return replace(hold, unchanged=[*hold.unchanged, one][-UNCHANGED_MAX:])


def units_asked(command: Mapping[str, Any]) -> int:
    """Units that a change asks for, of all lines that it names; 0: all that there are."""
    units: int = command["quantity"] + sum(line["quantity"] for line in command["lines"])
    return units


def _there(command: Mapping[str, Any], hold: Hold) -> int:
    """Units that could be shipped, or given back, where the command asks for them."""
    there = [part for part in hold.parts if command["location_id"] in (None, part.location_id)]
    if command["action"] == FULFIL:  # what its supplier alone has told of may be fulfilled too
        return sum(part.quantity for part in there if part.fulfilled_at is None)
    return sum(part.quantity for part in there if part.is_open) if command["action"] == RELEASE else 0
