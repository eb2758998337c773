"""A batch of any length takes no more memory than a short one."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import orjson
import psutil

from stockweave.broker.kafka import EmbeddedKafka
from tests.connectors.service import NDJSON, Service, deployed, line, service


class Peak:
    """Most memory that the process had while it is open, in bytes."""

    def __enter__(self) -> Peak:
        self.process = psutil.Process()
        self.before_bytes = self.most_bytes = self.process.memory_info().rss
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._ended.wait(0.02):
            self.most_bytes = max(self.most_bytes, self.process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def growth_bytes(self) -> int:
        return self.most_bytes - self.before_bytes


async def test_memory_does_not_grow_with_the_length_of_a_batch(broker: EmbeddedKafka, tmp_path: Path) -> None:
    deployment, settings = deployed(broker.bootstrap_servers, tmp_path)
    async with service(deployment, settings) as push:
        await _measure(push)


async def _measure(push: Service) -> None:
    sent_bytes = 0

    async def stream(count: int) -> AsyncGenerator[bytes, None]:
        nonlocal sent_bytes
        for first in range(0, count, 1_000):
            part = b"".join(
                (line(i, updateId=f"long-{i}") if i % 4 else line(i, sku="")) + b"\n"
                for i in range(first, first + 1_000)
            )
            sent_bytes += len(part)
            yield part

    async def push_lines(count: int) -> tuple[int, dict[str, Any], int]:
        url = "/api/v1/suppliers/acme/inventory-batch-update"
        async with push.client.post(url, data=stream(count), headers=NDJSON) as response:
            head = await response.content.readexactly(200)
            rest_bytes = 0
            async for part in response.content.iter_any():
                rest_bytes += len(part)
            account = orjson.loads(head.split(b',"errors"')[0] + b"}")
            return response.status, account, rest_bytes

    await push_lines(40_000)
    sent_bytes = 0
    with Peak() as peak:
        status, account, errors_bytes = await push_lines(240_000)
    assert status == 207
    assert (account["received"], account["accepted"], account["rejected"]) == (240_000, 180_000, 60_000)
    assert errors_bytes > 60_000 * 50
    assert peak.growth_bytes < 10 << 20 < sent_bytes + errors_bytes, f"{peak.growth_bytes >> 20} MiB more"
