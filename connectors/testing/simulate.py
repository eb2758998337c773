"""A supplier to try with: a server of a kind on this machine, whose stock changes, and the file that describes it.

The connectors cannot tell it from a real one: it wants its secret, and fails as often as it is asked to. Called by
`stockweave connectors simulate`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import orjson
import yaml

from connectors.testing.faults import Fault, Faults, planned
from connectors.testing.ftp_server import FtpServer, self_signed
from connectors.testing.graphql_server import GraphqlSupplier
from connectors.testing.http_server import HttpSupplier
from connectors.testing.kafka_server import KafkaServer, NewBroker
from connectors.testing.sftp_server import SftpServer
from connectors.testing.soap_server import SoapSupplier
from connectors.testing.transfer_faults import TransferFaults
from stockweave.errors import Fatal, Rejected

Row = dict[str, Any]
Config = dict[str, Any]

SECRET = "trial-7f3a"  # noqa: S105 - of a server on loopback, for as long as it runs
TOPIC = "trial.stock"
SEND_S = 30.0
PLAN = 50  # so many requests ahead it is drawn what goes wrong
CHANGED_SHARE = 0.1
QUERY = """query ($first: Int!, $after: String) {
  products(first: $first, after: $after) { nodes { code stock } pageInfo { hasNextPage endCursor } }
}"""


class Stock:
    """What the supplier has.

    `rows`: `{code, stock}`, changed in place. `faults`: of the kinds that speak HTTP; `transfers`: of those of files.
    `followers`: called after each change. `new_broker`: makes the Kafka of the kind that is a topic.

    Args:
        offers: how many rows.
        folder: where the files of the trial are.
        share: of requests that fail, from 0 to 1; of transfers, it is the seconds that each block waits.
        seed: of all that is drawn.
        has_files: whether each change is a file as well; where nobody takes them away they would pile up.
    """

    def __init__(self, offers: int, folder: Path, share: float, seed: int, *, has_files: bool = True) -> None:
        self.has_files = has_files
        self._rng = Random(seed)  # noqa: S311 - repeatable on purpose
        self._share = share
        self._files = 0
        self.out = folder / "out"
        self.secret = folder / "secret"
        self.rows: list[Row] = [{"code": f"A-{n:05}", "stock": self._rng.randrange(200)} for n in range(offers)]
        self.faults = Faults()
        self.transfers = TransferFaults(slow_s=share)
        self.followers: list[Callable[[], None]] = []
        self.new_broker: NewBroker | None = None
        self._plan()

    def change(self) -> None:
        """Some offers have another stock; with `has_files`, a file of all is there as well."""
        for row in self._rng.sample(self.rows, max(1, int(len(self.rows) * CHANGED_SHARE))):
            row["stock"] = self._rng.randrange(200)
        if self.has_files:
            self.write()
        for follow in self.followers:
            follow()
        self._plan()

    def write(self) -> None:
        """A file of all offers, which is there as a whole or not at all."""
        self._files += 1
        lines = ["Artikel;Bestand", *(f"{row['code']};{row['stock']}" for row in self.rows)]
        fresh = self.out / ".fresh"
        fresh.write_text("\n".join(lines) + "\n")
        fresh.rename(self.out / f"stock-{self._files:06}.csv")

    def _plan(self) -> None:
        if len(self.faults.plan) < PLAN:
            kinds = [kind for kind in Fault if kind != Fault.EXPIRED]
            self.faults.plan.extend(planned(self._rng.randrange(1 << 30), PLAN, self._share, kinds))


JSON = {"format": "json", "records": "$.stock[*]"}
MAPPED = {"version": 1, "sku": "$.code", "quantity": "$.stock"}
CSV = {"format": "csv", "delimiter": ";"}
FILES = {"path": "/", "pattern": "stock-*.csv", "then": "delete", "settle_s": 0}
COLUMNS = {"version": 1, "sku": "Artikel", "quantity": "Bestand"}


@asynccontextmanager
async def _rest(stock: Stock) -> AsyncIterator[Config]:
    async with HttpSupplier(stock.rows, stock.faults, page_rows=50, key=SECRET) as supplier:
        source = {
            "kind": "rest",
            "url": f"{supplier.origin}/cursor",
            "pages": {"by": "cursor", "next": "$.next", "parameter": "after"},
            "credentials": {"kind": "api_key", "header": "X-Api-Key", "value": {"file": str(stock.secret)}},
            "timeout_s": 2.0,
        }
        yield {"source": source, "format": JSON, "mapping": MAPPED}


@asynccontextmanager
async def _graphql(stock: Stock) -> AsyncIterator[Config]:
    async with GraphqlSupplier(stock.rows, stock.faults, token=SECRET) as supplier:
        info = "$.data.products.pageInfo"
        source = {
            "kind": "graphql",
            "url": supplier.url,
            "query": QUERY,
            "variables": {"first": 50},
            "pages": {"variable": "after", "next": f"{info}.endCursor", "more": f"{info}.hasNextPage"},
            "credentials": {"kind": "bearer", "token": {"file": str(stock.secret)}},
            "timeout_s": 2.0,
        }
        yield {"source": source, "format": JSON | {"records": "$.data.products.nodes[*]"}, "mapping": MAPPED}


@asynccontextmanager
async def _soap(stock: Stock) -> AsyncIterator[Config]:
    async with SoapSupplier(stock.rows, stock.faults, user=("trial", SECRET)) as supplier:
        source = {
            "kind": "soap",
            "wsdl": supplier.wsdl,
            "operation": "GetStock",
            "arguments": {"warehouse": "north"},
            "ws_security": {"user": "trial", "password": {"file": str(stock.secret)}},
            "timeout_s": 2.0,
        }
        rows = {"format": "xml", "row": "{urn:example:stock}item", "namespaces": {"s": "urn:example:stock"}}
        yield {"source": source, "format": rows, "mapping": {"version": 1, "sku": "s:code", "quantity": "s:stock"}}


@asynccontextmanager
async def _sftp(stock: Stock) -> AsyncIterator[Config]:
    async with SftpServer(stock.out, password=SECRET, faults=stock.transfers, user="trial") as server:
        login = {"host": "127.0.0.1", "port": server.port, "user": "trial", "host_key": server.host_key}
        source = {"kind": "sftp", **login, "password": {"file": str(stock.secret)}, **FILES}
        yield {"source": source, "format": CSV, "mapping": COLUMNS}


@asynccontextmanager
async def _ftp(stock: Stock) -> AsyncIterator[Config]:
    certificate = self_signed(stock.secret.parent)
    with FtpServer(stock.out, SECRET, "explicit", certificate, stock.transfers, user="trial") as server:
        login = {"host": "127.0.0.1", "port": server.port, "user": "trial", "ca_file": str(certificate)}
        source = {"kind": "ftp", **login, "password": {"file": str(stock.secret)}, **FILES}
        yield {"source": source, "format": CSV, "mapping": COLUMNS}


FILE_KINDS = ("sftp", "ftp")


@asynccontextmanager
async def _kafka(stock: Stock) -> AsyncIterator[Config]:
    if stock.new_broker is None:
        raise Fatal("a Kafka cannot be started from here; use the command, stockweave connectors simulate kafka")
    with KafkaServer(stock.secret.parent, stock.new_broker) as server:  # a child of the main thread, as it has to be
        _open_topic(server)
        tell = _teller(stock, server)
        tell()
        stock.followers.append(tell)
        source = {
            "kind": "kafka",
            "bootstrap_servers": server.sasl,
            "topic": TOPIC,
            "sasl": {"mechanism": "SCRAM-SHA-512", "user": "trial", "password": {"file": str(stock.secret)}},
            "tls": {"ca_file": str(server.ca_file)},
            "within_s": 86_400.0,
        }
        at = {"path": "$.timestamp", "format": "unix_ms"}
        mapping = {"version": 1, "sku": "$.value.code", "quantity": "$.value.stock", "observed_at": at}
        yield {"source": source, "format": {"format": "ndjson"}, "mapping": mapping}


def _open_topic(server: KafkaServer) -> None:
    """What it had in an earlier run stays."""
    if TOPIC not in server.admin.list_topics(timeout=SEND_S).topics:
        server.create(TOPIC)
    server.permit("trial", "SCRAM-SHA-512", SECRET)
    server.let_read("trial", TOPIC)


def _teller(stock: Stock, server: KafkaServer) -> Callable[[], None]:
    """Sends a message for each offer that is another one than it was, keyed by it."""
    producer, told = server.producer(), dict[str, int]()

    def tell() -> None:
        for row in stock.rows:
            if told.get(row["code"]) != row["stock"]:
                told[row["code"]] = row["stock"]
                producer.produce(TOPIC, orjson.dumps(row), row["code"])
                producer.poll(0)
        producer.flush(SEND_S)

    return tell


STARTS: dict[str, Callable[[Stock], AbstractAsyncContextManager[Config]]] = {
    "rest": _rest,
    "graphql": _graphql,
    "soap": _soap,
    "sftp": _sftp,
    "ftp": _ftp,
    "kafka": _kafka,
}


def main(
    kind: str, folder: Path, offers: int, share: float, every_s: float, seed: int, new_broker: NewBroker | None = None
) -> None:
    """Run a supplier until SIGTERM or SIGINT.

    Args:
        kind: one of `STARTS`.
        folder: where its file is written, and what belongs to it; made where it is missing.
        offers: how many it has.
        share: as of `Stock`.
        every_s: seconds between two changes of its stock.
        seed: of all that is drawn.
        new_broker: as of `Stock`.

    Raises:
        Rejected: there is no such kind.
    """
    if kind not in STARTS:
        raise Rejected("unknown_kind", f"kind {kind} cannot be simulated; these can: {', '.join(STARTS)}", "kind")
    own = folder.absolute() / f"{kind}-server"
    (own / "out").mkdir(parents=True, exist_ok=True)
    (own / "secret").touch(mode=0o600)
    (own / "secret").write_text(SECRET)
    stock = Stock(offers, own, share, seed, has_files=kind in FILE_KINDS)
    stock.new_broker = new_broker
    if stock.has_files:
        stock.write()
    asyncio.run(_run(STARTS[kind](stock), stock, folder.absolute() / f"acme-{kind}.yaml", every_s))


async def _run(server: AbstractAsyncContextManager[Config], stock: Stock, file: Path, every_s: float) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with server as config:
        _tell(file, config | {"poll": {"every_s": every_s}}, len(stock.rows))
        while not told.is_set():
            try:
                await asyncio.wait_for(told.wait(), every_s)
            except TimeoutError:
                stock.change()


def _tell(file: Path, feed: Config, offers: int) -> None:
    """Write the supplier's file, and how to go on."""
    file.write_text(yaml.safe_dump({"supplier": file.stem, "feeds": {"stock": feed}}, sort_keys=False))
    sys.stdout.write(
        f"a supplier of {offers} offers runs until you press Ctrl+C; its file is {file}\n"
        f"  what it would bring:  stockweave connectors try {file} {file.stem}/stock\n"
        f"  everything with it:   STOCKWEAVE_SUPPLIERS={file.parent} stockweave up\n"
    )
    sys.stdout.flush()
