"""Where the outcome is not known in time: it is said, and the same key gets the one outcome later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from prometheus_client import REGISTRY

from api.reservations.desk import Delivered
from schemas.codec import Record
from stockweave.errors import Retriable
from tests.api.reservations.shop import BATCH, RESERVATIONS, RESERVE, Shop
from tests.api.reservations.worker import Worker
from tests.api.stock import Reader, Stock

BODY = {"quantity": 2, "orderId": "o-1"}


async def test_what_nobody_decides_is_not_known_and_its_key_gets_the_one_outcome_later(impatient: Shop) -> None:
    await impatient.stocked("w-late", acme=3)
    body = BODY | {"sku": "w-late"}
    with impatient.worker.away():
        began_s = time.monotonic()
        told = await impatient.post(RESERVE, body, 503, "key-late")
        assert 0.4 < time.monotonic() - began_s < 3
    assert "same Idempotency-Key" in told.body["detail"]
    assert int(told.headers["Retry-After"]) >= 1
    later = (await impatient.post(RESERVE, body, 201, "key-late")).body
    assert later["reserved_quantity"] == 2
    assert await impatient.available("w-late") == 1
    assert not any(map(impatient.reader.view._waiters.any, range(3))), "a waiter stays behind"


async def test_every_command_is_counted_by_what_came_of_it(impatient: Shop) -> None:
    def counted(action: str, result: str) -> float:
        labels = {"action": action, "result": result}
        return REGISTRY.get_sample_value("stockweave_reservation_commands_total", labels) or 0

    async def batch() -> None:
        await impatient.post(BATCH, {"reservations": [BODY | {"sku": "w-count"}] * 2}, 200, "key-m")

    names = [
        ("HOLD", "DONE"),
        ("HOLD", "SOLD_OUT"),
        ("HOLD", "UNDECIDED"),
        ("RELEASE", "DONE"),
        ("COMMIT", "INVALID_STATE"),
    ]
    before = [counted(*name) for name in names]
    await impatient.stocked("w-count", acme=3)
    with impatient.worker.away():
        await batch()
    await batch()
    own_id = (await impatient.reserve("w-count", 1))["reservation_id"]
    await impatient.change(own_id, "release")
    await impatient.change(own_id, "commit", 409)
    assert [counted(*name) - was for name, was in zip(names, before, strict=True)] == [2, 1, 2, 1, 1]


async def test_a_change_that_nobody_decides_is_not_known_either(impatient: Shop) -> None:
    await impatient.stocked("w-change", acme=3)
    own_id = (await impatient.reserve("w-change", 2))["reservation_id"]
    with impatient.worker.away():
        problem = await impatient.change(own_id, "release", 503, "key-change", quantity=1)
    assert "same Idempotency-Key" in problem["detail"]
    await impatient.change(own_id, "release", key="key-change", quantity=1)
    assert await impatient.available("w-change") == 2


async def test_a_call_is_answered_as_soon_as_it_is_decided(shop: Shop) -> None:
    await shop.stocked("w-soon", acme=3)
    with shop.worker.away():
        waiting = asyncio.create_task(shop.reserve("w-soon", 2))
        await asyncio.sleep(0.3)
        assert not waiting.done()
    assert (await asyncio.wait_for(waiting, 3))["state"] == "HELD"


async def test_many_calls_at_once_are_each_told_their_own(shop: Shop) -> None:
    await shop.stocked("w-many", acme=30)
    bodies = [BODY | {"sku": "w-many", "orderId": f"o-{n}"} for n in range(40)]

    async def call(n: int) -> int:
        async with shop.reader.client.post(RESERVE, json=bodies[n], headers={"Idempotency-Key": f"m-{n}"}) as response:
            told = await response.json(content_type=None)
            if response.status == 201:
                of = await shop.get(f"{RESERVATIONS}/{told['reservation_id']}")
                assert of["order_id"] == f"o-{n}"
            return response.status

    statuses = await asyncio.gather(*map(call, range(40)))
    assert sorted(statuses) == [201] * 15 + [409] * 25


class Log:
    """A log of commands that answers as it is told to."""

    def __init__(self, *, seconds: float = 0.0, refuses: bool = False) -> None:
        self._seconds, self._refuses = seconds, refuses

    async def deliver(self, updates: Sequence[Record], /) -> Delivered:
        await asyncio.sleep(self._seconds)
        if self._refuses:
            raise Retriable("Kafka is away, and nothing was sent", 7)
        return SimpleNamespace(offsets={}, failures=[SimpleNamespace(place=place) for place in range(len(updates))])


async def test_without_kafka_a_call_is_refused_with_the_way_to_repeat_it(
    shop: Shop, deployment: Stock, worker: Worker, tmp_path: Path
) -> None:
    await shop.stocked("w-none", acme=3)
    own_id = (await shop.reserve("w-none", 1, "key-none"))["reservation_id"]
    settings = deployment.settings.model_copy(update={"data_dir": tmp_path, "reserve_wait_ms": 500})
    for number, (log, after_s) in enumerate(((Log(refuses=True), 7), (Log(), 1), (Log(seconds=60), 1))):
        own = settings.model_copy(update={"data_dir": tmp_path / str(number)})
        async with Reader(deployment, commands=log, settings=own) as reader:
            lonely = Shop(reader, worker)
            for path, body in ((RESERVE, BODY | {"sku": "w-none"}), (f"{RESERVATIONS}/{own_id}/release", {})):
                told = await lonely.post(path, body, 503, "key-none")
                assert int(told.headers["Retry-After"]) == after_s
                assert "same Idempotency-Key" in told.body["detail"]
            await lonely.post(BATCH, {"reservations": []}, 422)
