"""What storefronts ask for in a run: holds on the few SKUs that there are, and what follows them, some of it twice.

Of one SKU each, or of several at once, which a coordinator then has to bring together.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from schemas.codec import Codec
from schemas.registry import FileRegistry

COMMANDS = Codec("ReservationCommand", FileRegistry())
RECENT = 8  # what is asked for soon after: else most would have lapsed
SEVERAL = 0.3  # the share of holds that are of several SKUs
JUNK = (b"", b"junk", b"\x00\x00\x00\x00\x01\xff\xff")


@dataclass(frozen=True)
class Asked:
    """A message for inventory.commands. `command`: its content; None where the value is none that can be read."""

    key: bytes
    value: bytes
    command: dict[str, Any] | None


def asked(count: int, skus: int, now_ms: int, rng: random.Random) -> list[Asked]:
    """So many messages, in the order in which they are sent."""
    made: list[dict[str, Any]] = []
    sent: list[Asked] = []
    for n in range(count):
        shape = rng.random()
        if shape < 0.03:
            sent.append(Asked(b"sku-0", rng.choice(JUNK), None))
            continue
        if made and shape < 0.12:
            command = rng.choice(made)  # again
        elif made and shape < 0.7:
            command = _later(rng.choice(made[-RECENT:]), n, rng)
        else:
            command = _hold(f"sku-{rng.choice((0, 0, 1, 1, skus - 1, skus))}", n, now_ms, rng)
            if rng.random() < SEVERAL:
                command |= _several(skus, rng)
        made.append(command)
        key = command["sku"] or command["reservation_id"]
        sent.append(Asked(key.encode(), COMMANDS.encode(command), command))
    return sent


def _hold(sku: str, n: int, now_ms: int, rng: random.Random) -> dict[str, Any]:
    return {
        "command_id": f"h{n}",
        "action": "HOLD",
        "reservation_id": f"r{n}",
        "order_id": rng.choice(("o-1", "o-1", None if n % 2 else f"o-{n}")),
        "sku": sku,
        "quantity": rng.choice((1, 2, 3, 5, 30)),
        "location_id": rng.choice((None, None, None, "north")),
        "channel": rng.choice(("default", "web")),
        "received_at": now_ms,
        "supplier_id": rng.choice((None, None, None, "bolt")),
        "preferred_locations": rng.choice(([], ["north"])),
        "allow_partial": rng.random() < 0.3,
        "expires_in_ms": rng.choice((500, 900_000, 900_000)),
        "if_version": rng.choice((None, None, None, None, 3)),
        "fingerprint": f"f{n}",
        "coordinated": False,
        "lines": [],
        "to_location": None,
        "answer": None,
    }


def _several(skus: int, rng: random.Random) -> dict[str, Any]:
    """What a hold of several SKUs says instead."""
    count = rng.randint(1, min(3, skus))
    asked = [_line(f"sku-{n}", rng.choice((1, 1, 2, 5)), rng) for n in rng.sample(range(skus + 1), count)]
    return {"sku": "", "quantity": 0, "location_id": None, "supplier_id": None, "if_version": None, "lines": asked}


def _line(sku: str, quantity: int, rng: random.Random) -> dict[str, Any]:
    location = rng.choice((None, None, None, "north"))
    return {"sku": sku, "quantity": quantity, "location_id": location, "supplier_id": None}


def _later(command: dict[str, Any], n: int, rng: random.Random) -> dict[str, Any]:
    """What somebody does with a reservation that was asked for."""
    action = rng.choice(("COMMIT", "COMMIT", "COMMIT", "FULFIL", "FULFIL", "FULFIL", "RELEASE", "EXTEND", "TRANSFER"))
    later = command | {
        "command_id": f"c{n}",
        "action": action,
        "quantity": rng.choice((0, 0, 0, 1, 2)),
        "location_id": rng.choice((None, None, None, "north")),
        "expires_in_ms": rng.choice((500, 900_000)),
        "to_location": rng.choice(("default", "north")) if action == "TRANSFER" else None,
    }
    if command["sku"]:
        return later
    known = [line["sku"] for line in command["lines"]] or ["sku-0", "sku-1"]
    lines = [_line(sku, rng.choice((0, 0, 1)), rng) for sku in rng.sample(known, rng.randint(1, len(known)))]
    if action in ("COMMIT", "EXTEND") or (action != "TRANSFER" and rng.random() < 0.6):
        lines = []
    return later | {"quantity": 0, "location_id": None, "lines": lines[:1] if action == "TRANSFER" else lines}
