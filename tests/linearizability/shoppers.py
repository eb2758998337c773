"""Clients that reserve, commit, release, fulfil and extend on a few hot SKUs, several on one reservation at once.

What they do is drawn: reserve, in full or in part, for a moment or for long; change what others made; repeat what was
asked before with its key, also by another process and at the same time; use a key for something else; read.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

from tests.linearizability.calls import RESERVE, Asked, Caller
from tests.linearizability.windows import LONG_S, SHORT_S, Window

SLOTS, CLIENTS = 3, 48  # SKUs that are hot at a time, and clients of all of them
UNITS = 40  # of a SKU to begin with: soon sold out
SUPPLY_S = (0.3, 1.2)
LEAST_S = 0.02  # between two calls of a client
CHANGES = {
    "HELD": {"commit": 42, "release": 34, "fulfil": 10, "extend": 14},
    "COMMITTED": {"fulfil": 56, "release": 30, "commit": 8, "extend": 6},
}
ENDED = 0.7  # of reservations that are over are not changed again
SHORT = 0.15  # of reservations are held for a moment only
WITHOUT_KEY = 0.04
LOOKED_AT = 0.2  # of changes: at once, by any process


class Shoppers:
    """Some clients. `windows`: all that were opened; `enough`: is set once so many calls were made.

    Args:
        caller: makes their calls.
        calls_max: of a window.
        calls_enough: of all.
        seed: draws what they do.
    """

    def __init__(self, caller: Caller, calls_max: int, calls_enough: int, seed: int) -> None:
        self.caller = caller
        self.windows: list[Window] = []
        self.stopping = asyncio.Event()
        self.enough = asyncio.Event()
        self._calls = 0
        self._calls_enough = calls_enough
        self._calls_max = calls_max
        self._rng = random.Random(seed)
        self._open: list[Window | None] = [None] * SLOTS
        self._doing: list[tuple[Callable[[int, Window], Awaitable[int]], int]] = [
            (self._reserve, 40),
            (self._change, 40),
            (self._repeat, 6),
            (self._twice, 3),
            (self._conflict, 2),
            (self._read, 9),
        ]

    async def run(self) -> None:
        """Until told to stop; then every window is closed."""
        async with asyncio.TaskGroup() as group:
            for slot in range(SLOTS):
                group.create_task(self._keep(slot))
            for client in range(1, CLIENTS + 1):
                group.create_task(self._shop(client))

    async def _keep(self, slot: int) -> None:
        """One hot SKU after the other; a next one is hot while the last one is read."""
        async with asyncio.TaskGroup() as group:
            while not self.stopping.is_set():
                window = Window(f"hot-{len(self.windows) + 1:03}", self.caller, self._calls_max, UNITS)
                self.windows.append(window)
                await window.open()
                self._open[slot] = window
                await self._supply(window)
                self._open[slot] = None
                group.create_task(window.close())

    async def _supply(self, window: Window) -> None:
        """Units come and go until the window is full, about as many as are sold."""
        while not (window.full.is_set() or self.stopping.is_set()):
            async with window.entered():
                units = self._rng.randint(4, 24) if self._rng.random() < 0.8 else -self._rng.randint(1, 5)
                await window.supply(units)
            try:
                async with asyncio.timeout(self._rng.uniform(*SUPPLY_S)):
                    await window.full.wait()
            except TimeoutError:
                continue

    async def _shop(self, client: int) -> None:
        actions, weights = zip(*self._doing, strict=True)
        while not self.stopping.is_set():
            await asyncio.sleep(self._rng.uniform(0, 2 * LEAST_S))
            window = self._open[client % SLOTS]
            if window is None or window.full.is_set():
                continue
            [action] = self._rng.choices(actions, weights)
            async with window.entered():
                calls = await action(client, window)
            self._calls += calls
            if self._calls >= self._calls_enough:
                self.enough.set()

    # -- what a client does; each returns how many calls on the SKU that was

    async def _reserve(self, client: int, window: Window) -> int:
        await window.call(client, self._new(window))
        return 1

    def _new(self, window: Window) -> Asked:
        rng = self._rng
        return Asked(
            window.sku,
            RESERVE,
            "" if rng.random() < WITHOUT_KEY else window.new("key"),
            window.new("order"),
            quantity=rng.choice((1, 1, 1, 2, 2, 3, 5, 8)),
            partial=rng.random() < 0.25,
            expires_s=rng.randint(*SHORT_S) if rng.random() < SHORT else LONG_S,
            full=rng.random() < 0.5,
        )

    async def _change(self, client: int, window: Window) -> int:
        if not window.recent:
            return await self._reserve(client, window)
        rng = self._rng
        own_id = rng.choice(list(window.recent))
        likely = CHANGES.get(window.recent[own_id], CHANGES["COMMITTED"])
        [action] = rng.choices(list(likely), list(likely.values()))
        quantity = rng.randint(1, 3) if action in ("release", "fulfil") and rng.random() < 0.4 else 0
        key = "" if rng.random() < WITHOUT_KEY else window.new("key")
        expires_s = LONG_S if action == "extend" else 0
        asked = Asked(window.sku, action, key, "", own_id, quantity, expires_s=expires_s)
        answer = await window.call(client, asked)
        state = None if answer is None else answer.told.get("state")
        if state is not None and own_id in window.recent:
            window.recent[own_id] = state
            if state not in CHANGES and rng.random() < ENDED:
                del window.recent[own_id]
        if rng.random() < LOOKED_AT:
            await window.look(own_id, rng.choice(self.caller.doors))
        return 1

    async def _repeat(self, client: int, window: Window) -> int:
        """What anybody asked before, perhaps long ago, by any process."""
        asked = [each for each in window.made if each.key]
        if not asked:
            return 0
        await window.call(client, self._rng.choice(asked))
        return 1

    async def _twice(self, client: int, window: Window) -> int:
        """The same call at the same time by all processes, as a double click does."""
        asked = self._new(window)
        if not asked.key:
            return 0
        await asyncio.gather(*(window.call(client, asked, door) for door in self.caller.doors))
        return len(self.caller.doors)

    async def _conflict(self, client: int, window: Window) -> int:
        """A key that was used, or is used just now, with another quantity."""
        asked = [each for each in window.made if each.key and each.quantity]
        if not asked:
            return 0
        one = self._rng.choice(asked)
        await window.call(client, replace(one, quantity=one.quantity + 1))
        return 1

    async def _read(self, _client: int, window: Window) -> int:
        """A reservation, by any process; no call that is counted."""
        if window.recent:
            await window.look(self._rng.choice(list(window.recent)), self._rng.choice(self.caller.doors))
        return 0
