"""Whether a supplier is asked at all: one that is down is left alone, but for one feed at a time that tries.

A breaker belongs to a supplier, not to a feed: what is down is its server, and each feed that finds that out by itself
is another request at it. It opens when the latest poll of every feed has failed; one feed that is answered keeps it
closed, so a feed with a fault of its own (a wrong path, a right that it lacks) stops no other one.

Pure: time and chance are given, and it only says when. Each process has its own, as with budgets. Made by `supervisor`,
used by `feed`.
"""

from __future__ import annotations

import asyncio
import math
from enum import StrEnum
from random import Random

from stockweave.world import Clock

FAILURES_MIN = 5  # in a row, of all feeds together: fewer may be chance
PAUSE_S, PAUSE_S_MAX = 10.0, 120.0  # before the first try, and before the later ones; half of it is drawn


class State(StrEnum):
    """Closed: all may ask. Open: none may. Half-open: one feed is asking, and the others wait for what comes of it."""

    CLOSED = "CLOSED"
    HALF_OPEN = "HALF_OPEN"
    OPEN = "OPEN"


class Breaker:
    """Of one supplier.

    Args:
        clock: of the pauses.
        rng: draws their jitter.
    """

    def __init__(self, clock: Clock, rng: Random) -> None:
        self._clock = clock
        self._rng = rng
        self._has_failed: dict[str, bool] = {}
        """Of each feed whether its latest poll has; one that has not polled yet has not."""
        self._failures = 0
        self._tries = 0
        self._until_s = -math.inf
        self._trying: str | None = None
        self.state = State.CLOSED
        self.changed = asyncio.Event()
        """Set when the state becomes another one; the next change has an event of its own."""

    def join(self, feed: str) -> None:
        """A feed begins."""
        self._has_failed.setdefault(feed, False)

    def leave(self, feed: str) -> None:
        """A feed ends; if it was trying, another one may at once."""
        self._has_failed.pop(feed, None)
        self._give_up(feed, 0.0)

    def wait_s(self, feed: str) -> float:
        """0: it may ask now, and has to say what came of it; infinity: not before the state has changed."""
        if self.state is State.CLOSED or self._trying == feed:
            return 0.0
        if self.state is State.HALF_OPEN:
            return math.inf
        wait_s = self._until_s - self._clock.monotonic_s()
        if wait_s > 0:
            return wait_s
        self._trying = feed
        self._become(State.HALF_OPEN)
        return 0.0

    def answered(self, feed: str) -> None:
        """The supplier has, if only with the beginning of a document: all may ask again."""
        self._has_failed[feed] = False
        self._failures = self._tries = 0
        self._trying = None
        self._become(State.CLOSED)

    def failed(self, feed: str, at_least_s: float) -> None:
        """The supplier did not answer a feed, or with a failure. `at_least_s`: how long it wants to be left alone."""
        self._has_failed[feed] = True
        self._failures += 1
        if self.state is State.CLOSED:
            is_down = self._failures >= FAILURES_MIN and all(self._has_failed.values())
        else:
            is_down = self._trying == feed  # another one may have asked before it opened, which is no news
        if is_down:
            pause_s: float = min(PAUSE_S * 2 ** min(self._tries, 30), PAUSE_S_MAX) * self._rng.uniform(0.5, 1.0)
            self._until_s = self._clock.monotonic_s() + max(at_least_s, pause_s)
            self._tries += 1
            self._trying = None
            self._become(State.OPEN)

    def no_verdict(self, feed: str) -> None:
        """What a feed tried was ended by something that is no fault of the supplier's: it is tried again soon."""
        self._give_up(feed, PAUSE_S)

    def _give_up(self, feed: str, pause_s: float) -> None:
        if self._trying == feed:
            self._trying = None
            self._until_s = self._clock.monotonic_s() + pause_s
            self._become(State.OPEN)

    def _become(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self.changed.set()
            self.changed = asyncio.Event()
