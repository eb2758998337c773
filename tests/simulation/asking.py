"""What storefronts ask for in a run: holds on the few SKUs that there are, and what follows them, some of it twice."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from schemas.codec import Codec
from schemas.registry import FileRegistry

COMMANDS = Codec("ReservationCommand", FileRegistry())
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
        elif made and shape < 0.55:
            command = _later(rng.choice(made), n, rng)
        else:
            command = _hold(f"sku-{rng.randrange(skus + 1)}", n, now_ms, rng)
        made.append(command)
        sent.append(Asked(command["sku"].encode(), COMMANDS.encode(command), command))
    return sent


def _hold(sku: str, n: int, now_ms: int, rng: random.Random) -> dict[str, Any]:
    return {
        "command_id": f"h{n}",
        "action": "HOLD",
        "reservation_id": f"r{n}",
        "order_id": rng.choice((None, "o-1", f"o-{n}")),
        "sku": sku,
        "quantity": rng.choice((1, 1, 2, 5, 30)),
        "location_id": rng.choice((None, None, None, "north")),
        "channel": rng.choice(("default", "web")),
        "received_at": now_ms,
        "supplier_id": rng.choice((None, None, None, "bolt")),
        "preferred_locations": rng.choice(([], ["north"])),
        "allow_partial": rng.random() < 0.3,
        "expires_in_ms": rng.choice((500, 5_000, 900_000)),
        "if_version": rng.choice((None, None, None, None, 3)),
        "fingerprint": f"f{n}",
    }


def _later(command: dict[str, Any], n: int, rng: random.Random) -> dict[str, Any]:
    """What somebody does with a reservation that was asked for."""
    return command | {
        "command_id": f"c{n}",
        "action": rng.choice(("COMMIT", "COMMIT", "FULFIL", "FULFIL", "RELEASE", "EXTEND")),
        "quantity": rng.choice((0, 0, 0, 1, 2)),
        "location_id": rng.choice((None, None, None, "north")),
        "expires_in_ms": rng.choice((500, 900_000)),
    }
