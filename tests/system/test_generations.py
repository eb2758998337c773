"""A change of generations on the whole system: suppliers push and shops read all the time, and nobody notices."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from schemas.admin import ensure_topics
from schemas.topics import STOCK
from stockweave.settings import Settings
from tests.generations import copy_rows, tell
from tests.system.stack import Stack

SHOPS = 6
SKUS_EACH = 5
TIMEOUT_S = 30.0


@dataclass
class Traffic:
    """What the shops did. `patient`: a read that is turned away is tried again; else it is a failure."""

    pushed: int = 0
    slowest_s: float = 0.0
    patient: bool = False
    ended: bool = False
    generations: set[str] = field(default_factory=set)


async def shop(stack: Stack, number: int, traffic: Traffic) -> None:
    """Push a count of a SKU, read it back at once, and again; the number read is the number pushed, every time."""
    versions: dict[tuple[str, str], int] = {}
    began = datetime.now(UTC) - timedelta(hours=1)
    async with aiohttp.ClientSession(stack.url) as http:
        n = 0
        while not traffic.ended:
            n += 1
            sku = f"sku-{number}-{n % SKUS_EACH}"
            observed_at = (began + timedelta(milliseconds=n)).isoformat()
            update = {"sku": sku, "quantity": n, "timestamp": observed_at, "updateId": f"u{n}"}
            async with http.post(f"/api/v1/suppliers/shop-{number}/inventory-update", json=update) as answer:
                assert answer.status == 202, await answer.text()
                token = (await answer.json())["token"]
            traffic.pushed += 1
            sent_s = time.monotonic()
            item = await read(http, sku, token, traffic)
            traffic.slowest_s = max(traffic.slowest_s, time.monotonic() - sent_s)
            assert item["available_quantity"] == n, f"{sku} is {item}, and {n} was pushed"
            generation, _, version = item["version"].partition("-")
            assert int(version) > versions.get((generation, sku), 0), f"{sku} went back to {item['version']}"
            versions[generation, sku] = int(version)
            traffic.generations.add(generation)


async def read(http: aiohttp.ClientSession, sku: str, token: str, traffic: Traffic) -> dict[str, Any]:
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        async with http.get("/api/v1/inventory", params={"sku": sku, "min_offset": token}) as answer:
            if answer.status == 503 and traffic.patient and time.monotonic() < deadline_s:
                continue
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found


async def served(http: aiohttp.ClientSession, number: int) -> dict[str, Any]:
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        async with http.get("/readyz") as answer:
            ready: dict[str, Any] = await answer.json()
        if ready["number"] == number and ready["ready"]:
            return ready
        assert time.monotonic() < deadline_s, ready
        await asyncio.sleep(0.05)


@pytest.mark.timeout(240)
async def test_shops_and_suppliers_do_not_notice_a_switch_a_way_back_and_one_that_a_worker_dies_in(
    tmp_path: Path,
) -> None:
    traffic = Traffic()
    with Stack(tmp_path, workers=2) as stack:
        settings = Settings(_env_file=None)
        topics = await asyncio.to_thread(ensure_topics, settings, stack.bootstrap_servers)

        async def say(live: int, candidate: int | None = None, previous: int | None = None) -> None:
            await asyncio.to_thread(tell, settings, stack.bootstrap_servers, live, candidate, previous)

        async with aiohttp.ClientSession(stack.url) as http, asyncio.TaskGroup() as shops:
            for number in range(SHOPS):
                shops.create_task(shop(stack, number, traffic))
            await asyncio.sleep(3)
            await asyncio.to_thread(copy_rows, settings, stack.bootstrap_servers, topics[STOCK.name], 1)
            await say(live=0, candidate=1)
            await asyncio.sleep(2)
            traffic.slowest_s = 0.0  # until here the second worker was still coming in
            await say(live=1, previous=0)
            await served(http, 1)
            await asyncio.sleep(2)
            await say(live=0, candidate=1, previous=1)
            await served(http, 0)
            await asyncio.sleep(2)
            there_and_back_s = traffic.slowest_s
            traffic.patient = True
            await say(live=1, previous=0)
            await asyncio.to_thread(stack.kill, "worker-0")
            await served(http, 1)
            await asyncio.sleep(1)
            traffic.ended = True
        async with aiohttp.ClientSession(stack.url) as http:
            ready = await served(http, 1)
    print(f"{traffic.pushed} pushed; slowest read {there_and_back_s:.3f} s, and {traffic.slowest_s:.3f} s past a kill")
    assert ready["outcomes"] == {"applied": traffic.pushed, "duplicate": 0, "superseded": 0, "rejected": 0}
    assert len(traffic.generations) == 2
    assert traffic.pushed > 500
    assert there_and_back_s < 3.0
    assert stack.process.returncode == 0
