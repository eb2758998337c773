"""One deployment in a test: its own topics in the shared broker, updates in, rows out, and what the rows should be."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from inventory.alerts import never_looked_at
from inventory.reservations.coordinate import home
from inventory.stock import StockUpdate
from schemas import keys
from schemas.admin import Deployed, ensure_topics
from schemas.codec import Codec
from schemas.dead_letters import NOTE
from schemas.registry import FileRegistry
from schemas.reservations import Hold, decode_hold
from schemas.rows import Position, StockRow, decode_position, decode_row
from schemas.topics import ALERTS, COMMANDS, DEAD_LETTERS, RESERVATIONS, STOCK, UPDATES
from stockweave.replay.ends import log_ends
from stockweave.settings import Settings
from streams.assembly import Engine, connect
from streams.identity import Identity
from streams.restore import Stage
from tests.inventory.builders import update
from tests.inventory.reference import Event, LogOrder

WAIT_S = 60.0
AT_ONCE = {"fetch.wait.max.ms": 5, "fetch.queue.backoff.ms": 5}
"""So that a reader is told the end of a topic without a wait."""


class Hanging(AssertionError):
    """A transaction is open in a topic, and does not end."""


def name_of(reservation_id: str, line: str = "") -> str:
    """Of a hold, in tests. `line`: its SKU, for one of several."""
    return f"{reservation_id} {line}" if line else reservation_id


def consumed(consumer: Consumer) -> list[Message]:
    """What has come; with a larger number the first call would wait for them all."""
    first = consumer.consume(1, 0.2)
    return first + consumer.consume(10_000, 0) if first else []


@dataclass
class Snapshot:
    """What inventory.stock says, read as committed to its end."""

    rows: dict[str, StockRow] = field(default_factory=dict)
    raw: dict[bytes, bytes | None] = field(default_factory=dict)
    positions: dict[int, Position] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    versions_fell: list[str] = field(default_factory=list)

    @property
    def events(self) -> int:
        return sum(position.events() for position in self.positions.values())

    def on_hand(self) -> dict[str, int]:
        return {sku: row.on_hand for sku, row in self.rows.items()}


class Deployment:
    """Topics under a prefix of their own."""

    def __init__(self, bootstrap_servers: str, folder: Path, partitions: int = 4, prefix: str | None = None) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.folder = folder
        self.prefix = f"t{uuid.uuid4().hex[:8]}." if prefix is None else prefix
        self.base = Settings(
            bootstrap_servers=bootstrap_servers, topic_prefix=self.prefix, partitions=partitions, data_dir=folder
        )
        self.topics: dict[str, Deployed] = ensure_topics(self.base, bootstrap_servers)
        self.codec = Codec("StockUpdate", FileRegistry())
        self.commands = Codec("ReservationCommand", FileRegistry())
        self.producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "partitioner": "murmur2_random", "linger.ms": 5}
        )

    def settings(self, name: str) -> Settings:
        return self.base.model_copy(update={"data_dir": self.folder / name})

    def environment(self, name: str) -> dict[str, str]:
        return os.environ | {
            "STOCKWEAVE_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "STOCKWEAVE_TOPIC_PREFIX": self.prefix,
            "STOCKWEAVE_DATA_DIR": str(self.folder / name),
        }

    # -- in

    def publish(self, updates: Iterable[StockUpdate]) -> int:
        count = 0
        for one in updates:
            self.publish_raw(one["sku"].encode(), self.codec.encode(cast("dict[str, object]", one)), flush=False)
            count += 1
        assert self.producer.flush(WAIT_S) == 0
        return count

    def publish_raw(self, key: bytes | None, value: bytes | None, *, flush: bool = True) -> None:
        self.producer.produce(self.topics[UPDATES.name].name, value, key)
        self.producer.poll(0)
        if flush:
            assert self.producer.flush(WAIT_S) == 0

    def ask(self, commands: Iterable[Mapping[str, Any]]) -> int:
        """Publish commands; `tests.inventory.reservations.builders.command` makes them."""
        count = 0
        for command in commands:
            value = self.commands.encode(dict(command))
            self.producer.produce(self.topics[COMMANDS.name].name, value, home(command).encode())
            self.producer.poll(0)
            count += 1
        assert self.producer.flush(WAIT_S) == 0
        return count

    # -- through

    def engine_after(self, before: Identity, name: str) -> tuple[Engine, Identity]:
        """The same worker started again, once its former self has let go of the folder."""
        before.release()
        return self.engine(name)

    def engine(self, name: str) -> tuple[Engine, Identity]:
        identity = Identity(self.folder / name)
        engine = connect(self.settings(name), identity)
        engine.processor.start()
        return engine, identity

    def spawn_worker(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        arguments = command or (sys.executable, "-m", "stockweave", "worker")
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            return subprocess.Popen(arguments, env=self.environment(name), stdout=log, stderr=log)

    # -- out

    def end_of_updates(self) -> int:
        return sum(end for _, end in self._watermarks(UPDATES.name))

    def stock(self) -> Snapshot:
        seen, names = Snapshot(), dict[bytes, str]()
        for message in self.read(STOCK.name):
            key, value = cast("bytes", message.key()), message.value()
            before, seen.raw[key] = seen.raw.get(key), value
            if key == keys.POSITION:
                seen.positions[cast("int", message.partition())] = decode_position(cast("bytes", value))
            elif key.startswith(keys.HOLD_PREFIX):
                if value is not None:
                    hold = decode_hold(value)
                    names[key] = name_of(hold.reservation_id, hold.sku if hold.coordinated else "")
                    seen.holds[names[key]] = hold
                elif key in names:
                    seen.holds.pop(names[key], None)
            elif value is not None and key >= keys.ROW_FIRST:
                row = decode_row(value)
                noted = before is not None and never_looked_at(before) == never_looked_at(value)  # alone, for alerts
                if before is not None and seen.rows[row.sku].version >= row.version and not noted:
                    seen.versions_fell.append(row.sku)
                seen.rows[row.sku] = row
        return seen

    def facts(self) -> list[dict[str, Any]]:
        """Every fact, partition by partition in its order."""
        told = [message for message in self.read(RESERVATIONS.name) if message.key() != keys.UNDONE]
        messages = sorted(told, key=lambda m: (m.partition(), m.offset()))
        decoded = Codec("ReservationFact", FileRegistry()).decode([message.value() for message in messages])
        return [cast("dict[str, Any]", fact) for fact in decoded]

    def alerts(self) -> list[dict[str, Any]]:
        """Every alert, partition by partition in its order."""
        told = [message for message in self.read(ALERTS.name) if message.value() is not None]
        messages = sorted(told, key=lambda m: (m.partition(), m.offset()))
        decoded = Codec("StockAlert", FileRegistry()).decode([message.value() for message in messages])
        return [cast("dict[str, Any]", alert) for alert in decoded]

    def dead_letters(self) -> list[Message]:
        return letters(self.read(DEAD_LETTERS.name))

    def read(self, topic: str, *, committed: bool = True) -> Iterable[Message]:
        """Every committed record of a catalogue topic, up to its present end; or every record.

        A commit is answered before its markers are in every partition: what is read committed may still end before it.

        Raises:
            Hanging: it cannot be read to its end.
        """
        deployed = self.topics[topic]
        ends = [end for _, end in self._watermarks(topic)]
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "group.id": "test-reader",
                "isolation.level": "read_committed" if committed else "read_uncommitted",
                "enable.partition.eof": True,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                **AT_ONCE,
            }
        )
        consumer.assign([TopicPartition(deployed.name, p, 0) for p in range(deployed.partitions)])
        open_partitions = set(range(deployed.partitions))
        deadline = time.monotonic() + WAIT_S
        while open_partitions:
            if time.monotonic() > deadline:
                consumer.close()
                raise Hanging(f"{deployed.name} could not be read to its end")
            for message in consumed(consumer):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    partition = cast("int", message.partition())
                    if cast("int", message.offset()) >= ends[partition]:
                        open_partitions.discard(partition)
        consumer.close()

    def wait_folded(self, events: int, timeout_s: float = WAIT_S) -> Snapshot:
        """Wait until `events` are folded and committed."""
        deadline = time.monotonic() + timeout_s
        while (seen := self.stock()).events < events:
            assert time.monotonic() < deadline, f"{seen.events} of {events} events folded after {timeout_s} s"
            time.sleep(0.2)
        return seen

    def _watermarks(self, topic: str) -> Sequence[tuple[int, int]]:
        deployed = self.topics[topic]
        return list(log_ends(self.bootstrap_servers, deployed.name, range(deployed.partitions)).values())


def drive(engine: Engine, done: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Run the pump's loop here, until `done`."""
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"not done after {timeout_s} s: {engine.processor.stages()}"
        step(engine)


def step(engine: Engine) -> int:
    """One turn of the pump's loop; the events committed."""
    processor, folder = engine.processor, engine.folder
    batch = processor.poll()
    committed = 0
    if batch is not None and processor.commit(batch, folder.fold(batch)):
        committed = batch.events
    generation = engine.standby.take()
    if generation is not None:
        engine.standby.retire(processor.adopt(generation))
    engine.standby.own(processor.stages())
    engine.standby.check()
    processor.restore(idle=batch is None)
    return committed


def drive_events(engine: Engine, events: int) -> None:
    """Run until that many more events are committed."""
    committed = 0
    deadline = time.monotonic() + WAIT_S
    while committed < events:
        assert time.monotonic() < deadline, f"{committed} of {events} events; {engine.processor.stages()}"
        committed += step(engine)
    assert committed == events


def ready(engine: Engine, partitions: int) -> Callable[[], bool]:
    """Whether all partitions are being served."""
    return lambda: list(engine.processor.stages().values()) == [Stage.READY] * partitions


def some_updates(count: int, skus: int = 20, suppliers: int = 3, seed: int = 1) -> list[StockUpdate]:
    """Counts and deltas, in time order for each source, with repeats: every loss or doubling changes a number."""
    rng = random.Random(seed)
    made: list[StockUpdate] = []
    for i in range(count):
        if made and rng.random() < 0.05:
            made.append(rng.choice(made))
            continue
        kind = "COUNT" if rng.random() < 0.1 else "DELTA"
        quantity = rng.randint(0, 500) if kind == "COUNT" else rng.choice([-3, -2, -1, 1, 2])
        event = Event(kind, f"u{seed}-{i}", 1_700_000_000_000 + i * 1_000, quantity)
        made.append(update(event, sku=f"sku-{rng.randrange(skus)}", supplier_id=f"supplier-{rng.randrange(suppliers)}"))
    return made


def expected_on_hand(updates: Iterable[StockUpdate]) -> dict[str, int]:
    """On hand by SKU, by the tests' own reference."""
    sources: dict[tuple[str, str, str], LogOrder] = {}
    for u in updates:
        key = (u["sku"], u["supplier_id"], u["location_id"])
        source = sources.setdefault(key, LogOrder(7 * 86_400_000, 256))
        source.see(Event(u["kind"], u["update_id"], u["observed_at"], u["quantity"]))
    totals: dict[str, int] = {}
    for (sku, _, _), source in sources.items():
        totals[sku] = totals.get(sku, 0) + cast("int", source.row()["on_hand"])
    return totals


def letters(messages: Iterable[Message]) -> list[Message]:
    """Those that are dead letters: a start that found a transaction hanging there leaves a note."""
    return [m for m in messages if NOTE not in dict(cast("list[tuple[str, bytes]]", m.headers() or []))]


def header(message: Message, name: str) -> str:
    """One header of a dead letter."""
    headers = cast("list[tuple[str, bytes]]", message.headers() or [])
    return dict(headers)[f"__connect.errors.{name}"].decode()


def sources_of(snapshot: Snapshot) -> Mapping[str, object]:
    """What the rows mean, bookkeeping left out."""
    return {
        sku: {key: (s.count, s.deltas, s.carried, s.floor_at, s.basis, s.incoming) for key, s in row.sources.items()}
        for sku, row in snapshot.rows.items()
    }
