"""A round through the holds of one partition, a few at a time, for those that were over long ago.

It only says which holds to look at: what is forgotten is decided with the hold as it is then. A round that leaves
nothing to do soon rests until there is. Used by `streams.forgetting`.
"""

from __future__ import annotations

from typing import NamedTuple

from inventory.reservations.retention import forgotten_to, is_past
from schemas.reservations import Hold, decode_hold
from state.store import PartitionStore

HOLDS_MAX = 1_000  # looked at in one step: about a millisecond
ROUNDS = 100  # in the time that a hold is kept, at the most: so much later it may be forgotten


class Past(NamedTuple):
    """Holds that may be forgotten, by the decision clock `now_ms`."""

    holds: list[Hold]
    now_ms: int


class Sweep:
    """Where the round through the holds of one partition is.

    `found`: keys of holds that were past when they were looked at; nothing else is looked for until they are settled.
    """

    def __init__(self) -> None:
        self.found: list[bytes] = []
        self._after: bytes | None = None  # None: between two rounds
        self._next_ms = 0  # when the next round may begin, of the decision clock
        self._began_ms = 0
        self._first_ended_ms = 0  # of those that stay

    def is_due(self, now_ms: int) -> bool:
        """Whether there is anything to look at."""
        return not self.found and (self._after is not None or now_ms >= self._next_ms)

    def step(self, store: PartitionStore, now_ms: int, retention_ms: int) -> None:
        """Look at the next holds."""
        if self._after is None:
            self._began_ms = self._first_ended_ms = now_ms  # what ends from now on ends later
        items = store.some_holds(self._after, HOLDS_MAX)
        for key, value in items:
            hold = decode_hold(value)
            if is_past(hold, forgotten_to(now_ms, retention_ms)):
                self.found.append(key)
            elif hold.ended_at is not None and hold.ended_at < self._first_ended_ms:
                self._first_ended_ms = hold.ended_at
        self._after = items[-1][0] if len(items) == HOLDS_MAX else None
        if self._after is None:
            self._next_ms = max(self._first_ended_ms + retention_ms, self._began_ms + retention_ms // ROUNDS)

    def past(self, store: PartitionStore, now_ms: int, retention_ms: int) -> Past | None:
        """What was found, as it is now."""
        holds = [decode_hold(value) for value in store.get_many(self.found) if value is not None]
        past = [hold for hold in holds if is_past(hold, forgotten_to(now_ms, retention_ms))]
        if past:
            return Past(past, now_ms)
        self.found = []  # the disk had it otherwise than it is
        return None

    def settled(self) -> None:
        """A transaction has dealt with what was found."""
        self.found = []
