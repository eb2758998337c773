"""What suppliers send in a run: updates that meet on a few SKUs, late, twice and out of order, and some that are junk.

The schema, its codec and the fields' names are the product's; what a message means is for `auditor` to say alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from schemas.codec import Codec
from schemas.registry import FileRegistry

CODEC = Codec("StockUpdate", FileRegistry())
FACTS = Codec("ReservationFact", FileRegistry())
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Told:
    """A message for inventory.updates. `update`: its content; None where the value is none that can be read."""

    key: bytes
    value: bytes | None
    update: dict[str, Any] | None


def told(count: int, skus: int, now_ms: int, rng: random.Random) -> list[Told]:
    """So many messages, in the order in which they are sent.

    With an odd number of SKUs no source has a limit of its own to its age: where time may change a row, whatever was
    passed over is looked at again soon.
    """
    names = [f"sku-{n}" for n in range(skus)]
    sent: list[Told] = []
    for n in range(count):
        shape = rng.random()
        if sent and shape < 0.12:
            sent.append(rng.choice(sent))  # again
        elif shape < 0.15:
            sent.append(_junk(rng.choice(names), rng))
        elif shape < 0.18:
            sent.append(_of(_refused(rng.choice(names), n, now_ms, rng)))
        else:
            sent.append(_of(_usable(rng.choice(names), n, now_ms, rng)))
    return sent if skus % 2 == 0 else [_unlimited(each) for each in sent]


def _unlimited(told: Told) -> Told:
    return told if told.update is None else _of(told.update | {"stale_after_ms": None})


def _usable(sku: str, n: int, now_ms: int, rng: random.Random) -> dict[str, Any]:
    kind = rng.choices(("COUNT", "DELTA", "WITHDRAWN"), (3, 7, 1))[0]
    quantity = {"COUNT": rng.randrange(50), "DELTA": rng.choice((-3, -2, -1, 1, 2, 9)), "WITHDRAWN": 0}[kind]
    # Few times and ids, so that they tie and meet; some are of the run's own time, so that they know of what was sold.
    at = now_ms - 1_000 * (rng.randrange(40) if rng.random() < 0.8 else -rng.randrange(240))
    return {
        "sku": sku,
        "supplier_id": rng.choice(("acme", "bolt")),
        "location_id": rng.choice(("default", "default", "north")),
        "update_id": f"u{rng.randrange(30)}",
        "kind": kind,
        "quantity": quantity,
        "basis": rng.choice(("ON_HAND", "AVAILABLE")),
        "order_ref": rng.choice((None, "o-1", "o-1")) if kind == "DELTA" else None,
        "observed_at": at,
        "received_at": now_ms + n,
        "feed": "simulated",
        "incoming": [{"expected_at": at + HOUR_MS, "quantity": 3}] if kind == "COUNT" and n % 7 == 0 else [],
        "stale_after_ms": rng.choice((None, HOUR_MS)),
    }


def _refused(sku: str, n: int, now_ms: int, rng: random.Random) -> dict[str, Any]:
    update = _usable(sku, n, now_ms, rng)
    match rng.randrange(3):
        case 0:
            return update | {"observed_at": update["received_at"] + 300_001}
        case 1:
            return update | {"kind": "DELTA", "quantity": 0}
        case _:
            return update | {"kind": "COUNT", "quantity": -1}


def _of(update: dict[str, Any]) -> Told:
    return Told(update["sku"].encode(), CODEC.encode(update), update)


def _junk(sku: str, rng: random.Random) -> Told:
    return Told(sku.encode(), rng.choice((None, b"", b"junk", b"\x00\x00\x00\x00\x01\xff\xff")), None)
