"""What must hold of reservations in a deployment, whoever made the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from inventory.reservations.facts import hold_after
from inventory.reservations.reserved import of_holds
from inventory.reservations.retention import is_explained, is_past
from schemas import keys
from schemas.reservations import Hold
from schemas.topics import STOCK
from tests.deployment import Deployment, Snapshot, name_of


def holds_by(facts: Iterable[Mapping[str, Any]]) -> dict[str, Hold]:
    """What facts alone make of holds, by reservation."""
    holds: dict[str, Hold] = {}
    for fact in facts:
        name = name_of(fact["reservation_id"], fact["sku"] if fact["coordinated"] else "")
        holds[name] = hold_after(holds.get(name), dict(fact))
    return holds


def check(seen: Snapshot, deployment: Deployment) -> None:
    """What is reserved is what holds take, facts alone make the holds, and positions tell them all.

    Of what is forgotten, positions say that it may be; rows have what it took of them.
    """
    partitions = deployment.topics[STOCK.name].partitions

    def forgotten_to(key: str) -> int:
        position = seen.positions.get(keys.partition_of(key.encode(), partitions))
        return 0 if position is None else position.forgotten_to

    for sku, row in seen.rows.items():
        of_sku = {key: source.count for key, source in row.sources.items()}
        taken = of_holds((h for h in seen.holds.values() if h.sku == sku), of_sku)
        assert row.reserved == taken or (forgotten_to(sku) and is_explained(row.reserved, taken, forgotten_to(sku)))
    facts = deployment.facts()
    told = holds_by(facts)
    assert seen.holds.items() <= told.items()
    gone = {name: told[name] for name in told.keys() - seen.holds.keys()}
    assert all(is_past(hold, forgotten_to(hold.sku or hold.reservation_id)) for hold in gone.values())
    alone = [hold for hold in seen.holds.values() if not hold.coordinated]
    for hold in alone:
        for line in hold.lines:
            of_line = told[name_of(hold.reservation_id, line.sku)]
            assert line.asked or (line.state, line.parts) == (of_line.state, of_line.parts)
            assert line.asked or hold.is_open or not of_line.is_open
    assert len(facts) == sum(position.facts for position in seen.positions.values())
    orders = {keys.order_key(h.order_id, h.sku, h.reservation_id) for h in seen.holds.values() if h.order_id}
    assert {key for key, value in seen.raw.items() if value and key.startswith(keys.ORDER_PREFIX)} == orders
