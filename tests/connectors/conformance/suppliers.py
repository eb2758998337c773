"""A supplier of every kind, with the same stock and its own way to fail.

What `connectors.testing.simulate` starts is one by that alone. Beside it: a topic of a Kafka, a folder of this machine,
and two who send, each delivery until it is taken, some twice and some cut on the way before.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import ClientConnectionError

from connectors.testing.http_server import HttpSupplier
from connectors.testing.simulate import COLUMNS, CSV, FILES, MAPPED, SECRET, STARTS, Config, Stock
from tests.connectors.inbound.sending import hook_feed, post, signed
from tests.connectors.inbound.test_server import BEARER, upload_feed
from tests.connectors.kafka.test_source import Supplier as Topic
from tests.connectors.running import Running, units

HTTP = ("rest", "graphql", "soap", "since")
SEED = 11
RENAMED = "menge"  # what a supplier may call `stock` from some day on
CUT_SHARE = TWICE_SHARE = 0.3


class Offers(Stock):
    """What the supplier of a test has.

    Args:
        running: whose Kafka may be his as well, and where he sends to.
        folder: his own.
        offers: how many.
        share: of what goes wrong, from 0 to 1.
        name: of the supplier.
        url: of whom he sends to.
    """

    def __init__(self, running: Running, folder: Path, offers: int, share: float, name: str, url: str) -> None:
        (folder / "out").mkdir(parents=True)
        super().__init__(offers, folder, share, SEED)
        self.secret.write_text(SECRET)
        self.name, self.url, self.share = name, url, share
        self.servers = running.deployment.bootstrap_servers
        self.clock_ahead_s = 0
        self.topic: Topic | None = None
        self.to_send: deque[list[dict[str, Any]]] = deque()

    @property
    def now_ms(self) -> int:
        """By his clock."""
        return time.time_ns() // 1_000_000 + self.clock_ahead_s * 1_000

    def write(self) -> None:
        """To every place where a kind may look: a file, by a clock that tells seconds, a topic, what he is to send."""
        self._files += 1
        fresh = self.out / ".fresh"
        fresh.write_bytes(self._csv(self.rows))
        now_s = self.now_ms // 10_000 * 10  # so that many are of one moment
        os.utime(fresh, (now_s, now_s))
        fresh.rename(self.out / f"stock-{self._files:06}.csv")
        if self.topic is not None:
            self.topic.tell(0, self.now_ms, **{row["code"]: row["stock"] for row in self.rows})
        self.to_send.append([dict(row) for row in self.rows])

    def change(self) -> None:
        """Some offers have another stock."""
        before = [row["stock"] for row in self.rows]
        super().change()
        for row, was in zip(self.rows, before, strict=True):
            if row["stock"] != was:
                row["changed_ms"] = self.now_ms

    @property
    def held(self) -> dict[str, int]:
        """By SKU."""
        return {row["code"]: row["stock"] for row in self.rows}

    def said(self, running: Running) -> dict[str, int]:
        """Of his offers, by the updates that Kafka has."""
        return units([each for each in running.updates() if each["supplier_id"] == self.name])

    @staticmethod
    def _csv(rows: list[dict[str, Any]]) -> bytes:
        quantity = "Menge" if RENAMED in rows[0] else "Bestand"
        units = RENAMED if RENAMED in rows[0] else "stock"
        return "\n".join([f"Artikel;{quantity}", *(f"{row['code']};{row[units]}" for row in rows), ""]).encode()

    async def send(self, path: str, encoded: Callable[[list[dict[str, Any]]], bytes], **headers: str) -> None:
        """What there is to be sent, one after another, for ever."""
        number = 0
        while True:
            if not self.to_send:
                await asyncio.sleep(0.02)
                continue
            number, raw = number + 1, encoded(self.to_send.popleft())
            own = {key: value.format(number=number) for key, value in signed(raw, **headers).items()}
            if self._rng.random() < CUT_SHARE * bool(self.share):
                await self._cut(path.format(number=number), raw, own)
            times = 1 + (self._rng.random() < TWICE_SHARE * bool(self.share))
            while times:
                try:
                    status, _, text = await post(self.url + path.format(number=number), raw, own)
                except ClientConnectionError:
                    status, text = 0, ""
                assert status not in (400, 401, 404, 413, 415), text
                times -= status in (201, 202)
                if status not in (201, 202):
                    await asyncio.sleep(0.1)

    async def _cut(self, path: str, raw: bytes, headers: dict[str, str]) -> None:
        """Half of it, and the connection is lost."""
        to = urlsplit(self.url)
        try:
            _, writer = await asyncio.open_connection(to.hostname, to.port)
        except OSError:
            return  # nobody is there
        lines = [f"POST {path} HTTP/1.1", f"Host: {to.netloc}", f"Content-Length: {len(raw)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + raw[: len(raw) // 2])
        await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def _since(stock: Offers) -> AsyncIterator[Config]:
    """Asked for what has changed alone, so that what was missed once is missed for good."""
    async with HttpSupplier(stock.rows, stock.faults, key=SECRET) as supplier:
        supplier.changed_s, supplier.clock_ahead_s = int(time.time()), stock.clock_ahead_s
        source = {
            "kind": "rest",
            "url": f"{supplier.origin}/stock",
            "since": {"parameter": "since", "format": "unix_ms"},
            "credentials": {"kind": "api_key", "header": "X-Api-Key", "value": {"file": str(stock.secret)}},
            "timeout_s": 2.0,
        }
        yield {"source": source, "format": {"format": "json"}, "mapping": MAPPED}


@asynccontextmanager
async def _kafka(stock: Offers) -> AsyncIterator[Config]:
    stock.topic = Topic(stock.servers, 1)
    stock.write()
    yield stock.topic.feed(within_s=3_600.0)


@asynccontextmanager
async def _folder(stock: Offers) -> AsyncIterator[Config]:
    yield {"source": {"kind": "folder"} | FILES | {"path": str(stock.out)}, "format": CSV, "mapping": COLUMNS}


@asynccontextmanager
async def _webhook(stock: Offers) -> AsyncIterator[Config]:
    def encoded(rows: list[dict[str, Any]]) -> bytes:
        return orjson.dumps({"items": rows})

    sending = asyncio.create_task(stock.send(f"/hooks/{stock.name}/stock", encoded, **{"X-Delivery": "{number}"}))
    try:
        yield hook_feed(stock.secret.parent, {"delivery_id_header": "X-Delivery"})
    finally:
        await _ended(sending)


@asynccontextmanager
async def _upload(stock: Offers) -> AsyncIterator[Config]:
    path = f"/uploads/{stock.name}/stock?name=stock-{{number:06}}.csv"
    sending = asyncio.create_task(stock.send(path, stock._csv, **BEARER))
    try:
        yield upload_feed(stock.secret.parent, then="delete") | {"format": CSV, "mapping": COLUMNS}
    finally:
        await _ended(sending)


async def _ended(sending: asyncio.Task[None]) -> None:
    if sending.done():
        sending.result()
    sending.cancel()
    await asyncio.wait([sending])


KINDS: dict[str, Callable[[Any], AbstractAsyncContextManager[Config]]] = STARTS | {
    "since": _since,
    "kafka": _kafka,
    "folder": _folder,
    "webhook": _webhook,
    "upload": _upload,
}


@asynccontextmanager
async def started(
    kind: str, running: Running, folder: Path, url: str, offers: int = 150, share: float = 0.15, ahead_s: int = 0
) -> AsyncIterator[tuple[Offers, Config]]:
    """A supplier `acme-<kind>`, and his feed.

    Args:
        kind: one of `KINDS`.
        running: what is to read him.
        folder: his own.
        url: of where he sends to.
        offers: how many he has.
        share: of requests that fail; transfers wait a little.
        ahead_s: of his clock.
    """
    own = share if kind in HTTP else min(share, 0.001)
    stock = Offers(running, folder / kind, offers, own, f"acme-{kind}", url)
    stock.clock_ahead_s = ahead_s
    stock.write()
    async with KINDS[kind](stock) as feed:
        yield stock, feed | {"poll": {"every_s": 0.3}}
