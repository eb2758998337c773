"""Which sources give the units of a hold: those that make the number that was promised, in the order of the policy.

First the locations that the caller prefers, in their order; then the suppliers of the policy's priority, in its order;
then the fullest source; of equal ones the first by name. What is sold beyond the stock is given by none. Called by
`inventory.reservations.decide`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from inventory.availability import Availability
from inventory.availability import Part as Offer
from schemas.reservations import Part


class Wanted(NamedTuple):
    """What is asked for. `supplier`, `location`: it must come from there; `preferred`: locations, nearest first."""

    units: int
    supplier: str | None = None
    location: str | None = None
    preferred: Sequence[str] = ()


def obtainable(answer: Availability, wanted: Wanted) -> int:
    """Units that can be had of what is wanted: what is available of it, and what may be sold beyond the stock."""
    if wanted.supplier is None and wanted.location is None:
        return answer.available + answer.backorderable
    return min(answer.available, sum(offer.units for offer in _fitting(answer, wanted)))


def allocate(answer: Availability, wanted: Wanted, priority: Sequence[str]) -> list[Part]:
    """The parts of a hold of `wanted.units`, of which there are no more than `obtainable`."""
    places = {location: n for n, location in enumerate(wanted.preferred)}
    suppliers = {supplier: n for n, supplier in enumerate(priority)}
    last = len(places), len(suppliers)

    def order(offer: Offer) -> tuple[int, int, int, str, str]:
        place, supplier = places.get(offer.location, last[0]), suppliers.get(offer.supplier, last[1])
        return place, supplier, -offer.units, offer.supplier, offer.location

    parts: list[Part] = []
    left = wanted.units
    in_stock = min(left, answer.available)
    for offer in sorted(_fitting(answer, wanted), key=order):
        units = min(in_stock, offer.units)
        if units <= 0:
            continue
        parts.append(Part(offer.supplier, offer.location, units))
        in_stock, left = in_stock - units, left - units
    if left:
        parts.append(Part("", "", left))
    return parts


def _fitting(answer: Availability, wanted: Wanted) -> list[Offer]:
    return [
        offer
        for offer in answer.parts
        if wanted.supplier in (None, offer.supplier) and wanted.location in (None, offer.location)
    ]
