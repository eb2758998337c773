"""How a run ends, once all has come to rest: every row at each process, and what of the reservations could change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import aiohttp

from schemas.reservations import COMMITTED, HELD
from tests.deployment import Deployment
from tests.linearizability.calls import Caller, Door
from tests.linearizability.conservation import Evidence, Row, last_told
from tests.linearizability.windows import Window

REST_S = 60.0
READERS = 8


async def gather(caller: Caller, windows: Sequence[Window], deployment: Deployment) -> Evidence:
    """Once workers and processes are undisturbed."""
    skus = [window.sku for window in windows]
    asked = Caller(caller.doors, caller.http, caller.rng)
    for window in windows:
        for door in caller.doors:
            await window.last_call(asked, door)  # after whose answer the process has seen all that came before
    told, missing = last_told(caller.records)
    door = caller.doors[0]
    rows = {each.name: await _rows(caller, each, skus) for each in caller.doors}
    for order in missing:
        listed = await _read(caller, door, "/api/v1/reservations", order_id=order)
        told |= {each["reservation_id"]: each for each in listed["reservations"]}
    may_change = iter([own_id for own_id, said in told.items() if said["state"] in (HELD, COMMITTED)])

    async def reader() -> None:
        for own_id in may_change:
            told[own_id] = await _read(caller, door, f"/api/v1/reservations/{own_id}")

    await asyncio.gather(*(reader() for _ in range(READERS)))
    facts = await asyncio.to_thread(deployment.facts)
    seen = await asyncio.to_thread(deployment.stock)
    return Evidence([*caller.records, *asked.records], rows, told, [*facts], seen.holds, deployment.base.partitions)


async def _rows(caller: Caller, door: Door, skus: Iterable[str]) -> dict[str, Row]:
    found = {}
    for sku in skus:
        said = await _read(caller, door, f"/api/v1/inventory/{sku}")
        found[sku] = Row(said["available_quantity"], said["on_hand"], said["reserved"])
    return found


async def _read(caller: Caller, door: Door, path: str, **params: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + REST_S
    while True:
        try:
            status, said = await caller.get(door, path, **params)
            if status == HTTPStatus.OK:
                return said
            assert status == HTTPStatus.SERVICE_UNAVAILABLE, (path, status, said)
        except (aiohttp.ClientError, TimeoutError):
            pass  # the last fault may have ended it, and it is being started again
        assert time.monotonic() < deadline_s, f"{door.name} does not answer {path} within {REST_S:.0f} s"
        await asyncio.sleep(0.2)
