"""Writes inventory.stock as a worker does, and reads it through the API, in one process."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from confluent_kafka import Producer

from api.app import make_app
from api.reservations.desk import CommandLog, Delivered, Desk
from api.server import open_view
from schemas.admin import Deployed, ensure_topics
from schemas.codec import Record
from schemas.keys import POSITION, partition_of, source_key
from schemas.rows import Count, Delta, Position, Source, StockRow, encode, encode_row
from schemas.topics import COMMANDS, RESERVATION_STEPS, STOCK, UPDATES
from stockweave.clients import CLIENT_LOGGER
from stockweave.errors import Retriable
from stockweave.settings import Settings

WAIT_S = 30.0
T0 = 1_700_000_000_000


def row(sku: str, version: int = 1, changed_at: int = T0, **quantities: int) -> StockRow:
    """A row with a count for each `supplier` or `supplier__location`."""
    sources = {}
    for name, quantity in quantities.items():
        supplier, _, location = name.partition("__")
        sources[source_key(supplier, location or "default")] = Source(Count(0, f"c-{name}", T0 - 1_000, quantity))
    return StockRow(sku, version, sum(quantities.values()), changed_at, sources)


def with_delta(row: StockRow, supplier: str, quantity: int) -> StockRow:
    row.sources[source_key(supplier, "default")].deltas.append(Delta(T0, f"d{quantity}", quantity, "order-1"))
    row.on_hand += quantity
    return row


class Stock:
    """One deployment's inventory.stock, written in transactions of rows and, last, positions."""

    def __init__(self, bootstrap_servers: str, folder: Path, partitions: int = 3) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.settings = Settings(
            bootstrap_servers=bootstrap_servers,
            topic_prefix=f"t{uuid.uuid4().hex[:8]}.",
            partitions=partitions,
            data_dir=folder,
            read_wait_ms=2_000,
        )
        self.topics: dict[str, Deployed] = {}
        self.create()
        self.next_update = [0] * partitions
        self.next_command = [0] * partitions
        self.next_step = [0] * partitions
        self.outcomes: list[dict[str, list[int]]] = [{} for _ in range(partitions)]
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "transactional.id": self.settings.group,
                "transaction.timeout.ms": 10_000,
            },
            logger=CLIENT_LOGGER,
        )
        self._producer.init_transactions(WAIT_S)

    def create(self) -> None:
        self.topics = ensure_topics(self.settings, self.bootstrap_servers)

    @property
    def generation(self) -> str:
        return self.topics[STOCK.name].generation

    def begin(self, rows: Iterable[StockRow], removed: Iterable[str] = ()) -> str:
        """Write rows and positions in a transaction that stays open; the token of its last updates."""
        self._producer.begin_transaction()
        values = {r.sku: encode_row(r) for r in rows} | dict.fromkeys(removed)
        tokens = []
        for partition in sorted({self.partition(sku) for sku in values}):
            for sku, value in values.items():
                if self.partition(sku) == partition:
                    self._produce(partition, sku.encode(), value)
            tokens.append(self._move(partition, "applied"))
        self._producer.flush(WAIT_S)
        return ",".join(tokens)

    def end(self, *, commit: bool = True) -> None:
        if commit:
            self._producer.commit_transaction(WAIT_S)
        else:
            self._producer.abort_transaction(WAIT_S)

    def write(self, *rows: StockRow, removed: Iterable[str] = ()) -> str:
        """A committed transaction; its token."""
        token = self.begin(rows, removed)
        self.end()
        return token

    def duplicate(self, partition: int) -> str:
        """A committed transaction that changed no row; its token."""
        self._producer.begin_transaction()
        token = self._move(partition, "duplicate")
        self.end()
        return token

    def dead_letter(self, partition: int) -> str:
        """A committed transaction that read nothing usable; its token."""
        self._producer.begin_transaction()
        token = self._move(partition, "duplicate", oldest_received_at=0)
        self.end()
        return token

    def decide(self, partition: int, records: Mapping[bytes, bytes | None], next_command: int | None = None) -> None:
        """A committed transaction of what commands below `next_command` came to; None: of what lines have answered."""
        self._producer.begin_transaction()
        for key, value in records.items():
            self._produce(partition, key, value)
        if next_command is None:
            self.next_step[partition] += 1
        else:
            self.next_command[partition] = next_command
        self._place(partition, oldest_received_at=0)
        self.end()

    def partition(self, sku: str) -> int:
        return partition_of(sku.encode(), self.settings.partitions)

    def _move(self, partition: int, outcome: str, oldest_received_at: int | None = None) -> str:
        at = self.next_update[partition]
        self.next_update[partition] = at + 1
        counts = self.outcomes[partition].setdefault("acme", [0, 0, 0, 0])
        counts[("applied", "duplicate").index(outcome)] += 1
        self._place(partition, oldest_received_at)
        return f"{partition}-{at}"

    def _place(self, partition: int, oldest_received_at: int | None) -> None:
        now = time.time_ns() // 1_000_000
        oldest = now if oldest_received_at is None else oldest_received_at
        offsets = {UPDATES.name: self.next_update[partition]}
        if self.next_command[partition]:
            offsets[COMMANDS.name] = self.next_command[partition]
        if self.next_step[partition]:
            offsets[RESERVATION_STEPS.name] = self.next_step[partition]
        self._produce(partition, POSITION, encode(Position(offsets, self.outcomes[partition], now, oldest)))

    def _produce(self, partition: int, key: bytes, value: bytes | None) -> None:
        self._producer.produce(self.topics[STOCK.name].name, value, key, partition)
        self._producer.poll(0)


class NoCommands:
    """A log of commands that takes none."""

    async def deliver(self, updates: Sequence[Record], /) -> Delivered:
        raise Retriable("no command is taken here")


class Reader:
    """The API over a view in the deployment's data folder; an async context manager that waits until it is ready."""

    def __init__(
        self,
        stock: Stock,
        *,
        wait: bool = True,
        commands: CommandLog | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._stock = stock
        self._settings = settings or stock.settings
        self._wait = wait
        self._commands = commands or NoCommands()

    async def __aenter__(self) -> Self:
        stock, settings = self._stock, self._settings
        self.view = open_view(settings, stock.bootstrap_servers, stock.topics[STOCK.name])
        desk = Desk(self.view, self._commands, settings.reserve_wait_ms)
        app = make_app(desk, stock.topics[UPDATES.name].name, settings.read_wait_ms)
        self.client: TestClient[Request, Application] = TestClient(TestServer(app))
        await self.client.start_server()
        self.running = asyncio.create_task(self.view.run())
        if self._wait:
            await self.ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.close()
        self.view.stop()
        await asyncio.wait({self.running})
        self.view.close()
        if not self.running.cancelled() and error is None:
            self.running.result()

    async def ready(self) -> None:
        async with asyncio.timeout(WAIT_S):
            while not self.view.caught_up:
                assert not self.running.done(), self.running.exception()
                await asyncio.sleep(0.01)

    async def get(self, path: str, status: int = 200, **query: Any) -> Any:
        """The JSON body of a GET that must answer with `status`."""
        async with self.client.get(path, params=query) as response:
            text = await response.text()
            assert response.status == status, text
            kind = "application/problem+json" if status >= 400 and path != "/readyz" else "application/json"
            assert response.content_type == kind
            return await response.json(content_type=kind)

    async def item(self, sku: str, **query: Any) -> Any:
        return await self.get("/api/v1/inventory", sku=sku, **query)
