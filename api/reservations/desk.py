"""Hands commands to the writer of their SKU's partition, by Kafka, and waits until the view has what came of them.

There is no reply: the view follows the rows and holds anyhow, and once its position is past a command, the hold says
what was decided. So any process can tell the outcome, at any later time too. Used by the routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from api.reservations import ids
from api.reservations.requests import Asked, AskedLine, Change
from api.view import View
from inventory.policies import DEFAULT_CHANNEL
from inventory.reservations.coordinate import home
from inventory.reservations.decide import Command
from schemas.codec import Record
from schemas.keys import partition_of
from schemas.reservations import HOLD, NO_SKU, Hold
from schemas.topics import COMMANDS, RESERVATION_STEPS
from stockweave.errors import Retriable

SAME_KEY = "call again with the same Idempotency-Key, and it gets the one true outcome"


class Failed(Protocol):
    """A command that Kafka did not acknowledge."""

    @property
    def place(self) -> int:
        """Among those that went with it, from 0."""
        ...


class Delivered(Protocol):
    """What became of commands that went to Kafka together."""

    @property
    def offsets(self) -> Mapping[int, int]:
        """The highest one by partition."""
        ...

    @property
    def failures(self) -> Sequence[Failed]:
        """Those that may be missing."""
        ...


class CommandLog(Protocol):
    """inventory.commands, for who writes it."""

    async def deliver(self, updates: Sequence[Record], /) -> Delivered:
        """Returns once the outcome of each is known; raises Retriable where none was sent."""
        ...


class Desk:
    """Asks the writers.

    Args:
        view: that is answered from.
        commands: started and stopped by the caller.
        wait_ms: how long a call may wait for its outcome.
    """

    def __init__(self, view: View, commands: CommandLog, wait_ms: int) -> None:
        self.view = view
        self._commands = commands
        self._wait_s = wait_ms / 1_000

    def hold_command(self, asked: Asked, key: str) -> Record:
        """The command of a call that reserves."""
        [first, *more] = asked.lines
        sku = NO_SKU if more else first.sku
        own_id = ids.reservation_id(sku, key)
        one = {} if more else {"quantity": first.quantity, "location_id": first.location, "supplier_id": first.supplier}
        return _command(self.view.clock.now_ms()) | {
            "command_id": own_id,
            "action": HOLD,
            "reservation_id": own_id,
            "order_id": asked.order_id,
            "sku": sku,
            "channel": asked.channel,
            "preferred_locations": asked.preferred,
            "allow_partial": asked.allow_partial,
            "expires_in_ms": asked.expires_in_s * 1_000,
            "if_version": asked.version(self.view.generation),
            "fingerprint": asked.fingerprint,
            "lines": _lines(asked.lines) if more else [],
            **one,
        }

    def change_command(self, action: str, named: tuple[str, str], key: str, asked: Change) -> Record:
        """The command of a call on a reservation, which is named by SKU, `NO_SKU` if it has several, and id."""
        sku, own_id = named
        return _command(self.view.clock.now_ms()) | {
            "command_id": ids.command_id(action, key),
            "action": action,
            "reservation_id": own_id,
            "sku": sku,
            "quantity": asked.quantity,
            "location_id": asked.location,
            "expires_in_ms": asked.expires_in_s * 1_000,
            "lines": _lines(asked.lines),
            "to_location": asked.to_location,
        }

    async def decided(self, command: Record) -> Hold | None:
        """The hold of one command once that is decided, None if there is none.

        Raises:
            Retriable: that is not known in time.
        """
        [hold] = await self.all_decided([command])
        if isinstance(hold, Retriable):
            raise hold
        return hold

    async def all_decided(self, commands: Sequence[Record]) -> list[Hold | Retriable | None]:
        """Of each command what `decided` gives, or would raise; they go together, and are waited for at once.

        Raises:
            Retriable: of none is anything known.
        """
        give_up_s = asyncio.get_running_loop().time() + self._wait_s
        try:
            async with asyncio.timeout_at(give_up_s):
                delivered = await self._commands.deliver(commands)
        except TimeoutError:
            raise self._late("Kafka did not take it") from None
        except Retriable as why:
            raise Retriable(f"{why}; {SAME_KEY}", why.retry_after_s) from why
        left_s = max(0.0, give_up_s - asyncio.get_running_loop().time())
        behind: set[int] = set()
        if delivered.offsets and not await self.view.passed(COMMANDS, delivered.offsets, left_s):
            behind = {p for p, o in delivered.offsets.items() if self.view.next_offset(COMMANDS.name, p) <= o}
        failed = {failure.place for failure in delivered.failures}
        holds = self._holds(commands, failed, behind)
        for place, (command, hold) in enumerate(zip(commands, holds, strict=True)):
            if isinstance(hold, Hold) and hold.waits_for(command["command_id"]):
                holds[place] = await self._answered(command, give_up_s)
        return holds

    async def _answered(self, command: Record, give_up_s: float) -> Hold | Retriable | None:
        """A reservation of several SKUs, once its lines have answered: that comes as steps of its partition."""
        partition = partition_of(command["reservation_id"].encode(), len(self.view.partitions))
        while True:
            at = self.view.next_offset(RESERVATION_STEPS.name, partition)  # before the look, so that none is missed
            [hold] = self._holds([command], set(), set())
            if not isinstance(hold, Hold) or not hold.waits_for(command["command_id"]):
                return hold
            left_s = max(0.0, give_up_s - asyncio.get_running_loop().time())
            if not await self.view.passed(RESERVATION_STEPS, {partition: at}, left_s):
                return self._late("not all lines are decided")

    def _holds(self, commands: Sequence[Record], failed: set[int], behind: set[int]) -> list[Hold | Retriable | None]:
        found: list[Hold | Retriable | None] = []
        places: list[int] = []
        for place, command in enumerate(commands):
            if place in failed:
                found.append(self._late("Kafka did not acknowledge it"))
            elif behind and partition_of(home(command).encode(), len(self.view.partitions)) in behind:
                found.append(self._late("it is not decided yet"))
            else:
                found.append(None)
                places.append(place)
        try:
            names = [(commands[place]["sku"], commands[place]["reservation_id"]) for place in places]
            for place, hold in zip(places, self.view.served.holds(names), strict=True):
                found[place] = hold
        except Retriable as why:
            raise Retriable(f"{why}; {SAME_KEY}", why.retry_after_s) from why
        return found

    def _late(self, what: str) -> Retriable:
        return Retriable(f"{what} within {self._wait_s:g} s; {SAME_KEY}")


def _lines(asked: Sequence[AskedLine]) -> list[Record]:
    return [
        {"sku": each.sku, "quantity": each.quantity, "location_id": each.location, "supplier_id": each.supplier}
        for each in asked
    ]


def _command(now_ms: int) -> Record:
    """What most commands leave as it is."""
    command = Command(
        command_id="", action="", reservation_id="", order_id=None, sku="", quantity=0, location_id=None,
        channel=DEFAULT_CHANNEL, received_at=now_ms, supplier_id=None, preferred_locations=[], allow_partial=False,
        expires_in_ms=1, if_version=None, fingerprint="", coordinated=False, lines=[], to_location=None, answer=None,
    )  # fmt: skip
    return cast("Record", command)
