"""The push routes in a real server, on topics of their own, with what reached Kafka readable again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import orjson
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from connectors.publisher import Publisher
from connectors.push.app import ROOT, create_app
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.topics import UPDATES
from stockweave import problems
from stockweave.settings import Settings
from tests.deployment import Deployment

NOW_MS = 1_790_000_000_000
AT_MS = NOW_MS - 60_000


class StoppedClock:
    """Always the same moment."""

    def now_ms(self) -> int:
        return NOW_MS

    def monotonic_s(self) -> float:
        return 0.0


class Service:
    """`async with` starts and stops it.

    Args:
        settings: `publish_timeout_ms`, limits.
        topic: of the updates.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        assert settings.bootstrap_servers is not None
        codec = Codec("StockUpdate", FileRegistry())
        self.publisher = Publisher(settings.bootstrap_servers, topic, codec, settings.publish_timeout_ms)
        self.app = web.Application(middlewares=[problems.middleware])
        self.app.add_subapp(ROOT, create_app(settings, self.publisher, StoppedClock()))
        self.client: TestClient[web.Request, web.Application] = TestClient(TestServer(self.app))

    async def __aenter__(self) -> Self:
        await self.publisher.start()
        await self.client.start_server()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.close()
        await self.publisher.stop()

    async def post(
        self, path: str, data: Any = None, supplier: str = "acme", headers: Mapping[str, str] | None = None
    ) -> ClientResponse:
        """The whole answer, read."""
        url = f"{ROOT}/{supplier}/{path}"
        response = await self.client.post(url, data=data, headers=headers, skip_auto_headers=["Content-Type"])
        await response.read()
        return response

    async def one(self, **fields: Any) -> ClientResponse:
        """Push one update as JSON."""
        return await self.post("inventory-update", orjson.dumps(fields), headers=JSON)

    async def array(self, items: object) -> ClientResponse:
        """Push a JSON array."""
        return await self.post("inventory-batch-update", orjson.dumps(items), headers=JSON)

    async def ndjson(self, *lines: bytes) -> ClientResponse:
        """Push lines."""
        return await self.post("inventory-batch-update", b"\n".join(lines), headers=NDJSON)


JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}


def fields(number: int = 1, **changed: Any) -> dict[str, Any]:
    """A valid update as a supplier sends it; `number` tells it from others. None leaves a field out."""
    made = {
        "sku": f"sku-{number % 50}",
        "quantity": number,
        "timestamp": AT_MS + number % 1000,
        "updateId": f"u{number}",
    }
    return {name: value for name, value in (made | changed).items() if value is not None}


def line(number: int = 1, **changed: Any) -> bytes:
    """The same as a line."""
    return orjson.dumps(fields(number, **changed))


def deployed(bootstrap_servers: str, folder: Path, **changed: Any) -> tuple[Deployment, Settings]:
    """Topics of their own, and settings for them."""
    deployment = Deployment(bootstrap_servers, folder)
    return deployment, deployment.base.model_copy(update=changed)


def service(deployment: Deployment, settings: Settings) -> Service:
    """Not started."""
    return Service(settings, deployment.topics[UPDATES.name].name)


def records(deployment: Deployment) -> dict[str, list[dict[str, Any]]]:
    """What Kafka has, by update id."""
    found: dict[str, list[dict[str, Any]]] = {}
    for message in deployment.read(UPDATES.name):
        [record] = deployment.codec.decode([cast("bytes", message.value())])
        assert isinstance(record, dict)
        assert message.key() == record["sku"].encode()
        where = {"partition": message.partition(), "offset": message.offset(), "headers": message.headers()}
        found.setdefault(record["update_id"], []).append(record | where)
    return found
