"""Suppliers that send updates over HTTP and repeat what was not acknowledged, and what they were told.

Among the updates are repeats, and ids that are used a second time for another quantity, which the rule refuses: those
end among the dead letters, which nothing deduplicates.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp
import orjson

from inventory.stock import StockUpdate
from schemas.keys import partition_of
from tests.inventory.builders import update
from tests.inventory.reference import Event

LINES_PER_REQUEST = 200
BACK_S = 120.0
REPEATED, REUSED, COUNTED = 0.05, 0.01, 0.1  # shares of all updates
RECENT = 20_000
BEGAN_AT, EVERY_MS = 1_700_000_000_000, 100


class Token(NamedTuple):
    """An update's place, as its sender was told."""

    partition: int
    offset: int


class Identity(NamedTuple):
    """What makes an update that update: the same again is a repeat."""

    sku: str
    supplier: str
    kind: str
    id: str
    at: int
    quantity: int


def identity(one: StockUpdate) -> Identity:
    return Identity(one["sku"], one["supplier_id"], one["kind"], one["update_id"], one["observed_at"], one["quantity"])


def endless(seed: int, skus: int, suppliers: int) -> Iterator[StockUpdate]:
    """Counts and deltas, in time order for each source: every loss or doubling changes a number."""
    rng = random.Random(seed)
    recent: list[StockUpdate] = []
    number = 0
    while True:
        number += 1
        drawn = rng.random()
        if recent and drawn < REPEATED + REUSED:
            one = rng.choice(recent)
            if drawn < REUSED:
                more = one["quantity"] + 1 or 1  # a delta of zero is refused at the door already
                again = Event(one["kind"], one["update_id"], one["observed_at"], more)
                one = update(again, sku=one["sku"], supplier_id=one["supplier_id"])
            yield one
            continue
        kind = "COUNT" if rng.random() < COUNTED else "DELTA"
        quantity = rng.randint(0, 500) if kind == "COUNT" else rng.choice([-3, -2, -1, 1, 2])
        event = Event(kind, f"u{number}", BEGAN_AT + number * EVERY_MS, quantity)
        one = update(event, sku=f"sku-{rng.randrange(skus)}", supplier_id=f"supplier-{rng.randrange(suppliers)}")
        if len(recent) < RECENT:
            recent.append(one)
        else:
            recent[number % RECENT] = one
        yield one


class Feed:
    """Sends updates in order, by supplier, and repeats a request until all of it is acknowledged.

    `acknowledged`: in that order; `attempts`: how often each was sent at the most; `tokens`: by SKU, of the last update
    that was acknowledged.
    """

    def __init__(self, url: str, updates: Iterator[StockUpdate], rate: int, partitions: int) -> None:
        self._url, self._updates, self._rate, self._partitions = url, updates, rate, partitions
        self.acknowledged: list[StockUpdate] = []
        self.attempts: Counter[Identity] = Counter()
        self.tokens: dict[str, Token] = {}
        self.repeated_requests = 0
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            due_s = time.monotonic()
            while not self.stopping.is_set():
                by_supplier: dict[str, list[StockUpdate]] = {}
                for _ in range(LINES_PER_REQUEST):
                    one = next(self._updates)
                    by_supplier.setdefault(one["supplier_id"], []).append(one)
                await asyncio.gather(*(self._send(session, s, some) for s, some in by_supplier.items()))
                # What a fault held up is not made up for: the rate is that of a supplier who waits for his answer.
                due_s = max(due_s + LINES_PER_REQUEST / self._rate, time.monotonic())
                await asyncio.sleep(due_s - time.monotonic())

    async def _send(self, session: aiohttp.ClientSession, supplier: str, updates: list[StockUpdate]) -> None:
        body = b"\n".join(orjson.dumps(line_of(u)) for u in updates)
        url = f"{self._url}/api/v1/suppliers/{supplier}/inventory-batch-update"
        headers = {"Content-Type": "application/x-ndjson"}
        deadline = time.monotonic() + BACK_S
        while True:
            self.attempts.update(map(identity, updates))
            try:
                async with session.post(url, data=body, headers=headers) as answer:
                    said = await answer.json(content_type=None)
                    if answer.status == HTTPStatus.ACCEPTED:
                        assert said["accepted"] == len(updates), said
                        self._note(updates, said["token"])
                        return
                    assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE, (answer.status, said)
            except (aiohttp.ClientError, TimeoutError):
                pass  # the API was killed: what it took in is in doubt, so all of it is sent again
            assert time.monotonic() < deadline, f"the API took nothing for {BACK_S:.0f} s"
            self.repeated_requests += 1
            await asyncio.sleep(0.2)

    def _note(self, updates: list[StockUpdate], token: str) -> None:
        self.acknowledged += updates
        newest = {t.partition: t for t in (Token(*map(int, part.split("-"))) for part in token.split(","))}
        for one in updates:
            given = newest[partition_of(one["sku"].encode(), self._partitions)]
            self.tokens[one["sku"]] = max(given, self.tokens.get(one["sku"], given))


def line_of(one: StockUpdate) -> dict[str, Any]:
    """An update as the push endpoint takes it."""
    return {
        "sku": one["sku"],
        "kind": one["kind"],
        "quantity": one["quantity"],
        "timestamp": one["observed_at"],
        "updateId": one["update_id"],
    }
