"""What storefronts' commands are told that changed nothing, as holds have to keep it; for the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Fact = dict[str, Any]
Command = dict[str, Any]
KEPT = 16


class Unlawful(AssertionError):
    """A fact that may not be; the message says which, and why."""


class Known(Protocol):
    """A hold, or a reservation of several SKUs, as the facts so far tell it."""

    steps: list[list[Any]]
    unchanged: list[Fact]


def has_lapsed(fact: Fact, now_ms: int) -> bool:
    """Whether what a fact tells has lapsed since."""
    return fact["state"] in ("HELD", "PENDING") and fact["expires_at"] is not None and fact["expires_at"] <= now_ms


def is_known(command: Command, known: Known) -> bool:
    """Whether a command was carried out, or is kept as one that changed nothing."""
    told = [step[3] for step in known.steps] + [one["command_id"] for one in known.unchanged]
    return command["command_id"] in told


def keep(kept: list[Fact], fact: Fact, command: Command | None, numbers: Sequence[int]) -> None:
    """One more, and the oldest of too many goes. `numbers`: units that are open, units that were there, and steps."""
    asked = command or {"quantity": 0, "lines": []}
    still_open, there, steps = numbers
    expected = {
        "command_id": fact["command_id"],
        "at": fact["decided_at"],
        "state": fact["state"],
        "open": still_open,
        "quantity": asked["quantity"] + sum(line["quantity"] for line in asked["lines"]),
        "there": there,
        "steps": steps,
    }
    if fact["fact"] != "UNCHANGED" or fact["unchanged"] != expected or fact["units"] or not fact["command_id"]:
        raise Unlawful(f"{fact} tells another thing than {expected}")
    kept.append(expected)
    del kept[:-KEPT]
