"""When to look at the holds of a partition: a queue in memory, made of its store when the partition becomes ready.

A hold lapses, or lines of a reservation were asked and are silent. It only says which holds to look at: what ends a
hold is a fact, decided with the hold as it is then. So a hold that was committed or extended meanwhile is looked at for
nothing, and one that is looked at twice ends once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from schemas.reservations import decode_hold


class Expiries:
    """Of one partition.

    Args:
        holds: key and value of each hold in its store.
    """

    def __init__(self, holds: Iterable[tuple[bytes, bytes]]) -> None:
        self._queue: list[tuple[int, bytes]] = []
        for key, value in holds:
            at = decode_hold(value).look_at
            if at is not None:
                self._queue.append((at, key))
        heapq.heapify(self._queue)

    def due(self, now_ms: int, holds_max: int) -> list[tuple[int, bytes]]:
        """The holds to look at now, the first one first; they stay until they are `settled`."""
        found: list[tuple[int, bytes]] = []
        while self._queue and self._queue[0][0] <= now_ms and len(found) < holds_max:
            found.append(heapq.heappop(self._queue))
        for entry in found:
            heapq.heappush(self._queue, entry)
        return found

    def settled(self, looked_at: Iterable[tuple[int, bytes]], to_look_at: Iterable[tuple[int, bytes]]) -> None:
        """A transaction has dealt with those that were `due`, and made others: time in ms, key."""
        for entry in sorted(looked_at):
            if self._queue and self._queue[0] == entry:
                heapq.heappop(self._queue)
        for entry in to_look_at:
            heapq.heappush(self._queue, entry)

    def __len__(self) -> int:
        return len(self._queue)
