"""What a supplier's change that names an order closes: pure.

A supplier that tells its shipments one by one takes them off its number by itself, so what its change ships comes off
that number no longer. What the shop has fulfilled already comes first, since that is what is shipped; then what is
committed, then what is held, for who ships knows more than who sold; and what was sold beyond the stock only after all
that the source itself gives. So of a shop and a supplier that both tell of a shipment, in whatever order, each unit
leaves once. Called by the single writer of the SKU's partition.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from inventory.reservations.decide import STEPS_MAX, Decision
from inventory.reservations.parts import joined
from schemas.reservations import CLOSED, COMMITTED, FULFILLED, HELD, SHIPPED, Hold, Part, Step

NAME_BYTES = 12


class Shipment(NamedTuple):
    """Units that have left a source, as a change that names their order tells.

    `source`: its key; `update_id`, `observed_at`: of the change; `offset`: of it in its partition of the updates.
    """

    sku: str
    order_id: str
    source: str
    update_id: str
    observed_at: int
    units: int
    offset: int

    @property
    def name(self) -> str:
        """What the ids of this change and of every correction of it begin with."""
        digest = hashlib.blake2b(f"{self.source}\0{self.update_id}".encode(), digest_size=NAME_BYTES)
        return f"{SHIPPED}{digest.hexdigest()}:"

    @property
    def command_id(self) -> str:
        """Of this very change, as often as it is told."""
        return f"{self.name}{self.observed_at}:{self.units}"


def close(shipment: Shipment, holds: Sequence[Hold], now_ms: int) -> list[Decision]:
    """The next state of each of `holds` that changes: those of the shipment's order and SKU, none of them lapsed.

    A correction closes what it ships more than what it corrects; less opens nothing again.
    """
    told = [step for hold in holds for step in hold.steps if (step.command_id or "").startswith(shipment.name)]
    if any(step.command_id == shipment.command_id for step in told):
        return []
    units = shipment.units - sum(step.units for step in told)
    closed: dict[tuple[int, int], int] = {}
    for place, part in _in_turn(shipment.source, holds):
        of_part = min(units, part.quantity)
        if of_part > 0:
            closed[place] = of_part
            units -= of_part
    return [
        _closed(hold, {j: n for (at, j), n in closed.items() if at == i}, shipment.command_id, now_ms)
        for i, hold in enumerate(holds)
        if any(at == i for at, _ in closed)
    ]


def _in_turn(source: str, holds: Sequence[Hold]) -> Iterator[tuple[tuple[int, int], Part]]:
    """The places (hold, part) and parts of which units may be closed, in their turn."""
    found = [
        ((bool(part.source != source), _stage(part), part.fulfilled_at or 0, i, j), part)
        for i, hold in enumerate(holds)
        if len(hold.steps) < STEPS_MAX
        for j, part in enumerate(hold.parts)
        if part.source in (source, "") and not part.closed
    ]
    found.sort(key=lambda one: one[0])
    return (((turn[3], turn[4]), part) for turn, part in found)


def _stage(part: Part) -> int:
    if part.fulfilled_at is not None:
        return 0
    return 1 if part.committed_at is not None else 2


def _closed(hold: Hold, units: dict[int, int], command_id: str, now_ms: int) -> Decision:
    """The hold with so many units of some parts, by their place, closed."""
    parts = []
    for i, part in enumerate(hold.parts):
        of_part = units.get(i, 0)
        rest = part.quantity - of_part
        parts += [msgspec.structs.replace(part, quantity=rest)] if rest else []
        parts += [msgspec.structs.replace(part, quantity=of_part, closed=True)] if of_part else []
    total = sum(units.values())
    after = msgspec.structs.replace(
        hold, parts=joined(parts), steps=[*hold.steps, Step(CLOSED, now_ms, total, command_id)]
    )
    if hold.state in (HELD, COMMITTED) and not after.open_units:
        after = msgspec.structs.replace(after, state=FULFILLED, ended_at=now_ms, expires_at=None)
    return Decision(CLOSED, after, total)
