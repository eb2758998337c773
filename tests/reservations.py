"""What must hold of reservations in a deployment, whoever made the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from inventory.reservations.facts import hold_after
from inventory.reservations.reserved import of_holds
from schemas import keys
from schemas.reservations import Hold
from tests.deployment import Deployment, Snapshot, name_of


def holds_by(facts: Iterable[Mapping[str, Any]]) -> dict[str, Hold]:
    """What facts alone make of holds, by reservation."""
    holds: dict[str, Hold] = {}
    for fact in facts:
        name = name_of(fact["reservation_id"], fact["sku"] if fact["coordinated"] else "")
        holds[name] = hold_after(holds.get(name), dict(fact))
    return holds


def check(seen: Snapshot, deployment: Deployment) -> None:
    """What is reserved is what holds take, facts alone make the holds, and positions tell them all."""
    for sku, row in seen.rows.items():
        of_sku = {key: source.count for key, source in row.sources.items()}
        assert row.reserved == of_holds((h for h in seen.holds.values() if h.sku == sku), of_sku)
    facts = deployment.facts()
    assert holds_by(facts) == seen.holds
    alone = [hold for hold in seen.holds.values() if not hold.coordinated]
    for hold in alone:
        for line in hold.lines:
            of_line = seen.holds[name_of(hold.reservation_id, line.sku)]
            assert line.asked or (line.state, line.parts) == (of_line.state, of_line.parts)
            assert line.asked or hold.is_open or not of_line.is_open
    assert len(facts) == sum(position.facts for position in seen.positions.values())
    orders = {keys.order_key(h.order_id, h.sku, h.reservation_id) for h in alone if h.order_id}
    assert {key for key in seen.raw if key.startswith(keys.ORDER_PREFIX)} == orders
