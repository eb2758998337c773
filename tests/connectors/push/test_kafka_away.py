"""Kafka away: a quick 503, and a batch cut short accounts for every line that it read."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from aiohttp import ClientResponse

from stockweave.broker.kafka import EmbeddedKafka
from stockweave.ports import free_port
from stockweave.settings import Settings
from tests.connectors.service import NDJSON, Service, deployed, fields, line, records, service
from tests.deployment import Deployment

URL = "/api/v1/suppliers/acme/inventory-batch-update"


async def test_since_the_start_every_push_is_503_at_once() -> None:
    settings = Settings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    async with Service(settings, "any") as push:
        for answering in (push.one(**fields()), push.array([fields()]), push.ndjson(line(1), b"", line(2))):
            began_s = time.monotonic()
            response = await answering
            assert time.monotonic() - began_s < 1
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
            assert response.content_type == "application/problem+json"
            body = await response.json()
            assert "is away" in body["detail"]
            assert body.get("lastLine", 0) == body.get("received", 0) == body.get("inDoubt", 0) == 0
        assert (await push.one(**fields(quantity=-1))).status == 422, (
            "what can never be used is told at once all the same"
        )


async def test_a_batch_that_loses_kafka_midway_leaves_no_line_in_doubt_without_saying_so(
    broker_factory: Callable[[], EmbeddedKafka], tmp_path: Path
) -> None:
    kafka = broker_factory().start()
    deployment, settings = deployed(kafka.bootstrap_servers, tmp_path, publish_timeout_ms=2_000)

    async def lines() -> AsyncGenerator[bytes, None]:
        for number in range(1, 1_000_000):
            if number == 20_000 and kafka.pid is not None:
                os.kill(kafka.pid, signal.SIGSTOP)  # so that some lines are surely on their way when it dies
            if number == 22_000:
                kafka.kill()
            if number % 100 == 0:
                await asyncio.sleep(0.001)
            yield (line(number) if number % 10 else line(number, sku="")) + b"\n"

    async with service(deployment, settings) as push:
        assert (await _again(push, line(1)))["accepted"] == 1  # a new Kafka takes a second until it takes writes
        response = await push.client.post(URL, data=lines(), headers=NDJSON)
        account = await response.json()
        assert response.status == 503, account
        assert response.headers["Retry-After"]
        last = account["lastLine"]
        assert account["received"] == last
        assert account["accepted"] + account["rejected"] + account["inDoubt"] == last
        listed = {
            reason: {e["line"] for e in account["errors"] if e["reason"] == reason}
            for reason in ("in_doubt", "invalid_id")
        }
        assert [e["line"] for e in account["errors"]] == sorted({e["line"] for e in account["errors"]})
        assert len(account["errors"]) == sum(map(len, listed.values()))
        assert len(listed["in_doubt"]) == account["inDoubt"] > 0
        assert listed["invalid_id"] == set(range(10, last + 1, 10))
        kafka.start()
        found = await _numbers(deployment)
        accepted = set(range(1, last + 1)) - listed["in_doubt"] - listed["invalid_id"]
        assert accepted <= found <= accepted | listed["in_doubt"], "lost, or sent and not accounted for"
        assert 10_000 < max(found) <= last
        again = await _again(push, *(line(number) for number in sorted(listed["in_doubt"])))
        assert again["accepted"] == account["inDoubt"]
        assert await _numbers(deployment) == accepted | listed["in_doubt"]


async def test_a_batch_outlasts_a_kafka_that_is_soon_back(
    broker_factory: Callable[[], EmbeddedKafka], tmp_path: Path
) -> None:
    kafka = broker_factory().start()
    deployment, settings = deployed(kafka.bootstrap_servers, tmp_path, publish_timeout_ms=60_000)

    async def lines() -> AsyncGenerator[bytes, None]:
        for number in range(1, 10_001):
            if number == 5_000:
                await asyncio.sleep(0.1)
                kafka.kill()
                kafka.start()
            yield line(number) + b"\n"

    async with service(deployment, settings) as push:
        response = await push.client.post(URL, data=lines(), headers=NDJSON)
        account = await response.json()
        assert response.status == 202, account
        assert account["accepted"] == 10_000
    found = await asyncio.to_thread(records, deployment)
    assert {update_id: len(copies) for update_id, copies in found.items()} == {f"u{n}": 1 for n in range(1, 10_001)}


async def test_a_batch_that_is_being_read_at_a_stop_is_accounted_for(broker: EmbeddedKafka, tmp_path: Path) -> None:
    deployment, settings = deployed(broker.bootstrap_servers, tmp_path)
    begun = asyncio.Event()

    async def lines() -> AsyncGenerator[bytes, None]:
        yield b"".join(line(number) + b"\n" for number in range(1, 101))
        begun.set()
        await asyncio.sleep(60)

    async with service(deployment, settings) as push:
        answering = asyncio.create_task(_post(push, lines()))
        await begun.wait()
        while len(await _numbers(deployment)) < 100:  # noqa: ASYNC110 - what is waited for happens in Kafka
            await asyncio.sleep(0.05)
        await push.app.shutdown()
        response = await answering
        account = await response.json()
        assert response.status == 503
        assert (account["received"], account["accepted"], account["lastLine"]) == (100, 100, 100)
        assert "stopping" in account["detail"]


async def _post(push: Service, lines: AsyncGenerator[bytes, None]) -> ClientResponse:
    return await push.client.post(URL, data=lines, headers=NDJSON)


async def _again(push: Service, *lines: bytes) -> dict[str, Any]:
    """As a sender does on 503."""
    for _ in range(20):
        response = await push.ndjson(*lines)
        if response.status != 503:
            break
        await asyncio.sleep(float(response.headers["Retry-After"]))
    answer = await response.json()
    assert isinstance(answer, dict)
    return answer


async def _numbers(deployment: Deployment) -> set[int]:
    return {int(update_id[1:]) for update_id in await asyncio.to_thread(records, deployment)}
