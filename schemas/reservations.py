"""Holds, as they lie beside the rows of inventory.stock, and the words of commands and facts.

A hold is one SKU's line of a reservation, kept after its end for as long as a retry may come. A reservation of several
SKUs is a hold too, under an empty SKU, in the partition of its id; its coordinator keeps it. The field order is that of
schemas/avro/Hold.5.avsc (a test holds them together); on the wire it is a MessagePack array, as a row.
"""

from __future__ import annotations

import msgspec

from schemas.keys import source_key

HELD, COMMITTED, FULFILLED = "HELD", "COMMITTED", "FULFILLED"
RELEASED, EXPIRED, REFUSED = "RELEASED", "EXPIRED", "REFUSED"
PENDING = "PENDING"  # of a reservation of several SKUs, until all lines have answered
EXTENDED, TRANSFERRED, BEGUN, NOTED = "EXTENDED", "TRANSFERRED", "BEGUN", "NOTED"  # facts, and no states
CLOSED, UNCHANGED = "CLOSED", "UNCHANGED"  # likewise

HOLD, COMMIT, FULFIL, RELEASE, EXPIRE, EXTEND = "HOLD", "COMMIT", "FULFIL", "RELEASE", "EXPIRE", "EXTEND"
TRANSFER, ANSWER = "TRANSFER", "ANSWER"
ACTIONS = (HOLD, COMMIT, FULFIL, RELEASE, EXPIRE, EXTEND, TRANSFER, ANSWER)

NO_SKU = ""  # of a reservation of several
SHIPPED = "delta:"  # what the ids of suppliers' changes begin with; no storefront's command's does
MOVED = "moved:"  # likewise, of transfers that a worker asks for by itself

SOLD_OUT, UNKNOWN_SKU, VERSION_MISMATCH = "SOLD_OUT", "UNKNOWN_SKU", "VERSION_MISMATCH"
"""Why a hold is refused."""

ASK_AGAIN_MS = 30_000  # what a line was asked and has not answered: where Kafka lost the marker of a transaction


class Part(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What one source gives; `schemas.rows.Open` says what the times mean. No ids: what is sold beyond the stock.

    Units have left once the shop says so, which `fulfilled_at` tells, or their supplier does, which `closed` tells.
    """

    supplier_id: str
    location_id: str
    quantity: int
    committed_at: int | None = None
    fulfilled_at: int | None = None
    closed: bool = False

    @property
    def is_open(self) -> bool:
        """Whether they have not left."""
        return self.fulfilled_at is None and not self.closed

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


class Unchanged(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What a command was told that changed nothing; see Hold.5.avsc. `at`: ms; `quantity`: asked for, 0: all."""

    command_id: str
    at: int
    state: str
    open: int = 0
    quantity: int = 0
    there: int = 0
    steps: int = 0


class Question(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What a line's writer was asked, and has not answered. `at`: when it was last asked, ms."""

    command_id: str
    action: str
    at: int
    quantity: int = 0
    location_id: str | None = None
    supplier_id: str | None = None
    preferred_locations: list[str] = []
    to_location: str | None = None


class Line(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """One SKU of a reservation of several, as its coordinator knows it; see Hold.5.avsc. `held`: units at first."""

    sku: str
    quantity: int
    allow_partial: bool = False
    state: str = ""
    held: int = 0
    parts: list[Part] = []
    reason: str | None = None
    left: int | None = None
    steps: int = 0
    asked: list[Question] = []

    @property
    def open_units(self) -> int:
        """Units that have not left their source."""
        return open_units(self.parts)


class Hold(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """One SKU's line of a reservation; see Hold.5.avsc for every field. Times in ms, quantities in whole units."""

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
    coordinated: bool = False
    lines: list[Line] = []
    supplier_id: str | None = None
    location_id: str | None = None
    preferred_locations: list[str] = []
    unchanged: list[Unchanged] = []

    @property
    def held(self) -> int:
        """Units in all parts, of all lines."""
        return sum(part.quantity for parts in (self.parts, *(line.parts for line in self.lines)) for part in parts)

    @property
    def open_units(self) -> int:
        """Units that have not left their source."""
        return open_units(self.parts) + sum(line.open_units for line in self.lines)

    @property
    def is_open(self) -> bool:
        """Whether something may still become of it."""
        return self.state in (PENDING, HELD, COMMITTED)

    @property
    def look_at(self) -> int | None:
        """When its writer looks at it by itself, in ms: it lapses then, or a line has been silent for too long."""
        lapses = self.expires_at if self.state in (PENDING, HELD) else None
        asked = [question.at + ASK_AGAIN_MS for line in self.lines for question in line.asked]
        times = [at for at in (lapses, *asked) if at is not None]
        return min(times, default=None)

    def has_expired(self, now_ms: int) -> bool:
        """Whether it lapsed, said or not."""
        return self.state in (PENDING, HELD) and self.expires_at is not None and self.expires_at <= now_ms

    def waits_for(self, command_id: str) -> bool:
        """Whether lines have yet to say what comes of a command."""
        if self.state == PENDING:
            return self.unchanged_by(command_id) is None
        return any(
            question.command_id == command_id and question.action == TRANSFER
            for line in self.lines
            for question in line.asked
        )

    def answers(self, command_id: str) -> bool:
        """Whether a command was carried out."""
        return any(step.command_id == command_id for step in self.steps)

    def unchanged_by(self, command_id: str) -> Unchanged | None:
        """What a command was told that changed nothing, if that is kept."""
        return next((one for one in self.unchanged if one.command_id == command_id), None)

    def knows(self, command_id: str) -> bool:
        """Whether a command was decided, or is asked of lines."""
        asked = (question.command_id for line in self.lines for question in line.asked)
        return self.answers(command_id) or self.unchanged_by(command_id) is not None or command_id in asked

    def units_of(self, command_id: str) -> int:
        """Units that a command was about; 0: it was not carried out."""
        return next((step.units for step in self.steps if step.command_id == command_id), 0)


def open_units(parts: list[Part]) -> int:
    """Units that have not left their source."""
    return sum(part.quantity for part in parts if part.is_open)


decode_hold = msgspec.msgpack.Decoder(Hold).decode
