"""What goes wrong with a supplier over HTTP, request by request, as a seed has it. Used by the servers beside it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from enum import StrEnum
from random import Random
from typing import NamedTuple, Self

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
WAIT_S = 0.05  # as a server wants it


class Fault(StrEnum):
    """What becomes of one request.

    `throttled`: 429 with `Retry-After`; `broken`: 500; `hangs`: no answer; `truncated`: half of the body, then the
    connection is closed; `duplicate`: the page before once more; `reordered`: this page and the next change places;
    `expired`: the token that was given out holds no longer; `refused`: an answer whose body tells of an error, where
    the protocol has that.
    """

    THROTTLED = "throttled"
    BROKEN = "broken"
    HANGS = "hangs"
    TRUNCATED = "truncated"
    DUPLICATE = "duplicate"
    REORDERED = "reordered"
    EXPIRED = "expired"
    REFUSED = "refused"


AT_HAND: ContextVar[Fault | None] = ContextVar("AT_HAND", default=None)
"""Of the request that is handled: for those faults that its handler has to make itself."""


class Seen(NamedTuple):
    """A request that came."""

    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: bytes


def planned(seed: int, requests: int, share: float, kinds: Iterable[Fault] = tuple(Fault)) -> list[Fault | None]:
    """One entry a request; a `share` of them faults.

    Args:
        seed: the same one, the same plan.
        requests: how many entries; all later requests are answered well.
        share: from 0 to 1.
        kinds: to draw from.
    """
    rng = Random(seed)  # noqa: S311 - repeatable on purpose
    some = tuple(kinds)
    return [rng.choice(some) if rng.random() < share else None for _ in range(requests)]


class Faults:
    """Stands before a server's own handlers.

    Args:
        plan: of the requests to come, in their order.
        at_most: requests within a window of `window_s`; 0: any number. Its answers tell by `X-RateLimit-*`.
        window_s: how long a window is.
    """

    def __init__(self, plan: Iterable[Fault | None] = (), at_most: int = 0, window_s: float = WAIT_S) -> None:
        self.plan = deque(plan)
        self.at_most = at_most
        self.window_s = window_s
        self.seen: list[Seen] = []
        self.too_early = 0
        """Requests that came before the time that an answer had named."""
        self.hanging = asyncio.Event()
        """Set once a request hangs."""
        self._not_before_s = 0.0
        self._window_s = 0.0
        self._in_window = 0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let go of the requests that hang."""
        self._stopping.set()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Around every request."""
        self.seen.append(Seen(request.path, dict(request.query), dict(request.headers), await request.read()))
        now_s = time.monotonic()
        if now_s < self._not_before_s:
            self.too_early += 1
        fault = self.plan.popleft() if self.plan else None
        AT_HAND.set(fault)
        if fault == Fault.THROTTLED:
            self._not_before_s = now_s + WAIT_S
            return web.Response(status=429, headers={"Retry-After": str(WAIT_S)})
        if fault == Fault.BROKEN:
            return web.Response(status=500, text="it broke")
        if fault == Fault.HANGS:
            self.hanging.set()
            await self._stopping.wait()
        answer = await handler(request)
        if fault == Fault.TRUNCATED and isinstance(answer, web.Response) and isinstance(answer.body, bytes):
            return await _half(request, answer.body)
        self._limit(answer, now_s)
        return answer

    def _limit(self, answer: web.StreamResponse, now_s: float) -> None:
        if not self.at_most:
            return
        if now_s >= self._window_s:
            self._window_s, self._in_window = now_s + self.window_s, 0
        self._in_window += 1
        remaining = max(0, self.at_most - self._in_window)
        answer.headers["X-RateLimit-Remaining"] = str(remaining)
        answer.headers["X-RateLimit-Reset"] = str(max(0.0, self._window_s - time.monotonic()))
        if remaining == 0:
            self._not_before_s = self._window_s


async def _half(request: web.Request, body: bytes) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": str(len(body))})
    await answer.prepare(request)
    await answer.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return answer


class Served:
    """An application at a free port of this machine; `async with` starts and stops it. `context`: of TLS."""

    def __init__(self, app: web.Application, faults: Faults, context: ssl.SSLContext | None = None) -> None:
        self.faults = faults
        self._context = context
        self.origin = ""
        """Its address, without a path."""
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.origin = f"{'http' if self._context is None else 'https'}://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.faults.stop()
        await self._runner.cleanup()
