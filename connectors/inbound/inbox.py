"""Reads inventory.received for the feeds of this process: one consumer for all, and a box for each feed.

Invariant: a box gets every message of its feed from its offset on, in their order. A box that is full gets no more and
keeps the others waiting for nothing: the reader goes on without it, and goes back once there is room. So memory is
bounded, however much waits. The thread alone uses the consumer; the boxes are shared under one lock. Made by `process`,
used by `webhook`.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import NamedTuple, NoReturn, cast

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from connectors.reader_thread import ReaderThread
from schemas.admin import Deployed
from schemas.keys import partition_of
from stockweave.clients import CLIENT_LOGGER, Config, reading_config
from stockweave.errors import Fatal

log = structlog.get_logger(__name__)

RECEIVED_AT, CONTENT_TYPE, DELIVERY_ID = "received_at", "content_type", "delivery_id"
"""Headers of a message; the first in ms since the epoch, as text."""

BOX_BYTES_MAX = 4 << 20
BOX_MESSAGES_MAX = 200
POLL_S = 0.1
MESSAGES_AT_ONCE = 500
FATAL = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION)


class Received(NamedTuple):
    """A body that came. `received_at`: in ms since the epoch; `delivery_id`: the supplier's, None if it gives none."""

    offset: int
    received_at: int
    delivery_id: str | None
    body: bytes


class Box:
    """What came for one feed. Made by `Inbox.open`; for the loop, but for what begins with an underscore."""

    def __init__(self, feed: str, partition: int, offset: int, lock: threading.Lock) -> None:
        self.feed = feed
        self.partition = partition
        self._lock = lock
        self._position = offset  # what the reader is to look at next for it
        self._waiting: deque[Received] = deque()
        self._bytes = 0
        self._is_full = False
        self._came = asyncio.Event()

    async def wait(self) -> None:
        """Until there is something."""
        while not self._waiting:
            self._came.clear()
            await self._came.wait()

    def first(self) -> Received | None:
        """What waits for the longest time; it stays until `take`."""
        return self._waiting[0] if self._waiting else None

    def take(self) -> None:
        """The first is done with."""
        with self._lock:
            self._waiting.popleft()
            if not self._waiting:  # and not before: each way back costs the reader a fetch
                self._bytes, self._is_full = 0, False

    def _put(self, received: Received) -> None:
        self._waiting.append(received)
        self._bytes += len(received.body)
        self._is_full = self._bytes >= BOX_BYTES_MAX or len(self._waiting) >= BOX_MESSAGES_MAX


class Inbox:
    """All boxes of a process.

    Args:
        bootstrap_servers: of its Kafka.
        topic: inventory.received as deployed.
    """

    def __init__(self, bootstrap_servers: str, topic: Deployed) -> None:
        self.topic = topic
        self._servers = bootstrap_servers
        self._lock = threading.Lock()
        self._boxes: dict[str, Box] = {}
        self._thread = ReaderThread("inbox", topic.name, self._read)
        self._loop = asyncio.get_running_loop()

    def partition(self, feed: str) -> int:
        """Where a feed's messages are."""
        return partition_of(feed.encode(), self.topic.partitions)

    def open(self, feed: str, offset: int) -> Box:
        """A box for a feed, from an offset on; `close` ends it."""
        box = Box(feed, self.partition(feed), offset, self._lock)
        with self._lock:
            self._boxes[feed] = box
        self._thread.start()
        return box

    def close(self, box: Box) -> None:
        """The feed wants no more."""
        with self._lock:
            if self._boxes.get(box.feed) is box:
                del self._boxes[box.feed]

    async def stop(self) -> None:
        """Leave Kafka. The feeds have stopped before."""
        await self._thread.stop()

    async def watch(self) -> NoReturn:
        """Raises `Fatal` when nothing will come any more."""
        await self._thread.watch()

    def _read(self, stopping: threading.Event) -> None:
        consumer = Consumer(_config(self._servers, self.topic.name), logger=CLIENT_LOGGER)
        at: dict[int, int] = {}  # of each partition that is read, what comes next
        try:
            while not stopping.is_set():
                self._aim(consumer, at)
                messages = consumer.consume(1, POLL_S)
                if messages:
                    messages += consumer.consume(MESSAGES_AT_ONCE, 0)
                    self._share(messages, at)
        finally:
            consumer.close()

    def _aim(self, consumer: Consumer, at: dict[int, int]) -> None:
        """Read each partition from where the furthest behind of those boxes is that have room."""
        wanted: dict[int, int] = {}
        with self._lock:
            for box in self._boxes.values():
                if not box._is_full:
                    wanted[box.partition] = min(box._position, wanted.get(box.partition, box._position))
        moved = {number: offset for number, offset in wanted.items() if at.get(number) != offset}
        left = [number for number in at if number not in wanted or number in moved]
        if left:
            consumer.incremental_unassign([TopicPartition(self.topic.name, number) for number in left])
        if moved:
            consumer.incremental_assign([TopicPartition(self.topic.name, n, offset) for n, offset in moved.items()])
        at.clear()
        at.update(wanted)

    def _share(self, messages: list[Message], at: dict[int, int]) -> None:
        told: set[Box] = set()
        with self._lock:
            for message in messages:
                if (error := message.error()) is not None:
                    if error.fatal() or error.code() in FATAL:
                        raise Fatal(f"{self.topic.name} cannot be read: {error.str()}; grant the right to it")
                    continue  # the client tries again, and its logger tells
                number, offset = cast("int", message.partition()), cast("int", message.offset())
                at[number] = offset + 1
                feed = (message.key() or b"").decode(errors="replace")
                for box in self._boxes.values():
                    if box.partition == number and not box._is_full and box._position <= offset:
                        box._position = offset + 1
                        if box.feed == feed:
                            box._put(_received(message, offset))
                            told.add(box)
        for box in told:
            self._loop.call_soon_threadsafe(box._came.set)


def _received(message: Message, offset: int) -> Received:
    headers = dict(cast("list[tuple[str, bytes]]", message.headers() or []))
    told_at, named = headers.get(RECEIVED_AT) or b"", headers.get(DELIVERY_ID)
    received_at = int(told_at) if told_at.isdigit() else message.timestamp()[1]
    delivery_id = None if named is None else named.decode(errors="replace")
    return Received(offset, received_at, delivery_id, message.value() or b"")


def _config(bootstrap_servers: str, topic: str) -> Config:
    return reading_config(bootstrap_servers, f"stockweave-{topic}") | {
        "enable.partition.eof": False,
        "auto.offset.reset": "earliest",  # what was kept for its time and not read
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 16 << 10,
    }
