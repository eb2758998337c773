"""Commands for tests."""

from __future__ import annotations

from typing import Any

from inventory.reservations.decide import Command
from schemas.reservations import HOLD

NOW = 1_700_000_000_000
SKU = "sku-1"


def command(action: str = HOLD, **fields: Any) -> Command:
    made: dict[str, Any] = {
        "command_id": "c1", "action": action, "reservation_id": "r1", "order_id": "o1", "sku": SKU, "quantity": 1,
        "location_id": None, "channel": "default", "received_at": NOW, "supplier_id": None, "preferred_locations": [],
        "allow_partial": False, "expires_in_ms": 900_000, "if_version": None, "fingerprint": "f",
        "coordinated": False, "lines": [], "to_location": None, "answer": None,
    }  # fmt: skip
    return made | fields  # type: ignore[return-value]
