"""Requests that wait until a partition's view has passed an offset: woken by the follower, never polling.

Of any topic that the rows are made of: reads wait for updates, and commands on reservations for their decision. All
methods but `any` are called on the event loop. A waiter is entered before its condition is looked at, and the follower
moves the position before it looks for waiters, so none is missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Awaited(NamedTuple):
    """What one future waits for. `topic`: by its catalogue name."""

    topic: str
    offset: int


class Waiters:
    """Who waits for which partition.

    Args:
        next_offset: of a topic and a partition: the first offset that the view has not passed.
    """

    def __init__(self, next_offset: Callable[[str, int], int]) -> None:
        self._next_offset = next_offset
        self._waiting: dict[int, dict[asyncio.Future[None], Awaited]] = {}

    def any(self, partition: int) -> bool:
        """Whether anybody waits; from any thread."""
        return bool(self._waiting.get(partition))

    def wake(self, partition: int) -> None:
        """Let those go whose offset was passed; O(waiters of the partition)."""
        waiting = self._waiting.get(partition)
        if not waiting:
            return
        passed = {topic: self._next_offset(topic, partition) for topic in {each.topic for each in waiting.values()}}
        for future, (topic, offset) in waiting.items():
            if offset < passed[topic] and not future.done():
                future.set_result(None)

    async def wait(self, topic: str, offsets: Mapping[int, int], timeout_s: float) -> bool:
        """Whether the view passed each offset of a topic within `timeout_s`."""
        if all(offset < self._next_offset(topic, partition) for partition, offset in offsets.items()):
            return True
        loop = asyncio.get_running_loop()
        futures: dict[asyncio.Future[None], int] = {}
        try:
            for partition, offset in offsets.items():
                future = loop.create_future()
                futures[future] = partition
                self._waiting.setdefault(partition, {})[future] = Awaited(topic, offset)
            for partition in offsets:
                self.wake(partition)
            _, pending = await asyncio.wait(futures, timeout=timeout_s)
            return not pending
        finally:
            for future, partition in futures.items():
                del self._waiting[partition][future]
