"""An open loop of updates through HTTP: they leave when they are due, however long the ones before take.

One update a request, or NDJSON batches of many. The clock of a sample starts when its 202 has arrived, and stops when a
read that was given its token (`min_offset`) has answered. Reads are a sample, so that they do not become the load.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from http import HTTPStatus

import aiohttp
import orjson

from stockweave.errors import Fatal

SKUS, SUPPLIERS = 10_000, 5
WARM_UP_S = 3.0
SAMPLES_PER_S = 100
LATE_S = 0.1  # behind its due time by more than this, the load is not what it says
JSON, NDJSON = {"Content-Type": "application/json"}, {"Content-Type": "application/x-ndjson"}


class Load:
    """One run.

    `visible_s`: from 202 to a read, of each sample; `accepted_s`: from request to 202, of all; `late`: requests that
    left late, for this process could not keep up.

    Args:
        url: of the API.
        rate: updates per second.
        seconds: after a warm-up that is not counted.
        lines: updates in a request; 1: single updates as JSON.
    """

    def __init__(self, url: str, rate: int, seconds: float, lines: int = 1) -> None:
        self._url, self._seconds, self._lines = url, seconds, lines
        self._requests_per_s = rate / lines
        self._sample_every = max(1, round(self._requests_per_s / SAMPLES_PER_S))
        self.visible_s: list[float] = []
        self.accepted_s: list[float] = []
        self.late = 0
        self._rng = random.Random(1)

    async def run(self) -> None:
        """Send.

        Raises:
            Fatal: an update was not accepted, or a read went wrong.
        """
        try:
            await self._run()
        except* Fatal as why:
            raise why.exceptions[0] from None

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=256)
        async with aiohttp.ClientSession(self._url, connector=connector) as session, asyncio.TaskGroup() as under_way:
            began = time.perf_counter()
            for i in itertools.count():
                due = began + i / self._requests_per_s
                if due > began + WARM_UP_S + self._seconds:
                    break
                counted = due > began + WARM_UP_S
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                elif counted and wait < -LATE_S:
                    self.late += 1
                under_way.create_task(self._one(session, i, counted and i % self._sample_every == 0, counted))

    async def _one(self, session: aiohttp.ClientSession, i: int, sampled: bool, counted: bool) -> None:
        sent_s = time.perf_counter()
        sku, token = await self._post(session, i)
        accepted_s = time.perf_counter()
        if counted:
            self.accepted_s.append(accepted_s - sent_s)
        if sampled:
            await _see(session, sku, token)
            self.visible_s.append(time.perf_counter() - accepted_s)

    async def _post(self, session: aiohttp.ClientSession, i: int) -> tuple[str, str]:
        """The last SKU of the request, and the token of its answer."""
        now_ms = time.time_ns() // 1_000_000
        skus = [f"SKU-{self._rng.randrange(SKUS):06d}" for _ in range(self._lines)]
        updates = [
            {"sku": sku, "kind": "DELTA", "quantity": 1, "timestamp": now_ms, "updateId": f"bench-{now_ms}-{i}-{n}"}
            for n, sku in enumerate(skus)
        ]
        supplier = f"/api/v1/suppliers/supplier-{i % SUPPLIERS}"
        if self._lines == 1:
            request = session.post(f"{supplier}/inventory-update", data=orjson.dumps(updates[0]), headers=JSON)
        else:
            data = b"\n".join(map(orjson.dumps, updates))
            request = session.post(f"{supplier}/inventory-batch-update", data=data, headers=NDJSON)
        async with request as answer:
            said = orjson.loads(await answer.read())
            if answer.status != HTTPStatus.ACCEPTED:
                raise Fatal(f"updates were answered {answer.status}: {said}; see the log of the API")
        return skus[-1], said["token"]


async def _see(session: aiohttp.ClientSession, sku: str, token: str) -> None:
    """Read until the write is there; a read gives up after some seconds, and is asked again."""
    while True:
        async with session.get("/api/v1/inventory", params={"sku": sku, "min_offset": token}) as answer:
            said = await answer.read()
            if answer.status == HTTPStatus.OK:
                return
            if answer.status not in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT):
                raise Fatal(f"a read was answered {answer.status}: {said!r}; see the log of the API")
