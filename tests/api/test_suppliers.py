"""Suppliers' health: what connectors told of their feeds, as of now, and what became of what was pushed."""

from __future__ import annotations

import asyncio
from typing import Any

from schemas.feed_health import HOUR_MS, MARK, FeedHealth, Hour, encode
from schemas.keys import partition_of
from schemas.topics import FEEDS
from stockweave.clients import send_all
from stockweave.world import SystemClock
from tests.api.stock import WAIT_S, Reader, Stock, row

ROOT = "/api/v1/suppliers"


def tell(stock: Stock, feed: str, health: FeedHealth | None) -> None:
    """As connectors do, beside their other records."""
    topic = stock.topics[FEEDS.name]
    records = [(feed, b"{}"), (f"{feed}{MARK}", b"" if health is None else encode(health))]
    send_all(stock.bootstrap_servers, topic.name, records, partition_of(feed.encode(), topic.partitions))


def health(feed: str, age_ms: int = 0, **counts: int) -> FeedHealth:
    now_ms = SystemClock().now_ms()
    hours = [Hour(hour=now_ms // HOUR_MS, **counts)]
    return FeedHealth(feed=feed, expected_ms=60_000, polled_at=now_ms - age_ms, at_ms=now_ms - age_ms, hours=hours)


async def until(reader: Reader, path: str, status: int, is_so: Any = lambda _: True) -> Any:
    """The answer, once it is there."""
    async with asyncio.timeout(WAIT_S):
        while True:
            async with reader.client.get(path) as response:
                answer = await response.json(content_type=None)
                if response.status == status and is_so(answer):
                    return answer
            await asyncio.sleep(0.02)


async def test_each_feed_has_its_numbers_and_its_score_and_the_worst_is_the_suppliers(stock: Stock) -> None:
    tell(stock, "acme/stock", health("acme/stock", polls=90, rows=990, rejected=99, documents=9, lag_ms=9 * 1_000))
    tell(stock, "acme/prices", health("acme/prices", polls=90, failures=30))
    async with Reader(stock) as reader:
        answer = await until(reader, f"{ROOT}/acme/health", 200)
        prices, feed = answer["feeds"]
        assert (prices["feed"], feed["feed"]) == ("acme/prices", "acme/stock")
        assert answer["score"] == prices["score"]["value"] < feed["score"]["value"]
        assert feed["score"] | {"value": 0} == {
            "value": 0, "answered": 0.99, "accepted": 0.9, "consistent": 0.999, "timely": 1.0, "fresh": 1.0
        }  # fmt: skip
        assert (feed["rows"], feed["rejected"], feed["lag_ms"]) == (990, 99, 1_000)
        assert prices["lag_ms"] is None
        listed = (await reader.get(ROOT))["suppliers"]
        assert listed == [{"supplierId": "acme", "score": answer["score"], "feeds": 2}]


async def test_what_is_told_later_is_followed_and_a_feed_that_is_no_more_is_gone(stock: Stock) -> None:
    async with Reader(stock) as reader:
        await until(reader, f"{ROOT}/acme/health", 404)
        tell(stock, "acme/stock", health("acme/stock", polls=1))
        await until(reader, f"{ROOT}/acme/health", 200)
        tell(stock, "acme/stock", health("acme/stock", polls=7))
        await until(reader, f"{ROOT}/acme/health", 200, lambda answer: answer["feeds"][0]["polls"] == 7)
        tell(stock, "acme/stock", None)
        problem = await until(reader, f"{ROOT}/acme/health", 404)
        assert (problem["reason"], problem["supplier"]) == ("unknown_supplier", "acme")


async def test_freshness_is_as_of_the_answer_and_a_feed_that_nobody_runs_any_more_is_left_out(stock: Stock) -> None:
    tell(stock, "acme/stock", health("acme/stock", age_ms=3_600_000, polls=100))
    tell(stock, "acme/old", health("acme/old", age_ms=25 * 3_600_000, polls=100))
    async with Reader(stock) as reader:
        [feed] = (await until(reader, f"{ROOT}/acme/health", 200))["feeds"]
        assert (feed["feed"], feed["score"]["fresh"], feed["score"]["value"]) == ("acme/stock", 0, 0)
        assert feed["age_ms"] >= 3_600_000


async def test_a_supplier_that_pushes_has_outcomes_and_no_score(stock: Stock) -> None:
    stock.write(row("milk", acme=10))
    async with Reader(stock) as reader:
        answer = await until(reader, f"{ROOT}/acme/health", 200)
        outcomes = {"applied": 1, "duplicate": 0, "superseded": 0, "rejected": 0}
        assert answer == {"supplierId": "acme", "score": None, "feeds": [], "outcomes": outcomes}


async def test_a_query_is_refused(stock: Stock) -> None:
    async with Reader(stock) as reader:
        await until(reader, ROOT, 200)
        for path in (ROOT, f"{ROOT}/acme/health"):
            assert (await reader.get(path, 422, since="0"))["reason"] == "unknown_parameter"


async def test_another_method_is_told_those_that_there_are(stock: Stock) -> None:
    async with Reader(stock) as reader:
        for path in (ROOT, f"{ROOT}/acme/health"):
            for method in ("POST", "TRACE", "DELETE"):
                answer = await reader.client.request(method, path)
                assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
