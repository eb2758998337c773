"""The reservation routes over a real Kafka, and a worker that decides; each answer is held against the description."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from jsonschema import Draft202012Validator

from connectors.publisher import Publisher
from inventory.reservations.coordinate import home
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.topics import COMMANDS
from stockweave.settings import Settings
from tests.api.reservations.worker import Worker
from tests.api.stock import Reader, Stock, row
from tests.api.test_description import strict

RESERVE = "/api/v1/inventory/reserve"
RESERVATIONS = "/api/v1/reservations"
BATCH = "/api/v1/reservations:batch"


class Told(NamedTuple):
    """An answer."""

    status: int
    body: Any
    headers: dict[str, str]


class Shop:
    """One API process, with what a storefront does there.

    Args:
        reader: running.
        worker: decides.
    """

    def __init__(self, reader: Reader, worker: Worker) -> None:
        self.reader = reader
        self.worker = worker
        self._validators: dict[tuple[str, str, int], Draft202012Validator] = {}

    async def post(
        self, path: str, body: object, status: int, key: str | None = None, media_type: str = "application/json"
    ) -> Told:
        """POST, which must be answered with `status`; `body`: bytes as they are, None for no body."""
        headers = {} if key is None else {"Idempotency-Key": key}
        if body is not None:
            headers["Content-Type"] = media_type
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        async with self.reader.client.post(path, headers=headers, data=data) as response:
            text = await response.text()
            assert response.status == status, text
            media = "application/problem+json" if status >= 400 else "application/json"
            told = Told(response.status, await response.json(content_type=media), dict(response.headers))
        await self._check("post", path, told, media)
        return told

    async def get(self, path: str, status: int = 200, **query: Any) -> Any:
        """GET, which must be answered with `status`; the body."""
        body = await self.reader.get(path, status, **query)
        media = "application/problem+json" if status >= 400 else "application/json"
        await self._check("get", path, Told(status, body, {}), media)
        return body

    async def reserve(self, sku: str, quantity: int = 1, key: str | None = None, **more: Any) -> Any:
        """Reserve, in full; the reservation."""
        line = {name: more.pop(name) for name in ("location", "supplier") if name in more}
        body = {"order_id": "o-1", "lines": [{"sku": sku, "quantity": quantity} | line]} | more
        return (await self.post(RESERVATIONS, body, 201, key)).body

    async def change(self, own_id: str, action: str, status: int = 200, key: str | None = None, **body: Any) -> Any:
        """Commit, release, fulfil or extend; the body of the answer."""
        return (await self.post(f"{RESERVATIONS}/{own_id}/{action}", body or None, status, key)).body

    async def stocked(self, sku: str, **quantities: int) -> None:
        """Let a SKU have sources, as `tests.api.stock.row`, and the view know of it."""
        token = self.worker.stock(row(sku, **quantities))
        await self.reader.item(sku, min_offset=token)

    async def available(self, sku: str) -> int:
        """As a storefront reads it."""
        quantity = (await self.reader.item(sku))["available_quantity"]
        assert isinstance(quantity, int)
        return quantity

    async def _check(self, method: str, path: str, told: Told, media: str) -> None:
        described = re.sub(r"^(/api/v1/reservations)/[^/]+", r"\1/{id}", path.partition("?")[0])
        name = method, described, told.status
        if name not in self._validators:
            document = await self.reader.get("/openapi.json")
            answer = document["paths"][described][method]["responses"][str(told.status)]
            schema = strict(answer["content"][media]["schema"]) | {"components": strict(document["components"])}
            self._validators[name] = Draft202012Validator(schema)
        self._validators[name].validate(told.body)


@asynccontextmanager
async def opened(stock: Stock, worker: Worker, folder: Path, **settings: Any) -> AsyncIterator[Shop]:
    """An API process of the deployment, with a folder of its own."""
    own: Settings = stock.settings.model_copy(update={"data_dir": folder, **settings})
    codec = Codec("ReservationCommand", FileRegistry())
    commands = Publisher(
        stock.bootstrap_servers, stock.topics[COMMANDS.name].name, codec, own.reserve_wait_ms, 0.5, key_of=home
    )
    async with commands, Reader(stock, commands=commands, settings=own) as reader:
        yield Shop(reader, worker)
