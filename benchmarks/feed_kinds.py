"""One large stock in the hands of suppliers of several kinds: servers as processes of their own, and two who send.

Each gives what of a feed names it; the rows and their numbers are the same. Used by `feeds`.
"""

from __future__ import annotations

import asyncio
import hmac
import multiprocessing
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from connectors.testing.ftp_server import FtpServer
from connectors.testing.sftp_server import SftpServer

SECRET = "BENCH_SUPPLIER_SECRET"  # the variable's name
USER = "bench"
PAGE_ROWS = 10_000
STOP_S = 60.0
AGAIN_S = 0.2
CSV = {"format": "csv", "delimiter": ";"}
COLUMNS = {"version": 1, "sku": "article", "quantity": "stock", "location": "warehouse"}
FIELDS = {"version": 1} | {name: f"$.{column}" for name, column in COLUMNS.items() if name != "version"}
NUMBERED = FIELDS | {"update_id": "$.id"}  # a poll that is read again has no ids of ours that are the same

Send = Callable[[int], None]


@dataclass
class Supplied:
    """What of a feed names its supplier. `send`: given our port, sends all that there is, each until it is taken."""

    source: dict[str, Any]
    format: dict[str, Any] = field(default_factory=lambda: dict(CSV))
    mapping: dict[str, Any] = field(default_factory=lambda: dict(COLUMNS))
    send: Send | None = None


@contextmanager
def supplier(kind: str, file: Path) -> Iterator[Supplied]:
    """A supplier who has the file; one of `KINDS`."""
    os.environ[SECRET] = uuid.uuid4().hex
    with KINDS[kind](file) as supplied:
        yield supplied


@contextmanager
def _folder(file: Path) -> Iterator[Supplied]:
    yield Supplied({"kind": "folder", "path": str(file.parent), "settle_s": 0.0})


@contextmanager
def _sftp(file: Path) -> Iterator[Supplied]:
    with _process(_serve_sftp, file) as login:
        yield Supplied({"kind": "sftp", "path": "/", "password": {"env": SECRET}, "settle_s": 0.0} | login)


@contextmanager
def _ftp(file: Path) -> Iterator[Supplied]:
    with _process(_serve_ftp, file) as login:
        source = {"kind": "ftp", "path": "/", "password": {"env": SECRET}, "settle_s": 0.0, "tls": "none"}
        yield Supplied(source | login)


@contextmanager
def _rest(file: Path) -> Iterator[Supplied]:
    with _process(_serve_rest, file) as address:
        pages = {"by": "number", "first": 0, "size": PAGE_ROWS}
        yield Supplied({"kind": "rest", "pages": pages} | address, {"format": "json"}, NUMBERED)


@contextmanager
def _upload(file: Path) -> Iterator[Supplied]:
    def send(port: int) -> None:
        while not _taken(port, "/uploads/acme/stock?name=stock.csv", file, {"Authorization": f"Bearer {_secret()}"}):
            time.sleep(AGAIN_S)

    source = {"kind": "upload", "path": str(file.parent.parent / f"in-{uuid.uuid4().hex[:6]}"), "bytes_max": 1 << 40}
    yield Supplied(source | {"token": {"env": SECRET}}, send=send)


@contextmanager
def _webhook(file: Path) -> Iterator[Supplied]:
    def send(port: int) -> None:
        for number, page in enumerate(map(_page, _pages(file))):
            signature = hmac.new(_secret().encode(), page, "sha256").hexdigest()
            while not _taken(port, "/hooks/acme/stock", page, {"X-Sig": signature, "X-Delivery": str(number)}):
                time.sleep(AGAIN_S)

    signature = {"scheme": "hmac", "header": "X-Sig", "secret": {"env": SECRET}}
    source = {"kind": "webhook", "signature": signature, "delivery_id_header": "X-Delivery", "body_bytes_max": 2 << 20}
    yield Supplied(source, {"format": "json"}, NUMBERED, send)


KINDS: dict[str, Callable[[Path], AbstractContextManager[Supplied]]] = {
    "sftp": _sftp,
    "ftp": _ftp,
    "folder": _folder,
    "rest": _rest,
    "upload": _upload,
    "webhook": _webhook,
}


def _secret() -> str:
    return os.environ[SECRET]


def _taken(port: int, path: str, body: bytes | Path, headers: dict[str, str]) -> bool:
    """Whether it was; not while nobody listens, nor when it is to be sent again."""
    connection = HTTPConnection("127.0.0.1", port, timeout=STOP_S)
    try:
        if isinstance(body, Path):
            with body.open("rb") as file:
                length = {"Content-Length": str(body.stat().st_size)}
                connection.request("POST", path, file, headers | length)
                status = connection.getresponse().status
        else:
            connection.request("POST", path, body, headers)
            status = connection.getresponse().status
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return status in (201, 202)


def _pages(file: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Lines of the file, a page at a time, with the number of the first."""
    with file.open("rb") as lines:
        next(lines)
        first, page = 0, []
        for line in lines:
            page.append(line)
            if len(page) == PAGE_ROWS:
                yield first, page
                first, page = first + len(page), []
    if page:
        yield first, page


def _page(numbered: tuple[int, list[bytes]]) -> bytes:
    """As JSON; the id of a row ends as that of a file's row does, in its number."""
    first, lines = numbered
    rows = []
    for number, line in enumerate(lines, first):
        article, stock, warehouse, _ = line.decode().split(";")
        rows.append({"article": article, "stock": int(stock), "warehouse": warehouse, "id": f"row:{number}"})
    return orjson.dumps(rows)


@contextmanager
def _process(serve: Callable[[Path, str, Connection], None], file: Path) -> Iterator[dict[str, Any]]:
    """A server that runs by itself; what of a source names it."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(file, _secret(), theirs))
    server.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        server.join(STOP_S)


def _serve_sftp(file: Path, password: str, told: Connection) -> None:
    async def serve() -> None:
        async with SftpServer(file.parent, password) as server:
            told.send({"host": "127.0.0.1", "port": server.port, "user": server.user, "host_key": server.host_key})
            await asyncio.to_thread(told.recv)

    asyncio.run(serve())


def _serve_ftp(file: Path, password: str, told: Connection) -> None:
    with FtpServer(file.parent, password, "none", user=USER) as server:
        told.send({"host": "127.0.0.1", "port": server.port, "user": USER})
        told.recv()


def _serve_rest(file: Path, _: str, told: Connection) -> None:
    """Page after page, as they are asked for in turn: of the file, no more than one is held."""

    async def serve() -> None:
        pages: Iterator[tuple[int, list[bytes]]] = iter(())

        async def page(request: web.Request) -> web.Response:
            nonlocal pages
            if request.query["page"] == "0":
                pages = _pages(file)
            return web.Response(body=_page(next(pages, (0, []))), content_type="application/json")

        app = web.Application()
        app.router.add_get("/stock", page)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        told.send({"url": f"http://127.0.0.1:{runner.addresses[0][1]}/stock"})
        await asyncio.to_thread(told.recv)
        await runner.cleanup()

    asyncio.run(serve())
