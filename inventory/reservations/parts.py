"""Parts of a hold: which of their units a decision is about, and those that stand alike as one. Called by the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from schemas.reservations import Part

Fits = Callable[[Part], bool]


def units_of(parts: Iterable[Part], fits: Fits) -> int:
    """Units in those of `parts` that fit."""
    return sum(part.quantity for part in parts if fits(part))


def taken(parts: Iterable[Part], units: int, fits: Fits) -> tuple[list[Part], list[Part]]:
    """`units` of those of `parts` that fit, in their order, and what is left of all."""
    found, rest = [], []
    for part in parts:
        of_part = min(units, part.quantity) if fits(part) else 0
        units -= of_part
        if of_part:
            found.append(msgspec.structs.replace(part, quantity=of_part))
        if of_part < part.quantity:
            rest.append(msgspec.structs.replace(part, quantity=part.quantity - of_part))
    return found, rest


def joined(parts: Iterable[Part]) -> list[Part]:
    """Those that say the same of one source as one part."""
    sums: dict[Part, int] = {}
    for part in parts:
        alike = msgspec.structs.replace(part, quantity=0)
        sums[alike] = sums.get(alike, 0) + part.quantity
    return [msgspec.structs.replace(alike, quantity=units) for alike, units in sums.items()]
