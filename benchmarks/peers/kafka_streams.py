"""Kafka Streams, exactly_once_v2: builds and starts the Java program in `kafka-streams/`, and reads its rows.

The tuning is in its `Fold.java` and in the options of the JVM here.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import fastavro.schema
import msgspec

from benchmarks.kafka import read_to_end
from benchmarks.peers.contest import Contestant, Feed, Started
from schemas.registry import AVRO_DIR
from schemas.rows import Count, Delta, Source, StockRow
from stockweave.broker.java import find_java
from stockweave.children import spawn
from stockweave.errors import Fatal

PROJECT = Path(__file__).with_name("kafka-streams")
PEER = "kafka-streams"
HEAP = "2g"
DOCUMENTED = "avro"
FORMS = (DOCUMENTED, "objects", "packed")
"""Of a row: classes that Avro's compiler makes, with Avro's reader and writer, as the documentation of Kafka Streams
has it; objects with codecs written by hand; bytes of which an update decodes its own source alone, by hand as well."""
COLLECTORS = {"parallel": "-XX:+UseParallelGC", "g1": "-XX:+UseG1GC", "serial": "-XX:+UseSerialGC"}
AVRO = ["-Dorg.apache.avro.fastread=true", "-Dorg.apache.avro.specific.use_custom_coders=true"]
"""The two ways to speed that Avro has for generated classes."""
HEADER, ENTRY_PREFIX, SOURCE, ENTRY = (struct.Struct(f) for f in (">qqq", ">hi", ">bqqqh", ">qqh"))
LONG = struct.Struct(">q")
ROW_SCHEMA = fastavro.schema.load_schema(str(AVRO_DIR / "StockRow.1.avsc"))
HAS_COUNT, HAS_FLOOR, WITHDRAWN, AVAILABLE = 1, 2, 4, 8


@dataclass(frozen=True)
class Variant:
    """`threads`: stream threads; `form`: of a row, see `FORMS`; `collector`: of garbage, see `COLLECTORS`."""

    threads: int
    form: str
    collector: str = "parallel"

    @property
    def name(self) -> str:
        """As the table has it."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{PEER}, {self.form}, {threads}" + f", {self.collector}" * (self.collector != "parallel")


def contestant(variant: Variant) -> Contestant:
    """One line of the table."""
    runs: list[str] = []

    def start(feed: Feed, folder: Path) -> Started:
        runs.append(f"{PEER}-{uuid.uuid4().hex[:8]}")
        return _start(variant, runs[-1], feed, folder)

    def rows(feed: Feed) -> Iterator[StockRow]:
        return _rows(runs[-1], feed, read_avro_row if variant.form == DOCUMENTED else read_row)

    return Contestant(variant.name, "exactly once", build, start, rows)


def build() -> None:
    """Compile it and fetch its jars, unless that is done and nothing has changed since.

    Raises:
        Fatal: Maven or a JDK is missing, or the build fails.
    """
    stamp = PROJECT / "target" / "built"
    sources = [PROJECT / "pom.xml", *PROJECT.glob("src/**/*.java")]
    if stamp.exists() and all(source.stat().st_mtime < stamp.stat().st_mtime for source in sources):
        return
    maven = shutil.which("mvn")
    if maven is None:
        raise Fatal(
            "mvn is missing, which builds the peer kafka-streams: install Maven with a JDK 17 or newer (Debian: "
            "apt install maven), or choose other --peers"
        )
    built = subprocess.run(
        [maven, "-q", "-B", "clean", "compile"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if built.returncode != 0:
        said = (built.stdout + built.stderr).strip()[-2_000:]
        raise Fatal(f"the peer kafka-streams does not build; does `mvn -v` show a JDK 17 or newer? Maven says: {said}")
    stamp.touch()


def _start(variant: Variant, application: str, feed: Feed, folder: Path) -> Started:
    class_path = os.pathsep.join([str(PROJECT / "target" / "classes"), str(PROJECT / "target" / "libs" / "*")])
    options = [COLLECTORS[variant.collector], f"-Xms{HEAP}", f"-Xmx{HEAP}", "-XX:-UsePerfData", *AVRO]
    command = [
        str(find_java().path), *options, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", class_path,
        "stockweave.peer.Fold", feed.bootstrap_servers, feed.topic, application, str(variant.threads),
        str(folder / "state"), variant.form,
    ]  # fmt: skip
    log = folder / "kafka-streams.log"
    return Started(spawn(command, log), log, application, feed.warm, feed.end)


def _rows(application: str, feed: Feed, read: Callable[[str, bytes], StockRow]) -> Iterator[StockRow]:
    latest = {}
    for message in read_to_end(feed.bootstrap_servers, f"{application}-stock-changelog"):
        latest[message.key()] = message.value()
    return (read(key.decode(), value) for key, value in latest.items() if key is not None and value is not None)


def read_avro_row(sku: str, row: bytes) -> StockRow:
    """A row of `AvroRow.java` as one of ours."""
    decoded: Any = fastavro.schemaless_reader(io.BytesIO(row), ROW_SCHEMA)
    if decoded["sku"] != sku:
        raise Fatal(f"the peer has the row of {decoded['sku']!r} under {sku!r}: a defect of AvroRow.java")
    return msgspec.convert(_in_order(decoded, StockRow), StockRow)


def _in_order(decoded: dict[str, Any], struct: type[msgspec.Struct]) -> list[Any]:
    """A decoded record as the array that `struct` is on our wire: both have their fields in one order."""
    values = []
    for field, value in zip(msgspec.structs.fields(struct), decoded.values(), strict=True):
        match field.name:
            case "sources":
                value = {key: _in_order(source, Source) for key, source in value.items()}
            case "count":
                value = value and list(value.values())
            case "deltas" | "incoming":
                value = [list(entry.values()) for entry in value]
        values.append(value)
    return values


def read_row(sku: str, row: bytes) -> StockRow:
    """A row of `Row.java` as one of ours."""
    version, on_hand, changed_at = HEADER.unpack_from(row)
    at, sources = HEADER.size, {}
    while at < len(row):
        key_length, length = ENTRY_PREFIX.unpack_from(row, at)
        key_at = at + ENTRY_PREFIX.size
        at = key_at + key_length + length
        sources[row[key_at : key_at + key_length].decode()] = _read_source(row[at - length : at])
    return StockRow(sku, version, on_hand, changed_at, sources)


def _read_source(data: bytes) -> Source:
    flags, received_at, offset, carried, deltas = SOURCE.unpack_from(data)
    at = SOURCE.size
    source = Source(carried=carried, received_at=received_at, offset=offset, basis=int(bool(flags & AVAILABLE)))
    if flags & HAS_FLOOR:
        (source.floor_at,) = LONG.unpack_from(data, at)
        at += LONG.size
    entries = []
    while at < len(data):
        entry_at, quantity, id_length = ENTRY.unpack_from(data, at)
        at += ENTRY.size + id_length
        entries.append((entry_at, data[at - id_length : at].decode(), quantity))
    if flags & HAS_COUNT:
        count_at, count_id, quantity = entries.pop(0)
        source.count = Count(int(bool(flags & WITHDRAWN)), count_id, count_at, quantity)
    if len(entries) != deltas:
        raise Fatal(f"a source of the peer has {len(entries)} deltas and says {deltas}: a defect of Row.java")
    source.deltas = [Delta(*entry) for entry in entries]
    return source
