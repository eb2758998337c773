"""What a supplier lets us ask of it: so many requests a second, so many at once; learnt from its answers as well.

A token bucket per supplier, shared by its feeds, which one process runs (`schemas.keys.feed_partition`), and by nobody
else, so a slow supplier makes no other one wait. What
an answer says of its limits (`Retry-After`, `X-RateLimit-*`, `RateLimit-*`) holds before what the configuration does.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated

from pydantic import Field

from connectors.options import Options
from stockweave.world import Clock

RESET_S_MAX = 3_600.0  # a supplier that names a later time is asked again by then
EPOCH_S_MIN = 1_000_000_000  # a reset beyond it is a time, and not a duration


class Limits(Options):
    """Of one supplier. `requests_per_s`: on average; `burst`: without a wait, after a rest; `at_once`: under way."""

    requests_per_s: Annotated[float, Field(gt=0, le=10_000)] = 10.0
    burst: Annotated[int, Field(ge=1, le=10_000)] = 10
    at_once: Annotated[int, Field(ge=1, le=1_000)] = 4


class Budget:
    """One supplier's requests.

    Args:
        limits: by its configuration.
        clock: of the tokens.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._under_way = asyncio.Semaphore(limits.at_once)
        self._turn = asyncio.Lock()  # first come, first served
        self._tokens = float(limits.burst)
        self._counted_s = clock.monotonic_s()
        self._closed_until_s = -math.inf

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Around one request: waits for its turn."""
        async with self._under_way:
            async with self._turn:
                while (wait_s := self._wait_s()) > 0:  # noqa: ASYNC110 - it is a time that is waited for
                    await asyncio.sleep(wait_s)
                self._tokens -= 1
            yield

    def _wait_s(self) -> float:
        """Until the next token; takes those that came since it was last asked."""
        now_s = self._clock.monotonic_s()
        earned = (now_s - self._counted_s) * self._limits.requests_per_s
        self._tokens = min(self._tokens + earned, float(self._limits.burst))
        self._counted_s = now_s
        missing_s = (1 - self._tokens) / self._limits.requests_per_s
        return max(self._closed_until_s - now_s, missing_s)

    def learn(self, status: int, headers: Mapping[str, str]) -> float | None:
        """What an answer says of limits; seconds until the next request if it wants us to wait.

        Args:
            status: of HTTP.
            headers: by name, whatever their case.
        """
        wait_s = self._told_wait_s(headers)
        remaining = _number(headers.get("X-RateLimit-Remaining") or headers.get("RateLimit-Remaining"))
        if wait_s is None or not (status in (429, 503) or remaining == 0):
            return None
        self.pause(wait_s)
        return wait_s

    def pause(self, seconds: float) -> None:
        """No request for so long."""
        self._closed_until_s = max(self._closed_until_s, self._clock.monotonic_s() + seconds)

    def _told_wait_s(self, headers: Mapping[str, str]) -> float | None:
        said_s = moment_s(headers.get("Date", ""))  # a time that they name is one of their clock, hours off or not
        now_s = self._clock.now_ms() / 1_000 if said_s is None else said_s
        after = headers.get("Retry-After")
        if after is not None:
            seconds = _number(after)
            if seconds is None and (at_s := moment_s(after)) is not None:
                seconds = at_s - now_s
        else:
            seconds = _number(headers.get("X-RateLimit-Reset") or headers.get("RateLimit-Reset"))
            if seconds is not None and seconds > EPOCH_S_MIN:
                seconds -= now_s
        return None if seconds is None else min(max(seconds, 0.0), RESET_S_MAX)


def moment_s(text: str) -> float | None:
    """Of a date of HTTP, in s since the epoch; None if it is none, or of a year that no calendar has."""
    try:
        at = email.utils.parsedate_tz(text)
        return None if at is None else float(email.utils.mktime_tz(at))
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        number = math.nan if text is None else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
