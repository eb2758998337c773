"""From kill -9 to serving, for worker and API: with the disk kept, and from the compacted topic without it.

A worker serves when it has committed an update in each partition that was sent before it started; the API when /readyz
says so. The time begins with the kill; the new process starts at once, as under a supervisor that does not wait. Beside
it, in the same run: reading the topic with a loop that only counts, and reading the files of the disk.
"""

from __future__ import annotations

import argparse
import http.client
import shutil
import statistics
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

from confluent_kafka import Producer

from benchmarks import results
from benchmarks.bare_read import consume_all, read_folder
from benchmarks.figures import machine
from benchmarks.kafka import own_broker
from benchmarks.observe import Watch
from benchmarks.peers.stockweave_worker import clean_environment, settings_of, spawn_worker
from benchmarks.profile import EPOCH_MS, sku_name
from benchmarks.row_fill import RowFilling, fill_rows
from benchmarks.table import table
from schemas.admin import ensure_topics
from schemas.codec import Codec
from schemas.keys import partition_of
from schemas.registry import FileRegistry
from schemas.topics import STOCK, UPDATES
from stockweave.children import last_lines, spawn
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal
from stockweave.ports import free_port

PARTITIONS = 4
ROWS_OF_BARS = 5_000_000
DISK_S_MAX, TOPIC_S_MAX = 3.0, 60.0
READY_S = 600.0
LOOK_S = 0.02
SETTLE_S = 5.0
STOP_S = 60.0

Figures = dict[str, float]


def main(arguments: list[str]) -> int:
    """The command; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks recover", description=__doc__)
    parser.add_argument(
        "--rows", type=lambda text: [int(n) for n in text.split(",")], default=[1_000_000, 5_000_000], help="of stock"
    )
    parser.add_argument("--runs", type=int, default=3, help="kills of each kind; the median counts")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/recover.json")
    options = parser.parse_args(arguments)
    print(machine())
    figures = {rows: _recover(rows, options.runs) for rows in options.rows}
    head = ["rows", "worker, disk", "API, disk", "files read", "worker, topic", "API, topic", "topic read"]
    columns = ["worker_disk", "api_disk", "files", "worker_topic", "api_topic", "topic"]
    print(table(head, [[f"{rows:,}", *(f"{f[c]:.2f} s" for c in columns)] for rows, f in figures.items()]))
    missed = [f"{rows:,} rows: {why}" for rows, found in figures.items() for why in over_bars(rows, found)]
    bars = f"{DISK_S_MAX:.0f} s with the disk and {TOPIC_S_MAX:.0f} s without, up to {ROWS_OF_BARS:,} rows"
    print(f"{bars}: {'missed: ' + '; '.join(missed) if missed else 'held'}")
    if options.save:
        results.save("recover", vars(options), {str(rows): found for rows, found in figures.items()})
    return 1 if missed else 0


def over_bars(rows: int, found: Figures) -> list[str]:
    """The figures that are over their bars."""
    if rows > ROWS_OF_BARS:
        return []
    bars = {"disk": DISK_S_MAX, "topic": TOPIC_S_MAX}
    return [
        f"{name} {found[name]:.1f} s"
        for name in ("worker_disk", "api_disk", "worker_topic", "api_topic")
        if found[name] >= bars[name.rpartition("_")[2]]
    ]


def _recover(rows: int, runs: int) -> Figures:
    with own_broker() as (broker, folder):
        bootstrap, prefix = broker.bootstrap_servers, f"bench-{uuid.uuid4().hex[:6]}."
        topics = ensure_topics(settings_of(bootstrap, prefix, PARTITIONS, folder), bootstrap)
        stock = topics[STOCK.name].name
        seconds = fill_rows(RowFilling(bootstrap, stock, PARTITIONS, rows))
        _, topic_s = consume_all(bootstrap, stock)
        print(f"{rows:,} rows written in {seconds:.0f} s; the topic read in {topic_s:.1f} s", flush=True)
        worker = _Worker(bootstrap, prefix, folder, rows)
        found = _kills(worker, runs, "worker") | {"topic": topic_s}
        _, found["files"] = read_folder(worker.disk)
        api = _Api(bootstrap, prefix, folder)
        return found | _kills(api, runs, "api")


def _kills(what: _Worker | _Api, runs: int, name: str) -> Figures:
    """Medians over the kills of each kind; the process is stopped afterwards."""
    try:
        first_s = what.start()
        disk: list[float] = []
        topic: list[float] = []
        for kept, kept_s in ((True, disk), (False, topic)):
            for _ in range(runs):
                time.sleep(SETTLE_S)  # that it stands as one that has run for a while
                kept_s.append(what.restart(keep_disk=kept))
        print(f"{name}: first start {first_s:.1f} s, disk kept {_list(disk)}, without {_list(topic)}", flush=True)
        return {f"{name}_disk": statistics.median(disk), f"{name}_topic": statistics.median(topic)}
    finally:
        what.stop()


def _list(seconds: list[float]) -> str:
    return ", ".join(f"{s:.2f}" for s in seconds) + " s"


class _Process(ABC):
    """One process with a disk."""

    disk: Path
    log: Path

    def __init__(self) -> None:
        self.process: Popen[bytes] | None = None

    def start(self) -> float:
        """Seconds from the start to serving."""
        return self._serve(time.monotonic())

    def restart(self, *, keep_disk: bool) -> float:
        """Seconds from the kill to serving, without those that it took here to prepare the start."""
        assert self.process is not None, "start it first"
        began_s = time.monotonic()
        self.process.kill()
        self.process.wait()
        killed_s = time.monotonic() - began_s
        self._prepare()
        if not keep_disk:
            shutil.rmtree(self.disk)
        return self._serve(time.monotonic() - killed_s)

    def stop(self) -> None:
        """In order."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(STOP_S)

    def _serve(self, began_s: float) -> float:
        self.process = self._spawn()
        while not self._serves():
            if self.process.poll() is not None or time.monotonic() - began_s > READY_S:
                said = "\n".join(last_lines(self.log, 10))
                raise Fatal(f"it does not serve after {time.monotonic() - began_s:.0f} s; its log ends:\n{said}")
            time.sleep(LOOK_S)
        return time.monotonic() - began_s

    @abstractmethod
    def _prepare(self) -> None:
        """What has to be done while it is down."""

    @abstractmethod
    def _spawn(self) -> Popen[bytes]:
        """Start it."""

    @abstractmethod
    def _serves(self) -> bool:
        """Whether it does its work again."""


class _Worker(_Process):
    def __init__(self, bootstrap_servers: str, prefix: str, folder: Path, rows: int) -> None:
        super().__init__()
        settings = settings_of(bootstrap_servers, prefix, PARTITIONS, folder)
        self._updates = settings.topic(UPDATES.name)
        self._spawn_worker: Callable[[], Popen[bytes]] = lambda: spawn_worker(
            bootstrap_servers, prefix, folder / "worker"
        )
        self.disk, self.log = folder / "worker" / "data" / "stock", folder / "worker" / "worker.log"
        self._producer = Producer(
            client_config(bootstrap_servers) | {"partitioner": "murmur2_random"}, logger=CLIENT_LOGGER
        )
        self._codec = Codec("StockUpdate", FileRegistry())
        self._skus = _one_of_each_partition(rows)
        self._sent = 0
        self._watch = Watch(bootstrap_servers, settings.group, self._updates, PARTITIONS)
        self._prepare()

    def _prepare(self) -> None:
        """An update in every partition, that only a worker which serves it commits."""
        for sku in self._skus:
            self._sent += 1
            self._producer.produce(self._updates, self._codec.encode(_count(sku, self._sent)), sku.encode())
        self._producer.flush()

    def _spawn(self) -> Popen[bytes]:
        return self._spawn_worker()

    def _serves(self) -> bool:
        return self._watch.committed() >= self._sent


class _Api(_Process):
    def __init__(self, bootstrap_servers: str, prefix: str, folder: Path) -> None:
        super().__init__()
        data = folder / "api"
        self.disk, self.log = data / "view", folder / "api.log"
        self._port = free_port()
        self._environment: dict[str, Any] = clean_environment() | {
            "STOCKWEAVE_BOOTSTRAP_SERVERS": bootstrap_servers,
            "STOCKWEAVE_TOPIC_PREFIX": prefix,
            "STOCKWEAVE_DATA_DIR": str(data),
            "STOCKWEAVE_API_PORT": str(self._port),
        }

    def _prepare(self) -> None:
        """Nothing: it follows what is there."""

    def _spawn(self) -> Popen[bytes]:
        return spawn([sys.executable, "-m", "stockweave", "api"], self.log, self._environment)

    def _serves(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5.0)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:  # it does not listen yet
            return False
        finally:
            connection.close()


def _one_of_each_partition(rows: int) -> list[str]:
    found: dict[int, str] = {}
    for number in range(rows):
        found.setdefault(partition_of(sku_name(number).encode(), PARTITIONS), sku_name(number))
        if len(found) == PARTITIONS:
            break
    return list(found.values())


def _count(sku: str, number: int) -> dict[str, object]:
    return {
        "sku": sku, "supplier_id": "supplier-0", "location_id": "default", "update_id": f"probe-{number}",
        "kind": "COUNT", "quantity": number, "observed_at": EPOCH_MS + number, "received_at": EPOCH_MS + number,
        "basis": "ON_HAND", "order_ref": None, "incoming": [], "stale_after_ms": None, "feed": "benchmark",
    }  # fmt: skip
