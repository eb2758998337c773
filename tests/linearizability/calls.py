"""Calls on reservations over HTTP: each repeated with its key until its outcome is known, or given up; all recorded.

Unknown is what the service calls so (503), and what no answer came to: a time-out, a connection that broke. Only a
request that could not be sent at all is none.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp
import orjson

from tests.linearizability import history
from tests.linearizability.history import Attempt, Record

KNOWN = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
ANSWERED_S = 12.0  # longer than the service waits for a decision
IMPATIENT = 0.02  # of attempts that are given next to no time, so that the repeat meets the first one
IMPATIENT_S = (0.003, 0.05)
GIVEN_UP = 0.15  # of calls, once an attempt's outcome is not known
AGAIN_S = (0.05, 0.6)
KNOWN_S = 300.0  # until the outcome of a call that is repeated has to be known, whatever went wrong
RESERVE = "reserve"


class Door(NamedTuple):
    """An API process."""

    name: str
    url: str


@dataclass(frozen=True)
class Asked:
    """A request; `history.Attempt` says what the fields mean. `full`: the whole reservation is to be told."""

    sku: str
    action: str
    key: str = ""
    order: str = ""
    reservation: str = ""
    quantity: int = 0
    partial: bool = False
    expires_s: int = 0
    full: bool = True

    def request(self) -> tuple[str, dict[str, Any]]:
        """Path and body."""
        if self.action == RESERVE:
            more = {"expires_in_seconds": self.expires_s, "allow_partial": self.partial}
            if self.full:
                lines = [{"sku": self.sku, "quantity": self.quantity}]
                return "/api/v1/reservations", {"order_id": self.order, "lines": lines} | more
            short = {"sku": self.sku, "quantity": self.quantity, "orderId": self.order}
            return "/api/v1/inventory/reserve", short | more
        body: dict[str, Any] = {}
        if self.quantity:
            body["quantity"] = self.quantity
        if self.action == "extend":
            body["expires_in_seconds"] = self.expires_s
        return f"/api/v1/reservations/{self.reservation}/{self.action}", body


class Answer(NamedTuple):
    """What a call was told in the end. `called`: when the attempt was sent that was answered."""

    door: Door
    called: int
    status: int
    told: dict[str, Any]


@dataclass
class Caller:
    """Makes the calls of all clients. `records`: in the order in which they ended."""

    doors: list[Door]
    http: aiohttp.ClientSession
    rng: random.Random
    records: list[Record] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def call(
        self, client: int, asked: Asked, *, door: Door | None = None, until_known: bool = False
    ) -> Answer | None:
        """The outcome of a call; None if it was given up. `until_known`: it never is."""
        number, began_s = next(self._numbers), time.monotonic()
        gives_up = not asked.key or (not until_known and self.rng.random() < GIVEN_UP)
        while True:
            door = door or self.rng.choice(self.doors)
            impatient = not until_known and self.rng.random() < IMPATIENT
            within_s = self.rng.uniform(*IMPATIENT_S) if impatient else ANSWERED_S
            attempt = attempt_at(number, client, asked, door, history.now())
            try:
                status, told = await self._post(asked, door, within_s)
            except aiohttp.ClientConnectorError:
                pass  # nobody listens there at the moment: nothing was sent, so there is nothing to record
            except (aiohttp.ClientError, TimeoutError) as why:
                attempt.why = type(why).__name__
                self.records.append(attempt)
            else:
                attempt.returned = history.now()
                self.records.append(attempt)
                if status in KNOWN:
                    attempt.status, attempt.told = status, told
                    return Answer(door, attempt.called, status, told)
                attempt.why = str(status)
                assert status == HTTPStatus.SERVICE_UNAVAILABLE, (status, told, asked)
            if gives_up and attempt.why:
                return None
            assert time.monotonic() - began_s < KNOWN_S, f"no outcome within {KNOWN_S:.0f} s: {asked}"
            door = None
            await asyncio.sleep(self.rng.uniform(*AGAIN_S))

    async def get(self, door: Door, path: str, **params: str) -> tuple[int, dict[str, Any]]:
        """A read, by one process.

        Raises:
            aiohttp.ClientError, TimeoutError: no answer came.
        """
        timeout = aiohttp.ClientTimeout(total=ANSWERED_S)
        async with self.http.get(f"{door.url}{path}", params=params, timeout=timeout) as answer:
            return answer.status, orjson.loads(await answer.read())

    async def _post(self, asked: Asked, door: Door, within_s: float) -> tuple[int, dict[str, Any]]:
        path, body = asked.request()
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": asked.key} if asked.key else {})
        timeout = aiohttp.ClientTimeout(total=within_s)
        data = orjson.dumps(body)
        async with self.http.post(f"{door.url}{path}", data=data, headers=headers, timeout=timeout) as answer:
            return answer.status, orjson.loads(await answer.read())


def attempt_at(number: int, client: int, asked: Asked, door: Door, called: int) -> Attempt:
    """The record of a request that is being sent, of a call by its number."""
    return Attempt(
        call=number,
        client=client,
        api=door.name,
        sku=asked.sku,
        action=asked.action,
        key=asked.key,
        order=asked.order,
        reservation=asked.reservation,
        quantity=asked.quantity,
        partial=asked.partial,
        expires_s=asked.expires_s,
        called=called,
    )
