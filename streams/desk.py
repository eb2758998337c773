"""The rows and holds of a partition as they are after each decision, and what is to be written of it all.

Of one batch: made by `streams.decider`, thrown away after it. What a line comes to is told to the coordinator of its
reservation, and what that one asks to the lines, as messages of the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from inventory.policies import Policies
from inventory.reservations import coordinate
from inventory.reservations.decide import Case, Command, Decision, decide, expire
from inventory.reservations.facts import Fact, Origin, fact_of, hold_after, records_of, row_after, row_to_come
from inventory.reservations.reallocation import ask_to_move, reallocate
from inventory.reservations.shipments import Shipment, close
from schemas.keys import hold_key
from schemas.reservations import ANSWER, ASK_AGAIN_MS, MOVED, NO_SKU, NOTED, TRANSFER, Hold, decode_hold
from schemas.rows import PackedRow, StockRow, decode_packed_row, decode_row, encode


class Stored(Protocol):
    """Rows, holds and orders' records of a partition: `state.store.PartitionStore`, or one with a batch's above it."""

    def get_many(self, row_keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values of many keys, None where there is none."""

    def order_keys(self, prefixes: Sequence[bytes]) -> list[list[bytes]]:
        """The keys of orders' records that begin with each of some prefixes."""


class Desk:
    """Of one partition and batch.

    Args:
        store: of what was there before.
        policies: those that hold now.
        facts: how many there were before.
        now_ms: the partition's decision clock.
        next_update: see ReservationFact.5.avsc.

    Attributes:
        facts: key and record of each, in order.
        sent: messages between coordinators and lines, in order.
        to_look_at: time in ms and key of holds to look at later.
        forgotten_to: as in `Position`, by holds that began in the place of others.
        next_fact: the number of the next fact.
    """

    def __init__(self, store: Stored, policies: Policies, facts: int, now_ms: int, next_update: int) -> None:
        self.facts: list[tuple[bytes, Fact]] = []
        self.sent: list[Command] = []
        self.to_look_at: list[tuple[int, bytes]] = []
        self.next_fact = facts
        self.forgotten_to = 0
        self._store = store
        self._policies = policies
        self._now_ms = now_ms
        self._next_update = next_update
        self._rows: dict[bytes, tuple[PackedRow, StockRow] | None] = {b"": None}
        self._holds: dict[bytes, Hold | None] = {}
        self._touched: dict[bytes, None] = {}  # in order, so that a batch is written the same way each time
        self._records: dict[bytes, bytes | None] = {}
        self._notes: dict[bytes, tuple[Hold, Origin]] = {}  # before the first, and of the last

    def fetch(
        self, commands: Sequence[Command], missed: Sequence[Fact], due: Sequence[tuple[int, bytes]],
        to_cover: Sequence[bytes] = (),
    ) -> None:  # fmt: skip
        """Look up what will be needed, in one call."""
        holds = {_key(command): _sku(command).encode() for command in commands}
        holds |= {hold_key(f["sku"], f["reservation_id"]): f["sku"].encode() for f in missed}
        holds |= {key: key[1 : key.index(b"\0")] for key in (*(key for _, key in due), *to_cover)}
        self.look_up(holds)

    def look_up(self, holds: Mapping[bytes, bytes]) -> None:
        """The keys of holds, each with that of its SKU's row."""
        wanted = [*holds, *(sku for sku in dict.fromkeys(holds.values()) if sku)]
        found = self._store.get_many(wanted)
        for key, value in zip(wanted, found, strict=True):
            if key in holds:
                self._holds[key] = None if value is None else decode_hold(value)
            else:
                self._rows[key] = None if value is None else (decode_packed_row(value), decode_row(value))

    def hear_fact(self, fact: Fact) -> None:
        """A fact that is in the log already."""
        if fact["number"] < self.next_fact:
            return  # told twice
        key = hold_key(fact["sku"], fact["reservation_id"])
        before = self._holds[key]
        self._put(key, before, hold_after(before, fact))
        self.next_fact = fact["number"] + 1

    def look_at(self, key: bytes) -> None:
        """A hold whose time may have come, or whose lines are silent."""
        self._end_if_lapsed(key)
        hold = self._holds[key]
        if hold is not None and (again := coordinate.ask_again(hold, self._now_ms)):
            self.sent += again
            self.to_look_at.append((self._now_ms + ASK_AGAIN_MS, key))

    def carry_out(self, command: Command, offset: int) -> None:
        """What a storefront asks for."""
        key = _key(command)
        self._end_if_lapsed(key)
        origin = Origin(self.next_fact, command["command_id"], offset, self._now_ms)
        if command["sku"] != NO_SKU:
            self._take(key, self._decided(key, command), origin)
            return
        self._ask_lines(key, command, origin)

    def go_on(self, command: Command, offset: int) -> None:
        """What passes between a coordinator and a line."""
        key = _key(command)
        origin = Origin(self.next_fact, command["command_id"], None, self._now_ms, offset)
        if command["action"] == TRANSFER and command["sku"] == NO_SKU:  # the writer of a line asks for it
            self._end_if_lapsed(key)
            self._ask_lines(key, command, origin)
            return
        if command["action"] != ANSWER:
            self._take(key, self._decided(key, command), origin)
            self.sent.append(coordinate.answer_to(command, self._holds[key]))
            return
        self._end_if_lapsed(key)
        hold = self._holds[key]
        if hold is not None:
            self._coordinated(key, coordinate.hear(hold, command, self._now_ms), origin)

    def cover(self, key: bytes) -> None:
        """Units of a hold come from another source, where theirs has less than is held of it."""
        self._end_if_lapsed(key)
        hold = self._holds[key]
        while hold is not None and (decision := reallocate(self._case(key, hold.sku))) is not None:
            if hold.coordinated:
                self.sent.append(ask_to_move(hold, self._now_ms))
                return
            origin = Origin(self.next_fact, decision.command_id, None, self._now_ms)
            self._take(key, decision, origin)
            hold = decision.hold

    def close(self, shipment: Shipment, keys: Iterable[bytes]) -> None:
        """What one shipment closes of the holds of its order."""
        for key in keys:
            self._end_if_lapsed(key)
        known = [hold for key in keys if (hold := self._holds[key]) is not None]
        holds = [hold for hold in known if hold.order_id == shipment.order_id]
        origin = Origin(self.next_fact, shipment.command_id, None, self._now_ms, update_offset=shipment.offset)
        for decision in close(shipment, holds, self._now_ms):
            hold = decision.hold
            self._take(hold_key(hold.sku, hold.reservation_id), decision, origin)
            if hold.coordinated:
                self.sent.append(coordinate.tell(shipment.command_id, hold))

    def tell_notes(self) -> None:
        """One fact for all that was noted of a reservation; called once all answers are heard."""
        for key, (before, origin) in self._notes.items():
            hold = self._holds[key]
            if hold is not None:
                self._take(key, Decision(NOTED, hold, 0), origin._replace(command_id=None), before)
        self._notes.clear()

    def changed(self) -> tuple[dict[bytes, bytes], list[bytes]]:
        """Rows, holds and what is written beside them, encoded, and the keys of what is removed."""
        rows = {key: encode(known[0]) for key in self._touched if (known := self._rows[key]) is not None}
        records = {key: value for key, value in self._records.items() if value is not None}
        return rows | records, [key for key, value in self._records.items() if value is None]

    def _end_if_lapsed(self, key: bytes) -> None:
        hold = self._holds[key]
        if hold is None:
            return
        origin = Origin(self.next_fact, None, None, self._now_ms)
        if hold.sku == NO_SKU:
            self._coordinated(key, coordinate.lapse(hold, self._now_ms), origin)
        else:
            self._take(key, expire(hold, self._now_ms), origin)

    def _decided(self, key: bytes, command: Command) -> Decision | None:
        case = self._case(key, command["sku"])
        if command["coordinated"] and command["command_id"].startswith(MOVED):
            return reallocate(case, command["command_id"])  # by what there is now
        return decide(command, case)

    def _case(self, key: bytes, sku: str) -> Case:
        known = self._rows[sku.encode()]
        return Case(None if known is None else known[1], self._holds[key], self._policies, self._now_ms)

    def _ask_lines(self, key: bytes, command: Command, origin: Origin) -> None:
        done = coordinate.coordinate(command, self._holds[key], self._now_ms, self._policies.revision)
        self._coordinated(key, done, origin)

    def _coordinated(self, key: bytes, done: coordinate.Coordinated | None, origin: Origin) -> None:
        if done is None:
            return
        self.sent += done.sent
        decision = done.decision
        if decision.fact == NOTED and origin.step_offset is not None:
            before = self._holds[key]
            if before is not None:
                self._notes[key] = self._notes.get(key, (before, origin))[0], origin
            self._holds[key] = decision.hold
            return
        before, _ = self._notes.pop(key, (self._holds[key], origin))
        self._take(key, decision, origin._replace(command_id=decision.command_id), before)

    def _take(self, key: bytes, decision: Decision | None, origin: Origin, before: Hold | None = None) -> None:
        if decision is None:
            return
        fact = fact_of(decision, origin._replace(number=self.next_fact, next_update=self._next_update))
        self.facts.append(((decision.hold.sku or decision.hold.reservation_id).encode(), fact))
        self.next_fact += 1
        self._put(key, before or self._holds[key], decision.hold)

    def _put(self, key: bytes, before: Hold | None, hold: Hold) -> None:
        sku = hold.sku.encode()
        self._holds[key] = hold
        self._records |= records_of(before, hold)
        if before is not None and before.ended_at is not None and hold.created_at > before.created_at:
            self.forgotten_to = max(self.forgotten_to, before.ended_at)
        if (at := hold.look_at) is not None:
            self.to_look_at.append((at, key))
        known = self._rows[sku]
        if known is None and hold.parts:  # rows that were rebuilt may lack the updates that a fact of before rests on
            row = row_to_come(hold.sku)
            known = self._rows[sku] = row, StockRow(row.sku, row.version, row.on_hand, row.changed_at, {})
        if known is not None and row_after(known[0], before, hold):
            known[1].reserved, known[1].version = known[0].reserved, known[0].version
            self._touched[sku] = None


def _sku(command: Command) -> str:
    """Of the hold that a command is about."""
    return NO_SKU if command["action"] == ANSWER else command["sku"]


def _key(command: Command) -> bytes:
    return hold_key(_sku(command), command["reservation_id"])
