"""The feeder against a server that fails on purpose; what the service does with the lines is not in question here."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator

import polars as pl
import pytest
from aiohttp import web

from stockweave.demo.events import Stream
from stockweave.demo.feed import feed
from stockweave.demo.windows import Request, updates, windows
from stockweave.errors import Fatal, Rejected, Retriable


class Faults:
    """What came in, and what goes wrong: by number of the request, from 0."""

    def __init__(self) -> None:
        self.url = ""
        self.plan: dict[int, str] = {}
        self.requests = 0
        self.received: dict[str, list[bytes]] = defaultdict(list)
        self.in_flight: Counter[str] = Counter()
        self.in_flight_max = 0
        self.lanes_max = 0
        self.overlaps: list[str] = []
        self._rng = random.Random(3)

    async def push(self, request: web.Request) -> web.StreamResponse:
        supplier, number = request.match_info["supplier"], self.requests
        self.requests += 1
        self.in_flight[supplier] += 1
        if self.in_flight[supplier] > 1:
            self.overlaps.append(supplier)
        self.lanes_max = max(self.lanes_max, self.in_flight.total())
        try:
            return await self._answer(request, supplier, self.plan.get(number, "ok"))
        finally:
            self.in_flight[supplier] -= 1

    async def _answer(self, request: web.Request, supplier: str, fault: str) -> web.StreamResponse:
        assert request.content_type == "application/x-ndjson"
        if fault == "503":
            return web.json_response({"title": "Kafka is away"}, status=503, headers={"Retry-After": "1"})
        lines = (await request.read()).splitlines()
        if fault == "cut at half":
            self.received[supplier] += lines[: len(lines) // 2]
        else:
            self.received[supplier] += lines
        if fault.startswith("cut"):
            assert request.transport is not None
            request.transport.abort()
        await asyncio.sleep(self._rng.random() / 200)
        counted = {"received": len(lines), "accepted": len(lines), "rejected": 0, "inDoubt": 0, "errors": []}
        token = f"{len(supplier) % 2}-{self.requests}"
        if fault == "in doubt":
            return web.json_response(counted | {"accepted": 0, "inDoubt": len(lines), "token": ""}, status=207)
        if fault == "rejects one":
            error = {"line": 2, "reason": "invalid", "field": "quantity", "detail": "is zero"}
            split = {"accepted": len(lines) - 1, "rejected": 1, "errors": [error], "token": token}
            return web.json_response(counted | split, status=207)
        if fault == "loses count":
            return web.json_response(counted | {"accepted": len(lines) - 1, "token": token}, status=202)
        if fault == "422":
            return web.json_response({"title": "no such supplier"}, status=422)
        return web.json_response(counted | {"token": token}, status=202)


@pytest.fixture
async def faults() -> AsyncIterator[Faults]:
    server = Faults()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/api/v1/suppliers/{supplier}/inventory-batch-update", server.push)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
def events(part: Stream) -> pl.DataFrame:
    """5,000 events of the 12 busiest stores."""
    stores = part.events["store"].value_counts(sort=True)["store"].head(12).to_list()
    return part.events.filter(pl.col("store").is_in(stores)).tail(5_000)


def wanted(events: pl.DataFrame) -> dict[str, list[str]]:
    ids: dict[str, list[str]] = defaultdict(list)
    for supplier, update_id in updates(events).select("supplier", "update_id").iter_rows():
        ids[supplier].append(update_id)
    return ids


def got(faults: Faults) -> dict[str, list[str]]:
    return {
        s: [line.split(b'"updateId":"')[1].split(b'"')[0].decode() for line in ls] for s, ls in faults.received.items()
    }


async def test_every_line_arrives_once_in_the_order_of_its_supplier_over_several_lanes(
    faults: Faults, events: pl.DataFrame
) -> None:
    steps: list[int] = []
    report = await feed(windows(events, events_max=500), faults.url, concurrency=4, progress=steps.append)
    assert got(faults) == wanted(events)
    assert faults.overlaps == []
    assert faults.lanes_max == 4
    assert (report.events, report.accepted, report.rejected, report.tried_again) == (5_000, 5_000, 0, 0)
    assert (sum(steps), len(steps)) == (5_000, report.requests)
    assert report.requests == faults.requests


async def test_the_token_is_the_highest_offset_of_each_partition(faults: Faults) -> None:
    requests = [Request(supplier, b"{}\n", 1) for supplier in ("odd", "even", "odd", "even")]
    report = await feed([requests], faults.url, concurrency=1)
    assert report.token == "0-4,1-3"


async def test_503_broken_connections_and_lines_in_doubt_are_sent_again_until_settled(
    faults: Faults, events: pl.DataFrame
) -> None:
    kinds = ["503", "cut at half", "cut at end", "in doubt"]
    faults.plan = {number: kinds[number % 4] for number in range(0, 60, 5)}
    report = await feed(windows(events, events_max=1_000), faults.url, concurrency=4, patience_s=30)
    assert (report.accepted, report.rejected) == (5_000, 0)
    assert report.tried_again == len(faults.plan)
    assert faults.requests == report.requests + len(faults.plan)
    assert faults.overlaps == []
    for supplier, ids in wanted(events).items():
        # A repeat may bring back what came before it, but what comes next never comes before what is still missing.
        positions = _prefixes(ids, got(faults)[supplier])
        assert positions == len(ids), supplier


def _prefixes(ids: list[str], received: list[str]) -> int:
    """How far `received` gets through `ids` when it may step back, but never jump ahead."""
    done = 0
    for update_id in received:
        if done < len(ids) and ids[done] == update_id:
            done += 1
        else:
            assert update_id in ids[:done]
    return done


async def test_a_refused_line_is_counted_and_shown_and_the_feed_goes_on(faults: Faults, events: pl.DataFrame) -> None:
    faults.plan = {1: "rejects one"}
    report = await feed(windows(events), faults.url, concurrency=1)
    assert (report.events, report.accepted, report.rejected) == (5_000, 4_999, 1)
    assert report.errors[0]["line"] == 2
    assert report.errors[0]["supplierId"].startswith("store-")


async def test_a_service_that_stays_away_ends_the_feed_with_its_last_word(faults: Faults, events: pl.DataFrame) -> None:
    faults.plan = dict.fromkeys(range(1_000), "503")
    with pytest.raises(Retriable, match=r"did not serve a call for 1 s .*503 .*Kafka is away"):
        await feed(windows(events), faults.url, concurrency=3, patience_s=1)


async def test_an_answer_that_loses_count_of_the_lines_is_fatal(faults: Faults, events: pl.DataFrame) -> None:
    faults.plan = {3: "loses count"}
    with pytest.raises(Fatal, match="lost count"):
        await feed(windows(events), faults.url)


async def test_a_request_refused_as_a_whole_ends_the_feed_with_the_reason(faults: Faults, events: pl.DataFrame) -> None:
    faults.plan = {0: "422"}
    with pytest.raises(Rejected, match=r"422.*no such supplier"):
        await feed(windows(events), faults.url)
