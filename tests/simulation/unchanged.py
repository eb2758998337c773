"""What storefronts' commands are told that changed nothing, as holds have to keep it; for the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tests.simulation.facts import Command, Fact, Unlawful

KEPT = 16


class Known(Protocol):
    """A hold, or a reservation of several SKUs, as the facts so far tell it."""

    steps: list[list[Any]]
    unchanged: list[Fact]


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
