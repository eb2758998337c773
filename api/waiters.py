"""Reads that wait until a partition's view has passed an offset: woken by the follower, never polling.

All methods but `any` are called on the event loop. A waiter is entered before its condition is looked at, and the
follower moves the position before it looks for waiters, so none is missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping


class Waiters:
    """Who waits for which partition.

    Args:
        next_update: by partition, the first offset of inventory.updates that the view has not passed.
    """

    def __init__(self, next_update: Callable[[int], int]) -> None:
        self._next_update = next_update
        self._waiting: dict[int, dict[asyncio.Future[None], int]] = {}

    def any(self, partition: int) -> bool:
        """Whether anybody waits; from any thread."""
        return bool(self._waiting.get(partition))

    def wake(self, partition: int) -> None:
        """Let those go whose offset was passed; O(waiters of the partition)."""
        waiting = self._waiting.get(partition)
        if not waiting:
            return
        next_update = self._next_update(partition)
        for future, offset in waiting.items():
            if offset < next_update and not future.done():
                future.set_result(None)

    async def wait(self, offsets: Mapping[int, int], timeout_s: float) -> bool:
        """Whether the view passed each offset within `timeout_s`."""
        if all(offset < self._next_update(partition) for partition, offset in offsets.items()):
            return True
        loop = asyncio.get_running_loop()
        futures: dict[asyncio.Future[None], int] = {}
        try:
            for partition, offset in offsets.items():
                future = loop.create_future()
                futures[future] = partition
                self._waiting.setdefault(partition, {})[future] = offset
            for partition in offsets:
                self.wake(partition)
            _, pending = await asyncio.wait(futures, timeout=timeout_s)
            return not pending
        finally:
            for future, partition in futures.items():
                del self._waiting[partition][future]
