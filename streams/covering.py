"""Looks for the holds that have to come from another source, since theirs has less than is held of it.

A SKU is noted when its row says so; its holds are then gone through a few at a time, so that commands and updates never
wait for it. It only says which holds to look at: what is moved is decided with rows and holds as they are then, and a
row that is short after that is noted again. Used by `streams.chores`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import takewhile

from inventory.reservations.reallocation import Shortage, Turn, may_move, turn
from schemas.keys import hold_key
from schemas.reservations import decode_hold
from schemas.rows import Position
from state.store import PartitionStore
from streams.alerts import Alerts

HOLDS_MAX = 1_000  # looked at in one step: about a millisecond
MOVED_MAX = 200  # in one batch


class Covering:
    """Of one partition.

    `found`: keys of holds, in the order in which they are moved; nothing else is looked for until they are settled.
    """

    def __init__(self) -> None:
        self.found: list[bytes] = []
        self._noted: dict[bytes, None] = {}  # in the order in which they are looked at
        self._lacks: Shortage | None = None  # of the SKU that is looked at; None: none is
        self._prefix = self._after = b""  # of its holds
        self._best: list[tuple[Turn, bytes]] = []

    @property
    def is_searching(self) -> bool:
        """Whether there is anything to look at."""
        return not self.found and (bool(self._noted) or self._lacks is not None)

    def note(self, short: Iterable[bytes]) -> None:
        """The keys of rows some source of which has less than is held of it."""
        self._noted |= dict.fromkeys(short)

    def step(self, store: PartitionStore, alerts: Alerts, position: Position) -> None:
        """Look at the next holds."""
        lacks = self._lacks = self._lacks or self._begin(store, alerts, position)
        if lacks is None:
            return
        items = store.some_holds(self._after, HOLDS_MAX)
        of_sku = list(takewhile(lambda item: item[0].startswith(self._prefix), items))
        holds = ((key, decode_hold(value)) for key, value in of_sku)
        movable = [(turn(hold), key) for key, hold in holds if may_move(hold, lacks)]
        self._best = heapq.nsmallest(MOVED_MAX, self._best + movable)
        if len(of_sku) == HOLDS_MAX:
            self._after = of_sku[-1][0]
            return
        self.found, self._best, self._lacks = [key for _, key in self._best], [], None

    def settled(self) -> None:
        """A transaction has dealt with what was found."""
        self.found = []

    def _begin(self, store: PartitionStore, alerts: Alerts, position: Position) -> Shortage | None:
        """What the next SKU lacks; None if nothing of it can be had."""
        key = next(iter(self._noted))
        del self._noted[key]
        row = store.get(key)
        lacks = None if row is None else alerts.shortage(row, position)
        if lacks is not None:
            store.write_back()  # what comes later is noted again, if it changes anything
            self._prefix = self._after = hold_key(key.decode(), "")
        return lacks
