"""Holds, as they lie beside the rows of inventory.stock, and the words of commands and facts.

A hold is one SKU's line of a reservation, kept after its end for as long as a retry may come. The field order is that
of schemas/avro/Hold.2.avsc (a test holds them together); on the wire it is a MessagePack array, as a row.
"""

from __future__ import annotations

import msgspec

from schemas.keys import source_key

HELD, COMMITTED, FULFILLED = "HELD", "COMMITTED", "FULFILLED"
RELEASED, EXPIRED, REFUSED = "RELEASED", "EXPIRED", "REFUSED"
EXTENDED = "EXTENDED"  # a fact, and no state

HOLD, COMMIT, FULFIL, RELEASE, EXPIRE, EXTEND = ACTIONS = ("HOLD", "COMMIT", "FULFIL", "RELEASE", "EXPIRE", "EXTEND")

SOLD_OUT, UNKNOWN_SKU, VERSION_MISMATCH = "SOLD_OUT", "UNKNOWN_SKU", "VERSION_MISMATCH"
"""Why a hold is refused."""


class Part(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What one source gives; `schemas.rows.Open` says what the times mean. No ids: what is sold beyond the stock."""

    supplier_id: str
    location_id: str
    quantity: int
    committed_at: int | None = None
    fulfilled_at: int | None = None

    @property
    def source(self) -> str:
        """The key of its source within the row; "" for what is backordered."""
        return source_key(self.supplier_id, self.location_id) if self.supplier_id else ""


class Step(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What became of a hold. `at`: the decision clock, ms; `command_id`: None for what came of time."""

    fact: str
    at: int
    units: int
    command_id: str | None = None


class Hold(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """One SKU's line of a reservation; see Hold.2.avsc for every field. Times in ms, quantities in whole units."""

    sku: str
    reservation_id: str
    state: str = ""
    order_id: str | None = None
    channel: str = "default"
    quantity: int = 0
    fingerprint: str = ""
    parts: list[Part] = []
    reason: str | None = None
    left: int | None = None
    policy_revision: int = 0
    created_at: int = 0
    expires_at: int | None = None
    ended_at: int | None = None
    steps: list[Step] = []

    @property
    def held(self) -> int:
        """Units in all parts."""
        return sum(part.quantity for part in self.parts)

    @property
    def open_units(self) -> int:
        """Units that have not left their source."""
        return sum(part.quantity for part in self.parts if part.fulfilled_at is None)

    def has_expired(self, now_ms: int) -> bool:
        """Whether it lapsed, said or not."""
        return self.state == HELD and self.expires_at is not None and self.expires_at <= now_ms

    def answers(self, command_id: str) -> bool:
        """Whether a command was carried out."""
        return any(step.command_id == command_id for step in self.steps)


decode_hold = msgspec.msgpack.Decoder(Hold).decode
