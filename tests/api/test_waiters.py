"""Who waits is let go by the offset of its own topic, and by nothing else."""

from __future__ import annotations

import asyncio

from api.waiters import Waiters


async def test_each_waits_for_the_offset_of_its_own_topic() -> None:
    passed = {"updates": 5, "commands": 0}
    waiters = Waiters(lambda topic, _: passed[topic])
    assert await waiters.wait("updates", {0: 4}, 0)
    of_commands = asyncio.create_task(waiters.wait("commands", {0: 0}, 10))
    of_updates = asyncio.create_task(waiters.wait("updates", {0: 7}, 10))
    await asyncio.sleep(0.01)
    passed["updates"] = 8
    waiters.wake(0)
    assert await of_updates
    assert not of_commands.done()
    passed["commands"] = 1
    waiters.wake(0)
    assert await of_commands
    assert not waiters.any(0)


async def test_who_waits_for_too_long_is_told_so_and_forgotten() -> None:
    waiters = Waiters(lambda *_: 0)
    assert not await waiters.wait("commands", {0: 0, 1: 0}, 0.01)
    assert not waiters.any(0)
    assert not waiters.any(1)
