"""A hold as the facts so far tell it, and what can be asked of its parts; for the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.closings import where
from tests.simulation.facts import Fact, Unlawful


@dataclass
class Line:
    """A hold, as the facts so far tell it."""

    fact: Fact
    created_at: int
    steps: list[list[Any]] = field(default_factory=list)
    unchanged: list[Fact] = field(default_factory=list)
    ended_at: int | None = None

    def note_end(self) -> None:
        """Only once, for what a supplier ships may be told later."""
        if self.ended_at is None and self.state not in ("HELD", "COMMITTED"):
            self.ended_at = self.fact["decided_at"]

    @property
    def state(self) -> str:
        return str(self.fact["state"])

    @property
    def parts(self) -> list[dict[str, Any]]:
        return list(self.fact["parts"])


def is_open(part: dict[str, Any]) -> bool:
    return part["fulfilled_at"] is None and not part["closed"]


def open_more(line: Line, fact: Fact) -> Counter[str]:
    """By how many open units a fact's parts have more of each source than a line had."""
    more = Counter[str]()
    for parts, sign in ((fact["parts"], 1), (line.parts, -1)):
        for part in parts:
            if is_open(part):
                more[where(part)] += sign * part["quantity"]
    return more


def is_target(command: dict[str, Any], source: str) -> bool:
    """Whether a transfer is to go there."""
    return bool(source.split("\x1f")[1] == command["to_location"])


def fits(fact: Fact, source: str) -> bool:
    """Whether a hold may have units of a source."""
    supplier, location = source.split("\x1f")
    return fact["supplier_id"] in (None, supplier) and fact["location_id"] in (None, location)


def at_their_time(fact: Fact, line: Line, name: str, slow_ms: Callable[[str], int]) -> None:
    """Each time that is new is that from which on counts of its source know, by how slow they are."""
    for what in ("committed_at", "fulfilled_at"):
        before, after = (_by_time(parts, what) for parts in (line.parts, fact["parts"]))
        for source, at in after - before:
            if at is not None and at != -(-(fact["decided_at"] + slow_ms(source)) // 1_000) * 1_000:
                raise Unlawful(f"{fact} has units of {source!r} {what} {at}")
            if at is not None and (what == "committed_at") != (name == "COMMITTED"):
                raise Unlawful(f"{fact} has other {what} than {line.fact}")


def _by_time(parts: list[dict[str, Any]], what: str) -> Counter[tuple[str, int | None]]:
    """Units by their source and a time."""
    units = Counter[tuple[str, int | None]]()
    for part in parts:
        units[where(part), part[what]] += part["quantity"]
    return units
