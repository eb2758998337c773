"""The HTTP client of the demo: one call that waits out a service that is away, and says when it gives up.

Invariant: a call ends with an answer that settles it, or with one of the three errors. Repeating a push is safe, as
update ids make a repeat a duplicate. Used by `feed` and `check`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import orjson

from stockweave.errors import Fatal, Rejected, Retriable

Answer = dict[str, Any]
_Result = TypeVar("_Result")
_TRY_AGAIN = {429, 502, 503, 504}
_WAIT_S_MAX = 10
_ANSWER_S_MAX = 120  # a push that has no answer by then is sent again


class Client:
    """A keep-alive session on one service; `async with` closes it.

    Args:
        url: the service, as `http://127.0.0.1:8080`.
        connections: at most so many at a time.
        patience_s: how long one call is tried while the service is away or busy, in seconds.
    """

    def __init__(self, url: str, connections: int, patience_s: float = 120) -> None:
        self.url = url.rstrip("/")
        self.patience_s = patience_s
        self.tried_again = 0
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=_ANSWER_S_MAX),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str, params: Mapping[str, str]) -> tuple[int, Answer]:
        """Status (200 or 404) and body. Raises `Retriable` when patience ends, `Rejected` for another 4xx."""

        async def once() -> tuple[int, Answer]:
            status, raw = await self._once("GET", path, params=params)
            return status, self._json(path, raw)

        return await self._settled(once)

    async def post_ndjson(self, path: str, body: bytes) -> Answer:
        """The result of a batch that leaves no line in doubt; `body` is sent again until there is one."""

        async def once() -> Answer:
            answer = self._json(path, (await self._once("POST", path, body=body))[1])
            if answer.get("inDoubt"):
                raise Retriable(f"POST {path}: {answer['inDoubt']} lines are in doubt")
            return answer

        return await self._settled(once)

    async def ready(self) -> None:
        """Returns once `/readyz` says so. Raises `Retriable` at once when nothing listens there."""
        try:
            await self._once("GET", "/healthz")
        except Retriable as e:
            raise Retriable(
                f"no service answers at {self.url} ({e}): start one with `stockweave up`, or name it with --url"
            ) from e
        await self._settled(lambda: self._once("GET", "/readyz"))

    async def _settled(self, once: Callable[[], Awaitable[_Result]]) -> _Result:
        give_up_at = time.monotonic() + self.patience_s
        while True:
            try:
                return await once()
            except Retriable as e:
                if time.monotonic() + e.retry_after_s > give_up_at:
                    raise Retriable(
                        f"{self.url} did not serve a call for {self.patience_s:.0f} s ({e}): "
                        "see what it logs, then run the command again"
                    ) from e
                self.tried_again += 1
                await asyncio.sleep(e.retry_after_s)

    async def _once(
        self, method: str, path: str, params: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, bytes]:
        headers = None if body is None else {"Content-Type": "application/x-ndjson"}
        try:
            async with self._session.request(
                method, self.url + path, params=params, data=body, headers=headers
            ) as response:
                raw, status = await response.read(), response.status
                retry_after = response.headers.get("Retry-After", "1")
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as e:
            raise Retriable(f"{method} {path}: {e or type(e).__name__}") from e
        if status in _TRY_AGAIN:
            wait_s = int(retry_after) if retry_after.isdigit() else 1
            raise Retriable(f"{method} {path}: {status} {_detail(raw)}", min(wait_s, _WAIT_S_MAX))
        if status >= 400 and not (method == "GET" and status == 404):
            raise Rejected("call_refused", f"{method} {self.url}{path} was answered {status}: {_detail(raw)}")
        return status, raw

    def _json(self, path: str, raw: bytes) -> Answer:
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError as e:
            raise Fatal(f"{self.url}{path}: the answer is not JSON ({e}): name a Stockweave service with --url") from e
        return answer if isinstance(answer, dict) else {}


def _detail(raw: bytes) -> str:
    """The answer in one line, for a message."""
    return " ".join(raw[:300].decode("utf-8", "replace").split())
