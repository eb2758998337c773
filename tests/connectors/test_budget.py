"""What a supplier lets us ask of it, by a clock that stands until somebody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from connectors.budget import RESET_S_MAX, Budget, Limits

NOW_S = 1_790_000_000


class WaitedFor:
    """A clock that goes on only as far as somebody sleeps."""

    def __init__(self) -> None:
        self.s = 0.0

    def now_ms(self) -> int:
        return int((NOW_S + self.s) * 1_000)

    def monotonic_s(self) -> float:
        return self.s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[WaitedFor]:
    waited, sleep = WaitedFor(), asyncio.sleep

    async def instead(seconds: float) -> None:
        waited.s += seconds
        await sleep(0)

    with monkeypatch.context() as patch:
        patch.setattr("connectors.budget.asyncio.sleep", instead)
        yield waited


async def asked(budget: Budget, clock: WaitedFor, times: int) -> list[float]:
    """When each request began."""
    began = []
    for _ in range(times):
        async with budget.request():
            began.append(round(clock.s, 6))
    return began


async def test_a_burst_goes_at_once_and_the_rest_at_the_rate(clock: WaitedFor) -> None:
    budget = Budget(Limits(requests_per_s=4, burst=3), clock)
    assert await asked(budget, clock, 6) == [0, 0, 0, 0.25, 0.5, 0.75]
    clock.s += 100
    assert await asked(budget, clock, 4) == [100.75, 100.75, 100.75, 101], "a rest earns no more than a burst"


@pytest.mark.parametrize(
    ("status", "headers", "waits_s"),
    [
        (429, {"Retry-After": "7"}, 7),
        (503, {"Retry-After": "Mon, 21 Sep 2026 14:13:30 GMT"}, 10),
        (429, {"Retry-After": "Mon, 21 Sep 2026 20:13:30 GMT", "Date": "Mon, 21 Sep 2026 20:13:20 GMT"}, 10),
        (429, {"Retry-After": "Mon, 21 Sep 2026 08:13:30 GMT", "Date": "Mon, 21 Sep 2026 08:13:20 GMT"}, 10),
        (429, {"X-RateLimit-Reset": str(NOW_S + 21_605), "Date": "Mon, 21 Sep 2026 20:13:20 GMT"}, 5),
        (429, {"X-RateLimit-Reset": "3"}, 3),
        (429, {"X-RateLimit-Reset": str(NOW_S + 5)}, 5),
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2"}, 2),
        (200, {"RateLimit-Remaining": "0", "RateLimit-Reset": "4"}, 4),
        (429, {"Retry-After": "1e9"}, RESET_S_MAX),
        (200, {"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "2"}, None),
        (200, {"Retry-After": "7"}, None),
        (429, {"Retry-After": "soon"}, None),
        (429, {"Retry-After": "nan"}, None),
        (429, {"Retry-After": "Mon, 01 Jan 99999 00:00:00 GMT"}, None),
        (429, {}, None),
    ],
)
async def test_what_an_answer_says_of_limits_is_kept_to(
    clock: WaitedFor, status: int, headers: dict[str, str], waits_s: float | None
) -> None:
    budget = Budget(Limits(), clock)
    assert budget.learn(status, headers) == waits_s
    assert await asked(budget, clock, 1) == [waits_s or 0]


async def test_no_more_are_under_way_than_may_be(clock: WaitedFor) -> None:
    budget, under_way, most = Budget(Limits(at_once=3, burst=100), clock), 0, 0
    go = asyncio.Event()

    async def one() -> None:
        nonlocal under_way, most
        async with budget.request():
            under_way, most = under_way + 1, max(most, under_way + 1)
            await go.wait()
            under_way -= 1

    tasks = [asyncio.create_task(one()) for _ in range(10)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert under_way == 3
    go.set()
    await asyncio.gather(*tasks)
    assert most == 3
