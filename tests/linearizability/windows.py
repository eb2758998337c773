"""A window: the whole life of a hot SKU, from its first count to the last look at each of its reservations.

So no state is carried from one window into another, and none is guessed: a SKU begins with nothing, and when its calls
are made it is never used again. Its end is read through one process, after that has answered a call which came after
all others, so that it has seen them all.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp

from schemas.reservations import HELD
from tests.linearizability import history
from tests.linearizability.calls import RESERVE, Answer, Asked, Caller, Door
from tests.linearizability.history import Look, Read, Stocked

SUPPLIER = "acme"
SHORT_S = (1, 3)  # of reservations that are held for a moment only
LONG_S = 14_400  # of the others: they do not lapse within a run
MORE_THAN_THERE_IS = 10**9
CALLER = 0  # the client of what is no shopper's
READ_S = 300.0
RECENT = 40  # reservations that are worked on at a time: few, so that clients meet
READERS = 8


@dataclass
class Window:
    """One SKU.

    Attributes:
        sku: that nothing had before.
        caller: makes the calls.
        calls_max: about so many; `full` is set then.
        units: to begin with.
        made: calls, the last ones, to be repeated.
        recent: reservations to be changed, with the state that was told last.
        orders: of each reservation that was told, by id.
    """

    sku: str
    caller: Caller
    calls_max: int
    units: int
    made: deque[Asked] = field(default_factory=lambda: deque(maxlen=300))
    recent: dict[str, str] = field(default_factory=dict)
    orders: dict[str, str] = field(default_factory=dict)
    full: asyncio.Event = field(default_factory=asyncio.Event)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _calls: int = 0
    _under_way: int = 0
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)
    _unheard: list[str] = field(default_factory=list)
    _observed_ms: int = 0

    def new(self, what: str) -> str:
        """A name that nothing else has."""
        return f"{self.sku}-{what}-{next(self.numbers)}"

    async def open(self) -> None:
        """Let it have its first count."""
        self.caller.records.append(history.clock())  # by which times of UTC are understood here
        await self._tell("COUNT", self.units)

    async def supply(self, units: int) -> None:
        """Let units come, or go."""
        await self._tell("DELTA", units)

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """A call is made within the block."""
        self._calls += 1
        self._under_way += 1
        if self._calls >= self.calls_max:
            self.full.set()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()

    async def call(self, client: int, asked: Asked, door: Door | None = None) -> Answer | None:
        """A call, after which its reservation is known here."""
        answer = await self.caller.call(client, asked, door=door)
        self.made.append(asked)
        if asked.action == RESERVE:
            if answer is None:
                self._unheard.append(asked.order)
            elif answer.status == HTTPStatus.CREATED:
                own_id = answer.told["reservation_id"]
                if own_id not in self.orders:
                    self.recent[own_id] = HELD
                    if len(self.recent) > RECENT:
                        del self.recent[next(iter(self.recent))]
                self.orders[own_id] = asked.order
        return answer

    async def look(self, own_id: str, door: Door) -> None:
        """Read a reservation while others change it; what cannot be read now is not."""
        called = history.now()
        try:
            status, told = await self.caller.get(door, f"/api/v1/reservations/{own_id}")
        except (aiohttp.ClientError, TimeoutError):
            return
        if status == HTTPStatus.OK:
            self.caller.records.append(
                Read(sku=self.sku, api=door.name, reservation=own_id, called=called, returned=history.now(), told=told)
            )

    async def close(self) -> None:
        """Once nobody is in it any more and what is held for a moment only has lapsed: read how all of it ended."""
        self.full.set()
        while self._under_way:
            self._quiet.clear()
            await self._quiet.wait()
        await asyncio.sleep(SHORT_S[1] + 0.5)
        deadline_s = time.monotonic() + READ_S
        while (looks := await self._looks()) is None:
            assert time.monotonic() < deadline_s, f"{self.sku} could not be read within {READ_S:.0f} s"
        self.caller.records += looks

    async def last_call(self, caller: Caller, door: Door | None = None) -> tuple[Door, int]:
        """Ask for what cannot be had: who answered, and when it was sent. That process has seen all that came before.

        Args:
            caller: records it.
            door: that has to answer; any, if None.
        """
        while True:
            order = self.new("nobody")
            asked = Asked(self.sku, RESERVE, self.new("last"), order, "", MORE_THAN_THERE_IS, expires_s=LONG_S)
            answer = await caller.call(CALLER, asked, door=door, until_known=True)
            assert answer is not None, "it is never given up"
            assert answer.told["code"] == "SOLD_OUT", answer
            if door in (None, answer.door):
                return answer.door, answer.called

    async def _looks(self) -> list[Look] | None:
        """None if a process ended meanwhile, or could not be reached."""
        door, called = await self.last_call(self.caller)
        names = iter([*self.orders.items(), *(("", order) for order in dict.fromkeys(self._unheard))])
        looks: list[Look] = []
        complete = True

        async def reader() -> None:
            nonlocal complete
            for own_id, order in names:
                try:
                    looks.extend(await self._look(door, called, own_id, order))
                except (aiohttp.ClientError, TimeoutError):
                    complete = False
                    return

        await asyncio.gather(*(reader() for _ in range(READERS)))
        return looks if complete else None

    async def _look(self, door: Door, called: int, own_id: str, order: str) -> list[Look]:
        """At a reservation that is known, or at what an order has that nothing was heard of."""
        if not own_id:
            listed = await self._read(door, "/api/v1/reservations", order_id=order)
            found = [each["reservation_id"] for each in listed["reservations"]]
            assert len(found) <= 1, (order, found)
            if not found:
                return [self._seen(door, called, order, "", history.now(), None)]
            if found[0] in self.orders:
                return []
            own_id = found[0]
        asked = history.now()
        told = await self._read(door, f"/api/v1/reservations/{own_id}")
        return [self._seen(door, called, order, own_id, asked, told)]

    async def _read(self, door: Door, path: str, **params: str) -> dict[str, Any]:
        status, told = await self.caller.get(door, path, **params)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise aiohttp.ClientError(f"{path}: {status}")
        assert status == HTTPStatus.OK, (path, status, told)
        return told

    def _seen(self, door: Door, called: int, order: str, own_id: str, asked: int, told: dict[str, Any] | None) -> Look:
        return Look(
            sku=self.sku,
            api=door.name,
            order=order,
            reservation=own_id,
            called=called,
            asked=asked,
            returned=history.now(),
            told=told,
        )

    async def _tell(self, kind: str, units: int) -> None:
        """From the supplier, who repeats it until it is taken, and who then waits for a read that shows it."""
        self._observed_ms = max(self._observed_ms + 1, time.time_ns() // 1_000_000)
        update = {
            "sku": self.sku,
            "kind": kind,
            "quantity": units,
            "timestamp": self._observed_ms,
            "updateId": self.new("update"),
        }
        called, deadline_s = history.now(), time.monotonic() + READ_S
        token = None
        while True:
            door = self.caller.rng.choice(self.caller.doors)
            try:
                if token is None:
                    token = await self._publish(door, update)
                if token is not None and await self._shows(door, token):
                    break
            except (aiohttp.ClientError, TimeoutError):
                pass  # what became of it is not known, so it is said again: the update's id is the same
            assert time.monotonic() < deadline_s, f"an update of {self.sku} is not visible after {READ_S:.0f} s"
            await asyncio.sleep(0.2)
        self.caller.records.append(Stocked(sku=self.sku, units=units, called=called, returned=history.now()))

    async def _publish(self, door: Door, update: dict[str, Any]) -> str | None:
        url = f"{door.url}/api/v1/suppliers/{SUPPLIER}/inventory-update"
        async with self.caller.http.post(url, json=update, timeout=aiohttp.ClientTimeout(total=15)) as answer:
            if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
                return None
            assert answer.status == HTTPStatus.ACCEPTED, (answer.status, await answer.text())
            return str((await answer.json())["token"])

    async def _shows(self, door: Door, token: str) -> bool:
        status, told = await self.caller.get(door, "/api/v1/inventory", sku=self.sku, min_offset=token)
        assert status in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE), (status, told)
        return status == HTTPStatus.OK
