"""Ends the keeping of holds: those that were over long ago are removed, with the records of their orders.

Invariant: no more is gone than the position record of the same transaction says may be, and nothing that may still
change. Partitions are gone through at a bounded rate, so that commands and updates never wait for it. Used by the
processor, on its thread, and by `streams.batch`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from msgspec.structs import replace

from inventory.reservations.facts import keys_of
from schemas.keys import hold_key
from schemas.rows import Position
from stockweave import metrics
from stockweave.world import Clock
from streams.restore import Assigned
from streams.sweep import Past

IDLE_S, BUSY_S = 0.125, 0.5  # between two steps


class Forgetting:
    """Of the partitions of one worker.

    Args:
        retention_ms: how long a hold is kept after its end.
        clock: the machine's.
    """

    def __init__(self, retention_ms: int, clock: Clock) -> None:
        self._retention_ms = retention_ms
        self._clock = clock
        self._next_s = 0.0
        self._turn = 0

    def look(self, ready: Mapping[int, Assigned], *, idle: bool) -> dict[int, Past]:
        """Take one step, if it is time for one; what may be forgotten, by partition.

        Args:
            ready: the partitions that are served.
            idle: whether there is nothing else to do.
        """
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
        if now_s >= self._next_s:
            self._next_s = now_s + (IDLE_S if idle else BUSY_S)
            self._step(ready, now_ms)
        found: dict[int, Past] = {}
        for number, assigned in ready.items():
            if assigned.sweep.found and assigned.may_decide:
                past = assigned.sweep.past(assigned.store, _decision_ms(assigned, now_ms), self._retention_ms)
                if past is not None:
                    found[number] = past
        return found

    def settled(self, assigned: Assigned, past: Past | None) -> None:
        """A transaction has dealt with what `look` found."""
        if past is not None:
            assigned.sweep.settled()
            metrics.HOLDS_FORGOTTEN.inc(len(past.holds))

    def _step(self, ready: Mapping[int, Assigned], now_ms: int) -> None:
        """Of one partition, each in its turn; a fact that its rows do not have yet may be of a hold that is past."""
        due = [a for a in ready.values() if a.may_decide and a.sweep.is_due(_decision_ms(a, now_ms))]
        if due:
            self._turn += 1
            assigned = due[self._turn % len(due)]
            assigned.sweep.step(assigned.store, _decision_ms(assigned, now_ms), self._retention_ms)


def _decision_ms(assigned: Assigned, now_ms: int) -> int:
    return max(now_ms, assigned.position.decided_at)


def forgotten(past: Past, touched: Container[bytes], position: Position) -> tuple[list[bytes], Position]:
    """The keys of what is removed, and the position that says so.

    Args:
        past: what may be.
        touched: keys that the same transaction writes; they are left for another time.
        position: as it would be without this.
    """
    removed: list[bytes] = []
    ended = [position.forgotten_to]
    for hold in past.holds:
        if hold_key(hold.sku, hold.reservation_id) not in touched:
            removed += keys_of(hold)
            ended.append(hold.ended_at or 0)
    decided_at = max(position.decided_at, past.now_ms)  # this was decided by that clock, which never goes back
    return removed, replace(position, forgotten_to=max(ended), decided_at=decided_at)
