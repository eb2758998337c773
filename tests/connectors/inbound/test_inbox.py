"""The inbox on a real Kafka: everything to its own, in order, and never more in memory than allowed."""

from __future__ import annotations

import asyncio
import time

import pytest

from connectors.inbound import inbox as inbox_module
from connectors.inbound.inbox import Box, Inbox
from schemas.admin import Deployed
from schemas.keys import partition_of
from schemas.topics import RECEIVED
from tests.connectors.running import Running

MESSAGES = 60


def neighbours(topic: Deployed, count: int) -> list[str]:
    """Feeds of one partition."""
    names = (f"acme/f{number}" for number in range(1_000))
    return [name for name in names if partition_of(name.encode(), topic.partitions) == 0][:count]


def produce(running: Running, topic: Deployed, feeds: list[str], messages: int = MESSAGES) -> None:
    """In turns; the value tells the feed and the number."""
    for number in range(messages):
        for feed in feeds:
            running.deployment.producer.produce(topic.name, f"{feed} {number}".encode(), feed.encode())
    assert running.deployment.producer.flush(30) == 0


async def waiting(box: Box, count: int) -> list[bytes]:
    """Wait until so many wait, and give them."""
    give_up_s = time.monotonic() + 30
    while len(box._waiting) < count:
        assert time.monotonic() < give_up_s, len(box._waiting)
        await asyncio.sleep(0.01)
    return [received.body for received in box._waiting]


async def drained(box: Box, count: int) -> list[bytes]:
    """Take so many, one by one, as they come."""
    taken: list[bytes] = []
    async with asyncio.timeout(60):
        while len(taken) < count:
            await box.wait()
            received = box.first()
            assert received is not None
            assert len(box._waiting) <= inbox_module.BOX_MESSAGES_MAX
            taken.append(received.body)
            box.take()
    return taken


async def test_a_box_that_is_full_gets_the_rest_later_and_the_others_do_not_wait_for_it(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "BOX_MESSAGES_MAX", 4)
    monkeypatch.setattr(inbox_module, "MESSAGES_AT_ONCE", 5)  # so that a step back for the full one would show
    topic = running.deployment.topics[RECEIVED.name]
    slow, quick, silent = neighbours(topic, 3)
    produce(running, topic, [slow, quick])
    inbox = Inbox(running.deployment.bootstrap_servers, topic)
    try:
        boxes = {feed: inbox.open(feed, 0) for feed in (slow, quick, silent)}
        assert await drained(boxes[quick], MESSAGES) == [f"{quick} {n}".encode() for n in range(MESSAGES)]
        assert len(await waiting(boxes[slow], 4)) == 4
        produce(running, topic, [quick], 1)
        assert await drained(boxes[quick], 1) == [f"{quick} 0".encode()]
        assert len(boxes[slow]._waiting) == 4
        assert await drained(boxes[slow], MESSAGES) == [f"{slow} {n}".encode() for n in range(MESSAGES)]
        assert boxes[silent].first() is None
    finally:
        await inbox.stop()


async def test_what_is_large_fills_a_box_by_its_bytes(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "BOX_BYTES_MAX", 30)
    topic = running.deployment.topics[RECEIVED.name]
    [feed] = neighbours(topic, 1)
    produce(running, topic, [feed], 10)
    inbox = Inbox(running.deployment.bootstrap_servers, topic)
    try:
        box = inbox.open(feed, 0)
        first = await waiting(box, 1)
        await asyncio.sleep(0.5)
        assert 1 <= len(box._waiting) <= 1 + 30 // len(first[0])
        assert len(await drained(box, 10)) == 10
    finally:
        await inbox.stop()


async def test_a_box_that_is_opened_late_begins_where_it_wants_and_the_others_get_nothing_twice(
    running: Running,
) -> None:
    topic = running.deployment.topics[RECEIVED.name]
    first, second = neighbours(topic, 2)
    produce(running, topic, [first, second])
    inbox = Inbox(running.deployment.bootstrap_servers, topic)
    try:
        early = inbox.open(first, 0)
        assert len(await waiting(early, MESSAGES)) == MESSAGES
        late = inbox.open(second, MESSAGES)  # of twice as many
        assert await waiting(late, MESSAGES // 2) == [f"{second} {n}".encode() for n in range(MESSAGES // 2, MESSAGES)]
        produce(running, topic, [first, second], 1)
        assert len(await waiting(late, MESSAGES // 2 + 1)) == MESSAGES // 2 + 1
        assert len(await waiting(early, MESSAGES + 1)) == MESSAGES + 1
        inbox.close(early)
        produce(running, topic, [first, second], 1)
        assert len(await waiting(late, MESSAGES // 2 + 2)) == MESSAGES // 2 + 2
        assert len(early._waiting) == MESSAGES + 1
    finally:
        await inbox.stop()


async def test_an_offset_that_is_not_there_any_more_or_not_yet_is_no_end(running: Running) -> None:
    topic = running.deployment.topics[RECEIVED.name]
    [feed] = neighbours(topic, 1)
    produce(running, topic, [feed], 2)
    inbox = Inbox(running.deployment.bootstrap_servers, topic)
    try:
        box = inbox.open(feed, 2)
        await asyncio.sleep(0.3)
        produce(running, topic, [feed], 1)
        assert await waiting(box, 1) == [f"{feed} 0".encode()]
    finally:
        await inbox.stop()
