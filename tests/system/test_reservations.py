"""A rush on one SKU over HTTP, while workers are killed: the promise of reservations, on the whole system."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from schemas.reservations import HELD
from tests.deployment import Deployment
from tests.reservations import holds_by
from tests.system.stack import Stack

UNITS, ATTEMPTS, CLIENTS = 1_000, 5_000, 48
SKU = "last-ones"
KILLS = 3


@pytest.fixture
def stack(tmp_path: Path) -> Any:
    with Stack(tmp_path, workers=2) as running:
        yield running


async def test_of_a_thousand_units_five_thousand_attempts_get_a_thousand_while_workers_are_killed(stack: Stack) -> None:
    async with aiohttp.ClientSession() as session:
        await _stock(session, stack.url)
        answers: dict[str, tuple[int, dict[str, Any]]] = {}
        keys = iter([f"attempt-{n}" for n in range(ATTEMPTS)])
        victims = {ATTEMPTS * (n + 1) // (KILLS + 2): f"worker-{n % 2}" for n in range(KILLS)}

        async def client() -> None:
            for key in keys:
                answers[key] = await _reserve(session, stack.url, key)
                if victim := victims.pop(len(answers), None):
                    await asyncio.to_thread(stack.kill, victim)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        assert not victims
        statuses = Counter(status for status, _ in answers.values())
        assert statuses == {201: UNITS, 409: ATTEMPTS - UNITS}
        assert {body["code"] for status, body in answers.values() if status == 409} == {"SOLD_OUT"}
        again = random.Random(1).sample(sorted(answers), 200)
        assert [(await _reserve(session, stack.url, key)) for key in again] == [answers[key] for key in again]
        async with session.get(f"{stack.url}/api/v1/inventory", params={"sku": SKU}) as answer:
            assert (await answer.json())["available_quantity"] == 0
    deployment = Deployment(stack.bootstrap_servers, stack.data_dir, 4, prefix="")
    holds, seen = holds_by(deployment.facts()), deployment.stock()
    assert holds == seen.holds
    held = {hold.reservation_id for hold in holds.values() if hold.state == HELD}
    assert held == {body["reservation_id"] for status, body in answers.values() if status == 201}
    assert sum(entry.units for entries in seen.rows[SKU].reserved.values() for entry in entries) == UNITS


async def _stock(session: aiohttp.ClientSession, url: str) -> None:
    update = {
        "sku": SKU,
        "quantity": UNITS,
        "updateId": "count-1",
        "kind": "COUNT",
        "timestamp": int(time.time() * 1e3),
    }
    async with session.post(f"{url}/api/v1/suppliers/acme/inventory-update", json=update) as answer:
        token = (await answer.json())["token"]
    async with session.get(f"{url}/api/v1/inventory", params={"sku": SKU, "min_offset": token}) as answer:
        assert (await answer.json())["available_quantity"] == UNITS


async def _reserve(session: aiohttp.ClientSession, url: str, key: str) -> tuple[int, dict[str, Any]]:
    """The one true outcome: while nobody decides, the same call again."""
    asked = {"sku": SKU, "quantity": 1, "orderId": f"order-{key}"}
    deadline_s = time.monotonic() + 90
    while True:
        async with session.post(
            f"{url}/api/v1/inventory/reserve", json=asked, headers={"Idempotency-Key": key}
        ) as answer:
            if answer.status != 503:
                return answer.status, await answer.json()
            assert answer.headers["Retry-After"]
        assert time.monotonic() < deadline_s, f"{key} has no outcome"
        await asyncio.sleep(0.2)
