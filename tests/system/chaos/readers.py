"""Shops that ask all the time what they can sell, and keep every answer, to be held against the reference afterwards.

Half of the reads ask for the newest update that was acknowledged (`min_offset`), and some of those only whether the row
has changed since (`If-None-Match`).
"""

from __future__ import annotations

import asyncio
import random
import time
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import aiohttp

from tests.system.chaos.feed import Token

PAUSE_S = 0.04
TIMEOUT_S = 8.0


class Answer(NamedTuple):
    """What a shop was told.

    `reader`: who asked; each asks one thing after the other; `asked_for`: the read waited for this update; `version`:
    of the row, None where the SKU was said to be unknown.
    """

    reader: int
    sku: str
    available: int
    version: int | None
    asked_for: Token | None


class Readers:
    """Some readers of some SKUs. `answers`: in the order of each reader."""

    def __init__(self, url: str, tokens: dict[str, Token], skus: list[str], readers: int, seed: int) -> None:
        self._url = f"{url}/api/v1/inventory"
        self._tokens = tokens
        self._skus = skus
        self._readers = readers
        self._seed = seed
        self.answers: list[Answer] = []
        self.unchanged = 0
        self.refused = 0
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await asyncio.gather(*(self._read(session, number) for number in range(self._readers)))

    async def _read(self, session: aiohttp.ClientSession, number: int) -> None:
        rng = random.Random(self._seed * 1_000 + number)
        known: dict[str, tuple[str, Answer]] = {}
        while not self.stopping.is_set():
            sku = rng.choice(self._skus)
            token = self._tokens.get(sku) if rng.random() < 0.5 else None
            tag, before = known.get(sku, (None, None))
            headers = {"If-None-Match": tag} if tag and token and rng.random() < 0.3 else {}
            try:
                answer, etag = await self._ask(session, number, sku, token, headers, before)
            except (aiohttp.ClientError, TimeoutError):
                answer, etag = None, None  # killed, or stopped by a full disk; the next one asks again
            if answer is None:
                self.refused += 1
            else:
                self.answers.append(answer)
                if etag is not None:
                    known[sku] = etag, answer
            await asyncio.sleep(PAUSE_S)

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        reader: int,
        sku: str,
        token: Token | None,
        headers: dict[str, str],
        before: Answer | None,
    ) -> tuple[Answer | None, str | None]:
        params = {"sku": sku} | ({"min_offset": f"{token.partition}-{token.offset}"} if token else {})
        async with session.get(self._url, params=params, headers=headers) as response:
            etag = response.headers.get("ETag")
            if response.status == HTTPStatus.NOT_MODIFIED:
                assert before is not None, "not modified, and nothing was known"
                self.unchanged += 1
                return before._replace(asked_for=token), etag
            if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
                return None, None
            if response.status == HTTPStatus.NOT_FOUND:
                return Answer(reader, sku, 0, None, token), None
            assert response.status == HTTPStatus.OK, (response.status, await response.text())
            said = await response.json()
            assert said["available_quantity"] == sum(max(0, s["quantity"]) for s in said["suppliers"]), said
            version = int(said["version"].rpartition("-")[2])
            return Answer(reader, sku, said["available_quantity"], version, token), etag


async def last_answers(
    url: str, tokens: dict[str, Token], reader: int, deadline_s: float
) -> tuple[list[Answer], dict[str, dict[str, int]]]:
    """Every SKU once more, at its newest update: what is available, and on hand by supplier."""
    answers: list[Answer] = []
    on_hand: dict[str, dict[str, int]] = {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        for sku, token in tokens.items():
            said = await _last_answer(session, url, sku, token, deadline_s)
            if said is not None:
                version = int(said["version"].rpartition("-")[2])
                answers.append(Answer(reader, sku, said["available_quantity"], version, token))
                on_hand[sku] = {s["supplierId"]: s["quantity"] for s in said["suppliers"]}
    return answers, on_hand


async def _last_answer(
    session: aiohttp.ClientSession, url: str, sku: str, token: Token, deadline_s: float
) -> dict[str, Any] | None:
    params = {"sku": sku, "min_offset": f"{token.partition}-{token.offset}"}
    while True:
        try:
            async with session.get(f"{url}/api/v1/inventory", params=params) as response:
                if response.status == HTTPStatus.OK:
                    return cast("dict[str, Any]", await response.json())
        except (aiohttp.ClientError, TimeoutError):
            pass  # the last fault may have ended it
        if time.monotonic() > deadline_s:
            return None
        await asyncio.sleep(0.1)
