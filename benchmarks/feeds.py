"""A large stock of a supplier into Kafka by one connectors' process: rows a second, memory, and what a kill leaves out.

First without interruption, then on topics of its own killed in the middle and started again: each row has to be there,
and what was sent twice has to have the same id. The supplier (a CSV file by SFTP, or one of the other kinds that
`feed_kinds` has), Kafka and the process share the cores. Beside it, in the same run: polars reads the same file, bare,
from the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
import uuid
from pathlib import Path
from subprocess import Popen
from threading import Thread
from typing import NamedTuple

import numpy as np
import polars
import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition

from benchmarks import results
from benchmarks.feed_kinds import KINDS, SECRET, Supplied, supplier
from benchmarks.figures import machine
from benchmarks.kafka import own_broker, read_to_end
from benchmarks.peers.stockweave_worker import clean_environment, settings_of
from benchmarks.table import table
from schemas.admin import ensure_topics
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.topics import UPDATES
from stockweave.children import last_lines, spawn
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal
from stockweave.ports import free_port

PARTITIONS = 4
ROWS_PER_S_MIN = 100_000
MEMORY_MIB_MAX = 400
STALLED_S = 60.0
LOOK_S = 0.1
BATCH = 20_000
STOP_S = 60.0


class Run(NamedTuple):
    """One run of the process. `seconds`: from the first row in Kafka to the last; `peak_bytes`: resident."""

    rows: int
    seconds: float
    cpu_s: float
    peak_bytes: int

    @property
    def per_second(self) -> float:
        """Rows."""
        return self.rows / self.seconds


def main(arguments: list[str]) -> int:
    """The command; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks connectors", description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--kind", choices=list(KINDS), default="sftp")
    parser.add_argument(
        "--save", action="store_true", help="write benchmarks/results/connectors.json, or connectors-KIND.json"
    )
    options = parser.parse_args(arguments)
    print(machine())
    with own_broker() as (broker, folder):
        files = folder / "files"
        written = _write(files / "stock.csv", options.rows)
        print(f"{options.rows:,} rows, {written / 2**20:.0f} MiB", flush=True)
        polars_s = _polars(files / "stock.csv")
        with supplier(options.kind, files / "stock.csv") as supplied:
            straight = _straight(broker.bootstrap_servers, folder / "straight", supplied, options.rows)
        with supplier(options.kind, files / "stock.csv") as supplied:
            lost, again = _killed(broker.bootstrap_servers, folder / "killed", supplied, options.rows)
    rate, peak = straight.per_second, straight.peak_bytes / 2**20
    print(
        table(
            ["", "rows/s", "times polars", "processor, us a row", "memory at most"],
            [
                ["polars, from the disk", f"{options.rows / polars_s:,.0f}", "1.00", "", ""],
                [
                    f"Stockweave, {options.kind} to Kafka",
                    f"{rate:,.0f}",
                    f"{rate * polars_s / options.rows:.3f}",
                    f"{straight.cpu_s / options.rows * 1e6:.2f}",
                    f"{peak:.0f} MiB",
                ],
            ],
        )
    )
    print(
        f"killed in the middle and started again: {lost:,} rows lost, {again:,} sent twice, with the ids that they had"
    )
    over = missed(rate, peak, lost)
    print(f"{ROWS_PER_S_MIN:,} rows/s in {MEMORY_MIB_MAX} MiB, none lost: {'missed: ' + over if over else 'held'}")
    if options.save:
        figures = {"polars_s": polars_s, "lost": lost, "again": again} | straight._asdict()
        results.save("connectors" if options.kind == "sftp" else f"connectors-{options.kind}", vars(options), figures)
    print(f"rows_per_s={rate:.0f}")
    return 1 if over else 0


def missed(rate: float, peak_mib: float, lost: int) -> str:
    """The bars that are."""
    bars = {
        f"{rate:,.0f} rows/s": rate < ROWS_PER_S_MIN,
        f"{peak_mib:.0f} MiB": peak_mib >= MEMORY_MIB_MAX,
        f"{lost:,} rows lost": lost > 0,
    }
    return "; ".join(said for said, is_missed in bars.items() if is_missed)


def _write(file: Path, rows: int) -> int:
    """A file as suppliers have them; its size in bytes."""
    rng = random.Random(7)
    file.parent.mkdir(parents=True)
    with file.open("w") as out:
        out.write("article;stock;warehouse;name\n")
        for n in range(rows):
            out.write(
                f"ART-{n * 7_919 % 100_000_007:09d};{rng.randrange(1_000)};W{n % 20:02d};Article no. {n % 9_973}\n"
            )
    return file.stat().st_size


def _polars(file: Path) -> float:
    """Seconds that polars takes to read the columns that are wanted."""
    began_s = time.monotonic()
    polars.read_csv(file, separator=";", columns=["article", "stock", "warehouse"])
    return time.monotonic() - began_s


class _Process:
    """`stockweave connectors run`, on topics of its own."""

    def __init__(self, bootstrap_servers: str, folder: Path, supplied: Supplied) -> None:
        self._folder = folder
        suppliers = folder / "suppliers"
        suppliers.mkdir(parents=True)
        feed = {
            "source": supplied.source,
            "format": supplied.format,
            "mapping": supplied.mapping,
            "poll": {"every_s": 3_600.0},
        }
        limits = {"requests_per_s": 10_000.0, "burst": 1_000}
        content = {"supplier": "acme", "limits": limits, "feeds": {"stock": feed}}
        (suppliers / "acme.yaml").write_text(json.dumps(content))
        port = free_port()
        settings = settings_of(bootstrap_servers, f"bench-{uuid.uuid4().hex[:6]}.", PARTITIONS, folder)
        self.topic = ensure_topics(settings, bootstrap_servers)[UPDATES.name].name
        self._servers = bootstrap_servers
        self._environment = clean_environment() | {
            "STOCKWEAVE_BOOTSTRAP_SERVERS": bootstrap_servers,
            "STOCKWEAVE_TOPIC_PREFIX": settings.topic_prefix,
            "STOCKWEAVE_CONNECTORS_PORT": str(port),
            SECRET: os.environ[SECRET],
        }
        send = supplied.send
        self._sending = None if send is None else Thread(target=send, args=(port,), daemon=True)
        self._sent = 0
        self._consumer = Consumer(client_config(bootstrap_servers) | {"group.id": "benchmark"}, logger=CLIENT_LOGGER)

    def start(self) -> Popen[bytes]:
        """Begin, or go on; who sends begins once, and sends again what was not taken."""
        if self._sending is not None and self._sending.ident is None:
            self._sending.start()
        command = [sys.executable, "-m", "stockweave", "connectors", "run", str(self._folder / "suppliers")]
        return spawn(command, self._folder / "connectors.log", self._environment)

    def sent(self) -> int:
        """Rows that Kafka has, again or not; as of the last answer, where it gives none."""
        try:
            ends = [
                self._consumer.get_watermark_offsets(TopicPartition(self.topic, n), 10)[1] for n in range(PARTITIONS)
            ]
        except KafkaException:  # as just after the topic was made
            return self._sent
        self._sent = sum(ends)
        return self._sent

    def until(self, process: Popen[bytes], rows: int) -> Run:
        """Wait until Kafka has so many rows."""
        seen, peak, began_s, moved_s = self.sent(), 0, 0.0, time.monotonic()
        first, watched = seen, psutil.Process(process.pid)
        while seen < rows:
            time.sleep(LOOK_S)
            now = self.sent()
            now_s = time.monotonic()
            began_s = began_s or (now_s if now > first else 0.0)
            moved_s = now_s if now > seen else moved_s
            peak, seen = max(peak, watched.memory_info().rss), now
            if process.poll() is not None or now_s - moved_s > STALLED_S:
                said = "\n".join(last_lines(self._folder / "connectors.log", 10))
                raise Fatal(f"it stands at {seen:,} of {rows:,} rows; its log ends:\n{said}")
        spent = watched.cpu_times()
        return Run(rows, time.monotonic() - began_s, spent.user + spent.system, peak)

    def rows_there(self, rows: int) -> tuple[int, int]:
        """Rows that are not in Kafka, and how many are more than once."""
        codec, seen, total = Codec("StockUpdate", FileRegistry()), np.zeros(rows, np.bool_), 0
        held: list[bytes | None] = []

        def count() -> None:
            ids = [record["update_id"] for record in codec.decode(held) if isinstance(record, dict)]
            seen[[int(each.rpartition(":")[2]) for each in ids]] = True

        for message in read_to_end(self._servers, self.topic):
            held.append(message.value())
            total += 1
            if len(held) == BATCH:
                count()
                held.clear()
        count()
        there = int(seen.sum())
        return rows - there, total - there


def _straight(bootstrap_servers: str, folder: Path, supplied: Supplied, rows: int) -> Run:
    own = _Process(bootstrap_servers, folder, supplied)
    process = own.start()
    try:
        return own.until(process, rows)
    finally:
        process.terminate()
        process.wait(STOP_S)


def _killed(bootstrap_servers: str, folder: Path, supplied: Supplied, rows: int) -> tuple[int, int]:
    own = _Process(bootstrap_servers, folder, supplied)
    process = own.start()
    own.until(process, rows // 2)
    process.kill()
    process.wait()
    process = own.start()
    try:
        own.until(process, rows)
        sent, still = own.sent(), 0
        while still < 20:  # what comes twice makes more than there are: it ends when nothing comes any more
            time.sleep(LOOK_S)
            still, sent = (still + 1 if own.sent() == sent else 0), own.sent()
    finally:
        process.terminate()
        process.wait(STOP_S)
    return own.rows_there(rows)
