"""Decides the commands of a batch on the rows and holds of its partition: the single writer, so nobody else does.

Holds that lapsed are ended first, and so before anything is decided by them. What a command changes is seen by the next
one in the batch, and by the fold after them; nothing is written here. Called by `streams.batch`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

from confluent_kafka import Message

from inventory.policies import Policies
from inventory.reservations.decide import Case, Command, Decision, decide, expire
from inventory.reservations.facts import Fact, Origin, fact_of, hold_after, records_of, row_after, row_to_come
from schemas.codec import Codec
from schemas.keys import hold_key, id_problem
from schemas.reservations import HELD, Hold, decode_hold
from schemas.rows import PackedRow, StockRow, decode_packed_row, decode_row, encode
from state.store import PartitionStore
from stockweave.errors import Rejected
from streams.dead_letters import DeadLetter

SHOWN_MAX = 64


class Asked(NamedTuple):
    """What is to be decided in a partition.

    `missed`: facts that come first, for they are decided. `due`: expires_at and key of holds that may have lapsed.
    `facts`: how many there were before; `decided_at`: when the last one was decided, in ms.
    """

    missed: list[Fact]
    due: list[tuple[int, bytes]]
    commands: list[Message]
    facts: int
    decided_at: int


class Decided(NamedTuple):
    """What comes of it.

    `rows`: changed rows and holds, by key. `facts`: key and value of each, in order. `lapses`: expires_at and key of
    the holds that lapse later. `next_fact`: its number; `next_command`: the least offset that was not looked at.
    `decided_at`: the decision clock, in ms.
    """

    rows: dict[bytes, bytes]
    facts: list[tuple[bytes, bytes]]
    dead_letters: list[DeadLetter]
    lapses: list[tuple[int, bytes]]
    next_fact: int
    next_command: int
    decided_at: int


class Decider:
    """Decides.

    Args:
        commands: codec of ReservationCommand.
        facts: codec of ReservationFact.
        policies: those that hold now.
        now_ms: the machine's clock.
    """

    def __init__(
        self, commands: Codec, facts: Codec, policies: Callable[[], Policies], now_ms: Callable[[], int]
    ) -> None:
        self._commands = commands
        self._facts = facts
        self._policies = policies
        self._now_ms = now_ms

    def decide(self, asked: Asked, store: PartitionStore, is_here: Callable[[bytes], bool] | None) -> Decided:
        """Decide all that is asked, in order.

        Args:
            asked: of one partition.
            store: its rows and holds.
            is_here: whether a key belongs into this partition.

        Raises:
            Retriable: the registry has to be asked for a schema, and does not answer.
        """
        told_at = (fact["decided_at"] for fact in asked.missed)
        now_ms = max(self._now_ms(), asked.decided_at, *told_at)  # the decision clock never goes back
        desk = _Desk(store, self._facts, asked.facts, now_ms)
        usable, dead_letters = self._usable(asked.commands, is_here)
        desk.fetch(usable, asked)
        for fact in asked.missed:
            desk.hear(fact)
        for _, key in asked.due:
            desk.end_if_lapsed(key)
        policies = self._policies()
        for offset, command in usable:
            desk.carry_out(command, offset, policies)
        heard = (fact["command_offset"] for fact in asked.missed)
        offsets = [offset + 1 for offset in heard if offset is not None]
        offsets += [cast("int", message.offset()) + 1 for message in asked.commands[-1:]]
        next_command = max(offsets, default=0)
        return Decided(desk.changed(), desk.facts, dead_letters, desk.lapses, desk.next_fact, next_command, now_ms)

    def _usable(
        self, messages: list[Message], is_here: Callable[[bytes], bool] | None
    ) -> tuple[list[tuple[int, Command]], list[DeadLetter]]:
        usable, dead_letters = [], []
        decoded = self._commands.decode([message.value() for message in messages]) if messages else []
        for message, command in zip(messages, decoded, strict=True):
            if isinstance(command, Rejected):
                dead_letters.append(DeadLetter(message, command.reason, str(command)))
            elif (why := _problem(message.key(), cast("Command", command), is_here)) is not None:
                dead_letters.append(DeadLetter(message, *why))
            else:
                usable.append((cast("int", message.offset()), cast("Command", command)))
        return usable, dead_letters


def _problem(key: bytes | None, command: Command, is_here: Callable[[bytes], bool] | None) -> tuple[str, str] | None:
    """Why a command can never be decided here: a reason, the field and the remedy."""
    sku = command["sku"]
    if key != sku.encode():
        return (
            "key_is_not_sku",
            f"the key is {(key or b'')[:SHOWN_MAX]!r} and the sku {sku[:SHOWN_MAX]!r}; key by the SKU",
        )
    for field in ("sku", "order_id", "channel", "supplier_id", "location_id"):
        value = cast("dict[str, str | None]", command)[field]
        if value is not None and (problem := id_problem(value)):
            return "invalid_command", f"{field} {problem}"
    if command["quantity"] < 0 or command["expires_in_ms"] <= 0:
        return "invalid_command", "quantity or expires_in_ms is below zero; send whole units, and milliseconds"
    if is_here is not None and not is_here(key):
        return (
            "wrong_partition",
            "its partition is not that of its key; let the producer use partitioner=murmur2_random",
        )
    return None


class _Desk:
    """The rows and holds of a partition as they are after each decision."""

    def __init__(self, store: PartitionStore, codec: Codec, facts: int, now_ms: int) -> None:
        self.facts: list[tuple[bytes, bytes]] = []
        self.lapses: list[tuple[int, bytes]] = []
        self._store = store
        self._codec = codec
        self.next_fact = facts
        self._now_ms = now_ms
        self._rows: dict[bytes, tuple[PackedRow, StockRow] | None] = {}
        self._holds: dict[bytes, Hold | None] = {}
        self._touched: dict[bytes, None] = {}  # in order, so that a batch is written the same way each time
        self._records: dict[bytes, bytes] = {}

    def fetch(self, commands: list[tuple[int, Command]], asked: Asked) -> None:
        """Look up what will be needed, in one call."""
        holds = {hold_key(c["sku"], c["reservation_id"]): c["sku"].encode() for _, c in commands}
        holds |= {hold_key(f["sku"], f["reservation_id"]): f["sku"].encode() for f in asked.missed}
        holds |= {key: key[1 : key.index(b"\0")] for _, key in asked.due}
        wanted = [*holds, *dict.fromkeys(holds.values())]
        found = self._store.get_many(wanted)
        for key, value in zip(wanted, found, strict=True):
            if key in holds:
                self._holds[key] = None if value is None else decode_hold(value)
            else:
                self._rows[key] = None if value is None else (decode_packed_row(value), decode_row(value))

    def end_if_lapsed(self, key: bytes) -> None:
        """A hold whose time came."""
        hold = self._holds[key]
        if hold is not None:
            self._take(key, hold, expire(hold, self._now_ms), None, None)

    def carry_out(self, command: Command, offset: int, policies: Policies) -> None:
        """One command."""
        key = hold_key(command["sku"], command["reservation_id"])
        self.end_if_lapsed(key)
        known = self._rows[command["sku"].encode()]
        hold = self._holds[key]
        case = Case(None if known is None else known[1], hold, policies, self._now_ms)
        self._take(key, hold, decide(command, case), command["command_id"], offset)

    def changed(self) -> dict[bytes, bytes]:
        """Rows, holds and what is written beside them, encoded."""
        rows = {key: encode(known[0]) for key in self._touched if (known := self._rows[key]) is not None}
        return rows | self._records

    def _take(
        self, key: bytes, before: Hold | None, decision: Decision | None, command_id: str | None, offset: int | None
    ) -> None:
        if decision is None:
            return
        hold = decision.hold
        sku = hold.sku.encode()
        fact = fact_of(decision, Origin(self.next_fact, command_id, offset, self._now_ms))
        self.facts.append((sku, self._codec.encode(fact)))
        self.next_fact += 1
        self._put(key, before, hold)

    def hear(self, fact: Fact) -> None:
        """A fact that is in the log already."""
        if fact["number"] < self.next_fact:
            return  # told twice
        key = hold_key(fact["sku"], fact["reservation_id"])
        before = self._holds[key]
        self._put(key, before, hold_after(before, fact))
        self.next_fact = fact["number"] + 1

    def _put(self, key: bytes, before: Hold | None, hold: Hold) -> None:
        sku = hold.sku.encode()
        self._holds[key] = hold
        self._records |= records_of(before, hold)
        if hold.state == HELD and hold.expires_at is not None:
            self.lapses.append((hold.expires_at, key))
        known = self._rows[sku]
        if known is None and hold.parts:  # rows that were rebuilt may lack the updates that a fact of before rests on
            row = row_to_come(hold.sku)
            known = self._rows[sku] = row, StockRow(row.sku, row.version, row.on_hand, row.changed_at, {})
        if known is not None and row_after(known[0], before, hold):
            known[1].reserved, known[1].version = known[0].reserved, known[0].version
            self._touched[sku] = None
