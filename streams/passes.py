"""Looks through rows that no batch changes, for those that time or a policy has taken into another alert state.

A pass over all rows of a partition begins when the partition becomes ready, after each change of policies, and again
and again while time may change a number. It takes some hundred rows at a time, and not often, so that updates and
commands have the processor; a look that finds nothing leads to no batch. What it finds is evaluated in a batch like any
other, and is found again until that one is committed. Used by the processor, on its thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from inventory.alerts import TIMED, WITH_OVERSOLD
from schemas import keys
from schemas.rows import Position, decode_packed_row
from state.store import PartitionStore
from stockweave import metrics
from stockweave.world import Clock
from streams.alerts import Alerts

ROWS_MAX = 500  # of one look
BYTES_MAX = 2 << 20  # of one look: a row may have megabytes
EVERY_S = 0.1  # between two looks, of whichever partitions
PAUSE_S = 5.0  # between two passes, where time alone may change a number


class Pass:
    """Over the rows of one partition.

    Attributes:
        timed: whether time alone may change some row, as far as was seen.
        short: keys of rows that say that some source has less than is held of it, until somebody takes them.
    """

    def __init__(self) -> None:
        self.timed = False
        self.short: list[bytes] = []
        self._next: bytes | None = None  # where the pass goes on; None: there is none
        self._after: bytes | None = None  # and where it does once what was found is committed
        self._revision = -1  # of the policies when it began
        self._again_s = 0.0

    def is_due(self, alerts: Alerts, store: PartitionStore, now_s: float) -> bool:
        """Whether there is something to look at; a pass begins here."""
        if self._next is not None:
            return True
        if self._revision == alerts.revision and not (now_s >= self._again_s and (self.timed or alerts.time_matters)):
            return False
        store.write_back()  # so that there is one order of all; what comes later is evaluated as it comes
        self._next, self._revision = keys.ROW_FIRST, alerts.revision
        self._again_s, self.timed = now_s + PAUSE_S, False
        return True

    def look(self, alerts: Alerts, store: PartitionStore, position: Position, rows_max: int) -> list[bytes]:
        """The keys of rows that have crossed, among the next few; they are found again until that is `committed`."""
        if self._next is None:
            return []
        page = store.some_rows(self._next, rows_max, BYTES_MAX)
        metrics.ROWS_LOOKED_AT.inc(len(page))
        found = []
        for key, value in page:
            row = decode_packed_row(value)
            self.timed = self.timed or bool(row.alert & TIMED)
            if row.alert & WITH_OVERSOLD:
                self.short.append(key)
            if alerts.has_crossed(key, row, position):
                found.append(key)
        self._after = page[-1][0] + b"\0" if page else None
        if not found:
            self._next = self._after
        return found

    def committed(self, found: Sequence[bytes], *, timed: bool) -> None:
        """A transaction has dealt with what was found. `timed`: time alone may change a row of it."""
        self.timed = self.timed or timed
        if found:
            self._next = self._after


class Served(Protocol):
    """What a pass needs to know of a partition: `streams.restore.Assigned`."""

    rows_pass: Pass
    store: PartitionStore

    @property
    def position(self) -> Position:
        """How far it is folded."""


class Passes:
    """Of all partitions of a worker: one look at a time, at each in turn.

    Args:
        alerts: of the worker.
        clock: of the pace.
    """

    def __init__(self, alerts: Alerts, clock: Clock) -> None:
        self._alerts = alerts
        self._clock = clock
        self._last = -1
        self._next_s = 0.0
        self.rows_max = ROWS_MAX

    def found(self, ready: Mapping[int, Served]) -> dict[int, list[bytes]]:
        """The keys of rows that have crossed, by partition; empty if it is no time for a look, or for nothing found."""
        now_s = self._clock.monotonic_s()
        if now_s < self._next_s:
            return {}
        for number in sorted(ready, key=lambda number: (number <= self._last, number)):
            served = ready[number]
            if served.rows_pass.is_due(self._alerts, served.store, now_s):
                self._last, self._next_s = number, now_s + EVERY_S
                keys_found = served.rows_pass.look(self._alerts, served.store, served.position, self.rows_max)
                return {number: keys_found} if keys_found else {}
        return {}
