"""Decides the commands and lapsed holds of its partition: the single writer, so nobody else does.

Holds that lapsed are ended first, and so before anything is decided by them. What a command changes is seen by the next
one in the batch, and by the fold after them; nothing is written here. Called by `streams.batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, cast

from confluent_kafka import Message

from inventory.policies import Policies
from inventory.reservations.coordinate import home
from inventory.reservations.decide import Command
from inventory.reservations.facts import Fact
from inventory.reservations.shipments import Shipment
from schemas import keys
from schemas.codec import Codec
from schemas.keys import hold_key, id_problem, line_prefix
from schemas.reservations import ANSWER, HOLD, NO_SKU
from schemas.topics import COMMANDS, RESERVATION_STEPS
from stockweave.errors import Rejected
from streams.dead_letters import DeadLetter
from streams.desk import Desk, Stored

SHOWN_MAX = 64
LINES_MAX = 100  # of a reservation
ORDER = (RESERVATION_STEPS.name, COMMANDS.name)
"""What was begun is gone on with first."""


class Asked(NamedTuple):
    """What is to be decided in a partition.

    `facts`: how many there were before; `at_ms`: the decision clock, at which `due` was looked for. `next_update`: see
    ReservationFact.5.avsc. `missed`: facts that come first, for they are decided. `due`: time in ms and key of holds to
    look at. `commands`: by topic. `to_cover`: keys of holds of sources that have less than is held of them.
    """

    facts: int
    at_ms: int
    next_update: int
    missed: Sequence[Fact] = ()
    due: Sequence[tuple[int, bytes]] = ()
    commands: Mapping[str, Sequence[Message]] = MappingProxyType({})
    to_cover: Sequence[bytes] = ()


class Decided(NamedTuple):
    """What comes of it.

    `rows`: changed rows and holds, by key. `facts`, `steps`: key and value of each, in order. `to_look_at`: time in ms
    and key of the holds to look at later. `next_fact`: its number; `next_offsets`: by topic, the least one that was not
    looked at. `decided_at`: the decision clock, in ms. `removed`: keys of what is there no longer. `forgotten_to`: what
    that says of holds, as in `Position`.
    """

    rows: dict[bytes, bytes]
    facts: list[tuple[bytes, bytes]]
    steps: list[tuple[bytes, bytes]]
    dead_letters: list[DeadLetter]
    to_look_at: list[tuple[int, bytes]]
    next_fact: int
    next_offsets: dict[str, int]
    decided_at: int
    removed: list[bytes]
    forgotten_to: int

    def then(self, later: Decided | None) -> Decided:
        """Both, one after the other; the later one came of no commands."""
        if later is None:
            return self
        return Decided(
            self.rows | later.rows,
            self.facts + later.facts,
            self.steps + later.steps,
            self.dead_letters,
            self.to_look_at + later.to_look_at,
            later.next_fact,
            self.next_offsets,
            later.decided_at,
            self.removed + later.removed,
            max(self.forgotten_to, later.forgotten_to),
        )


class Decider:
    """Decides.

    Args:
        commands: codec of ReservationCommand.
        facts: codec of ReservationFact.
        policies: those that hold now.
    """

    def __init__(self, commands: Codec, facts: Codec, policies: Callable[[], Policies]) -> None:
        self._commands = commands
        self._facts = facts
        self._policies = policies

    def decide(self, asked: Asked, store: Stored, is_here: Callable[[bytes], bool] | None) -> Decided:
        """Decide all that is asked, in order.

        Args:
            asked: of one partition.
            store: its rows and holds.
            is_here: whether a key belongs into this partition.

        Raises:
            Retriable: the registry has to be asked for a schema, and does not answer.
        """
        now_ms = max(asked.at_ms, *(fact["decided_at"] for fact in asked.missed), 0)
        desk = Desk(store, self._policies(), asked.facts, now_ms, asked.next_update)
        usable: dict[str, list[tuple[int, Command]]] = {}
        dead_letters: list[DeadLetter] = []
        for topic in ORDER:
            usable[topic], dead = self._usable(topic, asked.commands.get(topic, ()), is_here)
            dead_letters += dead
        every = [command for of_topic in usable.values() for _, command in of_topic]
        desk.fetch(every, asked.missed, asked.due, asked.to_cover)
        for fact in asked.missed:
            desk.hear_fact(fact)
        for _, key in asked.due:
            desk.look_at(key)
        for offset, command in usable[RESERVATION_STEPS.name]:
            desk.go_on(command, offset)
        desk.tell_notes()
        for offset, command in usable[COMMANDS.name]:
            desk.carry_out(command, offset)
        for key in asked.to_cover:
            desk.cover(key)
        return self._decided(desk, dead_letters, _next_offsets(asked), now_ms)

    def close(self, shipments: Sequence[Shipment], asked: Asked, store: Stored) -> Decided | None:
        """Decide what shipments that suppliers tell of close, in their order; None where it is nothing.

        Args:
            shipments: of one partition.
            asked: its numbers alone.
            store: as commands and updates of the batch have left it.
        """
        lines = [line_prefix(shipment.order_id, shipment.sku) for shipment in shipments]
        found = [
            (shipment, [hold_key(shipment.sku, key[len(line) :].decode()) for key in of_line])
            for shipment, line, of_line in zip(shipments, lines, store.order_keys(lines), strict=True)
            if of_line
        ]
        if not found:
            return None
        now_ms = asked.at_ms
        desk = Desk(store, self._policies(), asked.facts, now_ms, asked.next_update)
        desk.look_up({key: shipment.sku.encode() for shipment, of_line in found for key in of_line})
        for shipment, of_line in found:
            desk.close(shipment, of_line)
        return self._decided(desk, [], {}, now_ms) if desk.facts else None

    def _decided(
        self, desk: Desk, dead_letters: list[DeadLetter], next_offsets: dict[str, int], now_ms: int
    ) -> Decided:
        rows, removed = desk.changed()
        return Decided(
            rows,
            [(key, self._facts.encode(fact)) for key, fact in desk.facts],
            [(home(command).encode(), self._commands.encode(cast("Fact", command))) for command in desk.sent],
            dead_letters,
            desk.to_look_at,
            desk.next_fact,
            next_offsets,
            now_ms,
            removed,
            desk.forgotten_to,
        )

    def _usable(
        self, topic: str, messages: Sequence[Message], is_here: Callable[[bytes], bool] | None
    ) -> tuple[list[tuple[int, Command]], list[DeadLetter]]:
        usable, dead_letters = [], []
        decoded = self._commands.decode([message.value() for message in messages]) if messages else []
        for message, command in zip(messages, decoded, strict=True):
            if message.key() == keys.UNDONE:
                continue  # Kafka lost the end of what a worker undid
            if isinstance(command, Rejected):
                dead_letters.append(DeadLetter(message, command.reason, str(command)))
            elif (why := _problem(topic, message.key(), cast("Command", command), is_here)) is not None:
                dead_letters.append(DeadLetter(message, *why))
            else:
                usable.append((cast("int", message.offset()), cast("Command", command)))
        return usable, dead_letters


def _next_offsets(asked: Asked) -> dict[str, int]:
    """Past all that came, and all that is decided by the facts that were missed."""
    found = {topic: [cast("int", messages[-1].offset())] for topic, messages in asked.commands.items() if messages}
    for fact in asked.missed:
        for topic, offset in ((COMMANDS.name, fact["command_offset"]), (RESERVATION_STEPS.name, fact["step_offset"])):
            if offset is not None:
                found.setdefault(topic, []).append(offset)
    return {topic: max(offsets) + 1 for topic, offsets in found.items()}


def _problem(
    topic: str, key: bytes | None, command: Command, is_here: Callable[[bytes], bool] | None
) -> tuple[str, str] | None:
    """Why a command can never be decided here: a reason, the field and the remedy."""
    expected = home(command)
    if key != expected.encode() or not key:
        said = f"the key is {(key or b'')[:SHOWN_MAX]!r} and the sku {command['sku'][:SHOWN_MAX]!r}"
        return "key_is_not_sku", f"{said}; key by the SKU, or by the reservation where it has several"
    if (problem := _id_problem(command) or _unit_problem(command)) is not None:
        return "invalid_command", problem
    if command["coordinated"] != (topic == RESERVATION_STEPS.name) or (command["action"] == ANSWER) != (
        command["answer"] is not None
    ):
        return "invalid_command", "coordinated says that it comes from a worker; send what a storefront may ask for"
    if is_here is not None and not is_here(key):
        return (
            "wrong_partition",
            "its partition is not that of its key; let the producer use partitioner=murmur2_random",
        )
    return None


def _id_problem(command: Command) -> str | None:
    """What is wrong with one of its ids."""
    given = [(field, cast("dict[str, str | None]", command)[field]) for field in IDS]
    given += [(f"lines.{n}.sku", line["sku"]) for n, line in enumerate(command["lines"])]
    for field, value in given:
        if value and (problem := id_problem(value)):
            return f"{field} {problem}"
        if value == "" and (field != "sku" or command["action"] == ANSWER):
            return f"{field} is empty; leave it out, or send an id"
    return None


IDS = ("sku", "order_id", "channel", "supplier_id", "location_id", "to_location")


def _unit_problem(command: Command) -> str | None:
    """What is wrong with its numbers, or with its lines."""
    lines, least = command["lines"], 1 if command["action"] == HOLD else 0
    if command["expires_in_ms"] <= 0 or any(n < 0 for n in _quantities(command)):
        return "quantity or expires_in_ms is below zero; send whole units, and milliseconds"
    if lines and command["sku"] != NO_SKU:
        return "lines are given beside a sku; send one or the other"
    if command["action"] == HOLD and command["sku"] == NO_SKU and not lines:
        return "neither sku nor lines is given; send one or the other"
    if len(lines) > LINES_MAX or len({line["sku"] for line in lines}) < len(lines):
        return f"lines has {len(lines)} entries; send up to {LINES_MAX}, one for each SKU"
    if any(line["quantity"] < least for line in lines):
        return "quantity of a line is below one; send whole units"
    return None


def _quantities(command: Command) -> Iterable[int]:
    return (command["quantity"], *(line["quantity"] for line in command["lines"]))
