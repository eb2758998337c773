"""Secrets of every kind, planted everywhere; whatever goes wrong, none of them is in anything that is written."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import prometheus_client
import pytest
import structlog

from connectors.kinds import kinds
from connectors.preview import preview
from connectors.runner import breaker, pace
from connectors.testing.certificates import Authority
from connectors.testing.faults import Fault, Faults, Served
from connectors.testing.ftp_server import FtpServer
from connectors.testing.graphql_server import GraphqlSupplier
from connectors.testing.http_server import HttpSupplier
from connectors.testing.sftp_server import SftpServer
from connectors.testing.soap_server import STOCK, SoapSupplier
from connectors.testing.token_issuer import TokenIssuer
from connectors.testing.transfer_faults import TransferFaults
from schemas.topics import CATALOGUE
from stockweave.errors import Rejected, Retriable
from stockweave.logs import _QUIET, configure_logs
from tests.connectors.files.fetching import put
from tests.connectors.graphql.test_source import configured
from tests.connectors.inbound.sending import SECRET as SIGNED_WITH
from tests.connectors.inbound.sending import hook_feed, listening, post, ready, signed
from tests.connectors.inbound.test_server import BEARER, TOKEN, upload_feed
from tests.connectors.running import SIMPLE, Running
from tests.stockweave.dlq.test_command import Dlq

PLANTED = "planted-secret-that-nobody-is-told"
ROWS: list[dict[str, Any]] = [{"code": "s1", "stock": 1}, {"code": "s2", "stock": 2}, {"code": "s3", "stock": "many"}]
FILE = b"code,stock\ns1,1\ns2,2\ns3,many\n" + b"".join(b"t%d,1\n" % n for n in range(2_000))
JSON = {"format": {"format": "json"}, "mapping": SIMPLE | {"sku": "$.code", "quantity": "$.stock"}}
POLL = {"poll": {"every_s": 0.2}}
LIMITS = {"requests_per_s": 1_000.0, "burst": 1_000, "at_once": 100}


def plan() -> Faults:
    """Each fault once."""
    return Faults([None, *Fault])


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """All that is logged, at the lowest level, by whomever."""
    for module in (pace, breaker):
        monkeypatch.setattr(module, "PAUSE_S_MAX", 0.1)
    root, stream = logging.getLogger(), io.StringIO()
    before, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in _QUIET}
    configure_logs("connectors", level=logging.DEBUG, stream=stream)
    structlog.configure(cache_logger_on_first_use=False)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)


class Suppliers:
    """Of every kind, right and wrong secrets to each. `feeds`: by name; `told`: what else nobody may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.feeds: dict[str, dict[str, Any]] = {}
        self.told = [PLANTED, SIGNED_WITH, TOKEN, base64.b64encode(PLANTED.encode()).decode().rstrip("=")[:-1]]
        self.served: list[Served] = []
        self.signed: list[HttpSupplier] = []
        self.transfers: list[TransferFaults] = []
        self._stack = AsyncExitStack()

    def secret(self, name: str, text: str = PLANTED) -> dict[str, str]:
        return {"file": str(put(self.folder / "secrets" / name, text.encode()))}

    async def __aenter__(self) -> Suppliers:
        await self._rest()
        await self._other_http()
        await self._files()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _rest(self) -> None:
        right, wrong = self.secret("right"), self.secret("wrong", f"{PLANTED}-wrong")
        for name, value in {"right": right, "wrong": wrong}.items():
            for place in ("header", "parameter"):
                key = {"kind": "api_key", "value": value, place: "X-Api-Key" if place == "header" else "key"}
                await self._asked(f"key-{place}-{name}", key, HttpSupplier(ROWS, plan(), key=PLANTED))
            issuer = TokenIssuer(("we", PLANTED))
            issuer.prefix = f"{PLANTED}-token-"
            supplier = HttpSupplier(ROWS, plan(), issuer=issuer)
            client = {"kind": "oauth2_client", "client_id": "we", "client_secret": value}
            await self._asked(f"client-{name}", client, supplier)
            issuer = TokenIssuer(("we", PLANTED), refresh_token=f"{PLANTED}-granted")
            issuer.prefix = f"{PLANTED}-token-"
            file = self.secret(f"refresh-{name}", f"{PLANTED}-granted" + ("" if name == "right" else "-not"))["file"]
            refresh = client | {"kind": "oauth2_refresh", "client_secret": right, "refresh_token_file": file}
            await self._asked(f"refresh-{name}", refresh, HttpSupplier(ROWS, plan(), issuer=issuer))
            token = {"kind": "jwt", "algorithm": "HS256", "key": value, "audience": "stock", "each": "request"}
            self.signed.append(HttpSupplier(ROWS, plan(), signer=PLANTED))
            await self._asked(f"jwt-{name}", token, self.signed[-1])
        await self._asked("jwt-unusable", token | {"algorithm": "RS256"}, HttpSupplier(ROWS, plan()))
        await self._asked("basic", {"kind": "basic", "user": "we", "password": right}, HttpSupplier(ROWS, plan()))
        await self._asked("bearer", {"kind": "bearer", "token": wrong}, HttpSupplier(ROWS, plan(), key="another"))
        authority = Authority(self.folder)
        for name, password in (("shown", right), ("unreadable", wrong)):
            certificate, key_file = authority.issue(name, PLANTED)
            client = {"certificate_file": str(certificate), "key_file": str(key_file), "key_password": password}
            supplier = HttpSupplier(ROWS, plan(), context=authority.server(trusts=authority))
            tls = {"tls": {"ca_file": str(authority.file), "client": client}}
            await self._asked(name, {"kind": "bearer", "token": right}, supplier, **tls)

    async def _asked(self, name: str, credentials: dict[str, Any], supplier: HttpSupplier, **more: Any) -> None:
        await self._started(supplier)
        if str(credentials["kind"]).startswith("oauth2"):
            credentials = credentials | {"token_url": f"{supplier.origin}/token"}
        source = {"kind": "rest", "url": f"{supplier.origin}/stock", "credentials": credentials, "timeout_s": 0.3}
        self.feeds[name] = {"source": source | more} | JSON | POLL

    async def _started(self, supplier: Served) -> None:
        self.served.append(await self._stack.enter_async_context(supplier))

    async def _other_http(self) -> None:
        form = {"format": "xml", "row": f"{{{STOCK}}}item", "namespaces": {"s": STOCK}}
        mapping = SIMPLE | {"sku": "s:code", "quantity": "s:stock"}
        for name, text in {"right": PLANTED, "wrong": f"{PLANTED}-wrong"}.items():
            value = self.secret(f"other-{name}", text)
            bearer = {"kind": "bearer", "token": value}
            graphql = GraphqlSupplier([dict(row) for row in ROWS], plan(), token=PLANTED)
            await self._started(graphql)
            self.feeds[f"graphql-{name}"] = configured(url=graphql.url, credentials=bearer, timeout_s=0.3) | POLL
            soap = SoapSupplier([dict(row) for row in ROWS], plan(), user=("we", PLANTED))
            await self._started(soap)
            source = {
                "kind": "soap", "wsdl": soap.wsdl, "operation": "GetStock", "arguments": {"warehouse": "north"},
                "ws_security": {"user": "we", "password": value}, "credentials": bearer, "timeout_s": 0.3,
            }  # fmt: skip
            self.feeds[f"soap-{name}"] = {"source": source, "format": form, "mapping": mapping} | POLL

    async def _files(self) -> None:
        authority = Authority(self.folder, "files")
        csv = {"format": {"format": "csv"}, "mapping": SIMPLE} | POLL
        for name, text in {"right": PLANTED, "wrong": f"{PLANTED}-wrong"}.items():
            put(self.folder / name / "a.csv", FILE)
            faults = [TransferFaults(cuts=[len(FILE) // 2], refused_logins=1) for _ in range(2)]
            self.transfers += faults if name == "right" else []
            sftp = await self._stack.enter_async_context(SftpServer(self.folder / name, PLANTED, faults=faults[0]))
            ftp = self._stack.enter_context(
                FtpServer(self.folder / name, PLANTED, "explicit", faults=faults[1], context=authority.server())
            )
            common = {"host": "127.0.0.1", "user": "stockweave", "path": "/", "settle_s": 0.0}
            who = common | {"password": self.secret(f"files-{name}", text)}
            trusted = {"host_key": sftp.host_key}
            self.feeds[f"sftp-{name}"] = {"source": {"kind": "sftp", "port": sftp.port} | who | trusted} | csv
            ca = {"ca_file": str(authority.file)}
            self.feeds[f"ftp-{name}"] = {"source": {"kind": "ftp", "port": ftp.port} | who | ca} | csv

    def are_through(self) -> bool:
        """Whether all faults came, but where a wrong secret lets nobody so far."""
        return not any(faults.are_left for faults in self.transfers) and not any(
            each.faults.plan for each in self.served if each.faults.seen
        )


@pytest.fixture
async def suppliers(tmp_path: Path) -> AsyncIterator[Suppliers]:
    (tmp_path / "kept").mkdir()
    async with Suppliers(tmp_path / "kept") as started:
        yield started


async def test_no_secret_is_in_anything_that_is_written_whatever_goes_wrong(
    running: Running,
    suppliers: Suppliers,
    written: io.StringIO,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    url = listening(running)
    feeds = suppliers.feeds | {"hook": hook_feed(tmp_path), "upload": upload_feed(tmp_path)}
    running.configure("acme", LIMITS, **feeds)
    async with running:
        await ready(running, url)
        raw = b'{"items":[{"code":"s1","stock":5},{"code":"s2","stock":"many"}]}'
        wrong = {"X-Sig": PLANTED, "Authorization": f"Bearer {TOKEN}-wrong"}
        for headers, status in ((signed(raw), 202), (wrong, 401)):
            found, _, answer = await post(f"{url}/hooks/acme/hook", raw, headers)
            assert (found, told_in(answer.encode(), suppliers)) == (status, [])
        for headers, status in ((BEARER, 201), (wrong, 401)):
            found, _, answer = await post(f"{url}/uploads/acme/upload?name=a.csv", FILE, headers)
            assert (found, told_in(answer.encode(), suppliers)) == (status, [])
        await running.until(suppliers.are_through, 90.0)  # 25 feeds, each of which fails in every way
        await running.until(lambda: len(running.letters()) >= 10)
    tried = await asyncio.to_thread(previewed, running, list(suppliers.feeds))
    listed = await asyncio.to_thread(Dlq(running), "list", "--json")
    assert listed.returncode == 0
    output = capfdbinary.readouterr()
    everything = {
        "log": written.getvalue().encode(),
        "standard output": output.out,
        "standard error": output.err,
        "try": tried.encode(),
        "dlq": (listed.stdout + listed.stderr).encode(),
        "metrics": prometheus_client.generate_latest(),
    } | {topic.name: records(running, topic.name) for topic in CATALOGUE}
    suppliers.told += [token for supplier in suppliers.signed for token in supplier.bearers]
    assert {where: told for where, text in everything.items() if (told := told_in(text, suppliers))} == {}
    for where, text in {"log": b"feed_failed", "try": b"s1", "dlq": b"not_a_number", "metrics": b"feed_polls"}.items():
        assert text in everything[where], "it was looked for where something is"
    assert [feed for feed in suppliers.feeds if f"acme/{feed}".encode() not in everything["log"]] == []


def told_in(text: bytes, suppliers: Suppliers) -> list[str]:
    """The secrets that are in a text."""
    return [secret for secret in suppliers.told if secret.encode() in text]


def previewed(running: Running, feeds: list[str]) -> str:
    """What `connectors try` says of each; what it prints comes to standard output."""
    said = []
    for feed in feeds:
        for is_json in (True, False):
            try:
                preview(running.folder, kinds(), f"acme/{feed}", 5, json=is_json)
            except (Retriable, Rejected) as why:
                said.append(f"{why} {why!r} {why.__cause__!r}")
            else:
                said.append(f"{feed}: s1")
    return "\n".join(said)


def records(running: Running, topic: str) -> bytes:
    """Every record of a topic, with its key and headers."""
    found = []
    for message in running.deployment.read(topic, committed=False):
        found += [message.key() or b"", message.value() or b""]
        for name, value in cast("list[tuple[str, bytes | None]]", message.headers() or []):
            found += [name.encode(), value or b""]
    return b"\n".join(found)
