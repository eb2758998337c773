"""A supplier who sends to connectors in this process: configures such feeds, signs, posts."""

from __future__ import annotations

import asyncio
import hmac
import io
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from connectors.configuration.load import load
from connectors.inbound.server import Inbound
from connectors.kinds import kinds
from connectors.publisher import Publisher
from schemas.topics import RECEIVED
from stockweave.ports import free_port
from stockweave.world import SystemClock
from tests.connectors.running import SIMPLE, Running

SECRET = "s3cret-of-the-supplier"


def listening(running: Running) -> str:
    """Give it a port; the address to send to."""
    port = free_port()
    running.deployment.base = running.deployment.base.model_copy(update={"connectors_port": port})
    return f"http://127.0.0.1:{port}"


class Receiver:
    """The server alone, with the configuration of `running`; it runs no feeds.

    Args:
        running: its folder of configuration, and its Kafka.
        servers: another Kafka.
    """

    def __init__(self, running: Running, servers: str | None = None) -> None:
        self._running = running
        self.url = listening(running)
        settings = running.deployment.base
        topic = running.deployment.topics[RECEIVED.name].name
        self.publisher = Publisher(
            servers or running.deployment.bootstrap_servers, topic, running.deployment.codec, 2_000
        )
        self._inbound = Inbound(settings, self.publisher, SystemClock())

    async def __aenter__(self) -> Self:
        await self.publisher.start()
        loaded = load(self._running.folder, kinds())
        assert loaded.faults == []
        await self._inbound.configure(loaded)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inbound.stop()
        await self.publisher.stop()


def hook_feed(folder: Path, source: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A feed of JSON objects with `code` and `stock`, signed in `X-Sig`."""
    signature = {"scheme": "hmac", "header": "X-Sig", "secret": kept(folder)}
    return {
        "source": {"kind": "webhook", "signature": signature} | (source or {}),
        "format": {"format": "json", "records": "$.items[*]"},
        "mapping": SIMPLE,
        "poll": {"every_s": 3_600.0},  # what comes is read when it comes
    } | more


def kept(folder: Path, name: str = "secret", text: str = SECRET) -> dict[str, str]:
    """A secret, in a file."""
    (folder / name).write_text(text)
    return {"file": str(folder / name)}


def body(**stock: int) -> bytes:
    """Counts by code."""
    return orjson.dumps({"items": [{"code": code, "stock": units} for code, units in stock.items()]})


def signed(raw: bytes, **headers: str) -> dict[str, str]:
    return {"X-Sig": hmac.new(SECRET.encode(), raw, "sha256").hexdigest()} | headers


async def post(
    url: str, data: Any, headers: dict[str, str] | None = None, method: str = "POST", **more: Any
) -> tuple[int, dict[str, Any], str]:
    """The status, the headers and the text of the answer."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=data, headers=headers, **more) as response,
    ):
        return response.status, dict(response.headers), await response.text()


async def send(url: str, raw: bytes, **headers: str) -> int:
    """Signed; the status."""
    return (await post(url, io.BytesIO(raw), signed(raw, **headers)))[0]


async def ready(running: Running, url: str) -> None:
    """Wait until suppliers may send."""
    for _ in range(600):
        try:
            if (await post(f"{url.partition('/hooks')[0]}/healthz", None, method="GET"))[0] == 200:
                return
        except aiohttp.ClientConnectionError:
            assert running.task is not None
            assert not running.task.done(), running.task
        await asyncio.sleep(0.05)
    raise AssertionError("nobody listens")
