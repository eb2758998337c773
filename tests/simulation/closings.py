"""What suppliers' changes that name an order must close, unit by unit; a second time, as `ledger` does it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulation.facts import Fact

Part = dict[str, Any]
Told = tuple[str, str, int, int]
"""A supplier's change: its source, id, time, and units shipped."""
Name = tuple[str, str]


@dataclass(frozen=True)
class Hold:
    """As far as it matters here. `name`: SKU and reservation."""

    name: Name
    state: str
    parts: list[Part]


@dataclass
class Closing:
    """What a change must do to one hold. `parts`: units by what they are afterwards; `state`: of the hold then."""

    name: Name
    told: Told
    units: int
    parts: Counter[tuple[Any, ...]]
    state: str


class Closings:
    """What has been closed in a partition."""

    def __init__(self) -> None:
        self._closed: dict[Told, dict[Name, int]] = {}  # units by hold
        self._names: dict[str, Told] = {}  # of changes, by the id that facts give them

    def due(self, update: Mapping[str, Any], holds: Iterable[Hold]) -> list[Closing]:
        """What an accepted change must do to the holds of its order and SKU that have not lapsed, in their order."""
        source = f"{update['supplier_id']}\x1f{update['location_id']}"
        told: Told = (source, update["update_id"], update["observed_at"], -update["quantity"])
        by_name = {hold.name: hold for hold in holds}
        if self._closed.get(told, {}).keys() & by_name.keys():
            return []
        corrected = [of_hold for other, of_hold in self._closed.items() if other[:2] == told[:2]]
        left = told[3] - sum(units for of_hold in corrected for name, units in of_hold.items() if name in by_name)
        every = [
            (where(part) != source, _stage(part), part["fulfilled_at"] or 0, name, n, part)
            for name, hold in by_name.items()
            for n, part in enumerate(hold.parts)
            for _ in range(part["quantity"])
            if where(part) in (source, "\x1f") and not part["closed"]
        ]
        chosen = sorted(every, key=lambda unit: unit[:5])[: max(0, left)]
        found = []
        for name, hold in by_name.items():
            mine = [unit[5] for unit in chosen if unit[3] == name]
            if not mine:
                continue
            parts = _by_kind(hold.parts)
            for part in mine:
                parts[_kind(part)] -= 1
                parts[_kind(part | {"closed": True})] += 1
            is_open = any(kind["fulfilled_at"] is None and not kind["closed"] for kind in map(dict, +parts))
            ended = hold.state in ("HELD", "COMMITTED") and not is_open
            found.append(Closing(name, told, len(mine), +parts, "FULFILLED" if ended else hold.state))
        return found

    def begun(self, name: Name) -> None:
        """A hold is new, though one of its name was there before, and is forgotten."""
        for of_hold in self._closed.values():
            of_hold.pop(name, None)

    def wrong(self, fact: Fact, expected: Closing) -> str | None:
        """In words what is not as expected; it counts as closed."""
        known = self._names.setdefault(fact["command_id"], expected.told)
        self._closed.setdefault(expected.told, {})[expected.name] = expected.units
        seen = [fact[name] for name in ("fact", "sku", "reservation_id", "units", "state", "command_offset")]
        due = ["CLOSED", *expected.name, expected.units, expected.state, None]
        if seen != due or _by_kind(fact["parts"]) != expected.parts or known != expected.told:
            return f"expected {expected}, and {known} is known by its id"
        return None


def where(part: Part) -> str:
    """The source of a part."""
    return f"{part['supplier_id']}\x1f{part['location_id']}"


def units_of(parts: Iterable[Part], location: str | None = None) -> Counter[str]:
    """Units that are open, that a supplier alone or the shop alone tells have left, and that both do."""
    names = {(False, False): "open", (False, True): "told", (True, False): "fulfilled", (True, True): "both"}
    units = Counter[str]()
    for part in parts:
        if location in (None, part["location_id"]):
            units[names[part["fulfilled_at"] is not None, part["closed"]]] += part["quantity"]
    return units


def _stage(part: Part) -> int:
    """What left comes first, then what is sold, then what is held."""
    return 0 if part["fulfilled_at"] is not None else 1 if part["committed_at"] is not None else 2


def _kind(part: Part) -> tuple[Any, ...]:
    return tuple((name, part[name]) for name in sorted(part) if name != "quantity")


def _by_kind(parts: Iterable[Part]) -> Counter[tuple[Any, ...]]:
    units = Counter[tuple[Any, ...]]()
    for part in parts:
        units[_kind(part)] += part["quantity"]
    return units
