"""Many clients that post over HTTP/1.1, each on a connection of its own, with as little work as can be.

The machine is shared with what is measured, so the load may not cost more than it tells: a request is bytes that are
made beforehand, of an answer only status and length are read.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from stockweave.errors import Fatal

Body = tuple[bytes, bytes]
"""Header lines beside the usual, each with its end, and the body."""


def request(host: str, path: str, headers: bytes, body: bytes) -> bytes:
    """One POST of JSON."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n".encode()
        + headers
        + b"\r\n"
        + body
    )


class _Connection(asyncio.Protocol):
    """One request at a time; `answered` is called with the status and the whole answer."""

    def __init__(self, answered: Callable[[_Connection, int, bytes], None]) -> None:
        self.sent_at_s = 0.0
        self._answered = answered
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to send."""
        self._transport = transport  # type: ignore[assignment]

    def send(self, payload: bytes, due_s: float | None = None) -> None:
        """Send one request; its time counts from `due_s` on."""
        self.sent_at_s = time.perf_counter() if due_s is None else due_s
        assert self._transport is not None
        self._transport.write(payload)

    def data_received(self, data: bytes) -> None:
        """Part of an answer."""
        self._buffer = data if not self._buffer else self._buffer + data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 : (head.find(b"\r\n", at) if head.find(b"\r\n", at) > 0 else end)])
        if len(self._buffer) >= end + 4 + length:
            answer, self._buffer = self._buffer[end + 4 : end + 4 + length], b""
            self._answered(self, int(head[9:12]), answer)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


class Clients:
    """A number of clients of one path.

    `seconds`: of each answer; `statuses`: how many there were.

    Args:
        url: of the service.
        path: posted to.
        bodies: what is sent, one after another.
        count: of connections.
    """

    def __init__(self, url: str, path: str, bodies: Iterator[Body], count: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._path, self._bodies, self._count = path, bodies, count
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()
        self._counting = False

    async def closed_loop(self, warm_up_s: float, seconds: float) -> float:
        """Each sends as soon as it was answered; answers per second after the warm-up."""
        connections = await self._connect(self._again)
        for connection in connections:
            connection.send(self._next())
        await asyncio.sleep(warm_up_s)
        self.seconds, self.statuses, self._counting = [], Counter(), True
        began_s = time.perf_counter()
        await asyncio.sleep(seconds)
        self._counting = False
        took_s = time.perf_counter() - began_s
        for connection in connections:
            connection.close()
        return len(self.seconds) / took_s

    async def open_loop(self, rate: float, warm_up_s: float, seconds: float) -> None:
        """They are sent when they are due, whether others were answered or not; times count from when they were due."""
        free: list[_Connection] = []
        waiting: list[float] = []

        def answered(connection: _Connection, status: int, answer: bytes) -> None:
            self._note(connection, status)
            if waiting:
                connection.send(self._next(), waiting.pop(0))
            else:
                free.append(connection)

        connections = await self._connect(answered)
        free.extend(connections)
        began_s = time.perf_counter()
        for n in range(int(rate * (warm_up_s + seconds))):
            due_s = began_s + n / rate
            if (left_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(left_s)
            self._counting = due_s >= began_s + warm_up_s
            if free:
                free.pop().send(self._next(), due_s)
            else:
                waiting.append(due_s)
        deadline_s = time.perf_counter() + 30
        while len(free) < self._count:
            if time.perf_counter() > deadline_s:
                raise Fatal(f"{self._count - len(free)} requests were not answered within 30 s")
            await asyncio.sleep(0.01)
        for connection in connections:
            connection.close()

    async def _connect(self, answered: Callable[[_Connection, int, bytes], None]) -> list[_Connection]:
        loop = asyncio.get_running_loop()
        made = []
        for _ in range(self._count):
            _, connection = await loop.create_connection(lambda: _Connection(answered), self._host, self._port)
            made.append(connection)
        return made

    def _again(self, connection: _Connection, status: int, _: bytes) -> None:
        self._note(connection, status)
        connection.send(self._next())

    def _note(self, connection: _Connection, status: int) -> None:
        if self._counting:
            self.seconds.append(time.perf_counter() - connection.sent_at_s)
            self.statuses[status] += 1

    def _next(self) -> bytes:
        headers, body = next(self._bodies)
        return request(self._host, self._path, headers, body)
