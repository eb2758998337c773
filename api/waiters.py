"""Requests that wait until a partition's view has passed an offset: woken by the follower, never polling.

Of any topic that the rows are made of: reads wait for updates, and commands on reservations for their decision. All
methods but `any` are called on the event loop. A waiter is entered before its condition is looked at, and the follower
moves the position before it looks for waiters, so none is missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
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
        self._waiting: dict[int, dict[asyncio.Future[bool], Awaited]] = {}

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
                future.set_result(True)

    async def wait(self, topic: str, offsets: Mapping[int, int], timeout_s: float) -> bool:
        """Whether the view passed each offset of a topic within `timeout_s`."""
        if all(offset < self._next_offset(topic, partition) for partition, offset in offsets.items()):
            return True
        loop = asyncio.get_running_loop()
        futures: dict[asyncio.Future[bool], int] = {}
        try:
            for partition, offset in offsets.items():
                future = loop.create_future()
                futures[future] = partition
                self._waiting.setdefault(partition, {})[future] = Awaited(topic, offset)
            for partition in offsets:
                self.wake(partition)
            late = loop.call_later(timeout_s, _give_up, futures)  # cheaper than a wait, which every reservation takes
            try:
                return all([await future for future in futures])
            finally:
                late.cancel()
        finally:
            for future, partition in futures.items():
                del self._waiting[partition][future]


def _give_up(futures: Iterable[asyncio.Future[bool]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(False)
