"""Feeds that are topics of a supplier's Kafka, through a real one that is his and ours."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]
from pydantic import ValidationError

from connectors.budget import Budget
from connectors.configuration.load import load
from connectors.documents import Surroundings
from connectors.kafka import source
from connectors.kafka.client import Client, KafkaTls, Sasl
from connectors.kinds import kinds
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.errors import Retriable
from stockweave.ports import free_port
from stockweave.world import SystemClock
from tests.connectors.polling import GENEROUS
from tests.connectors.running import Running, repeats, told, units

MAPPED = {
    "version": 1,
    "sku": "$.value.code",
    "quantity": "$.value.stock",
    "observed_at": {"path": "$.timestamp", "format": "unix_ms"},
}


class Supplier:
    """His topic."""

    def __init__(self, servers: str, partitions: int = 2) -> None:
        self.servers = servers
        self.topic = f"his.{uuid.uuid4().hex[:8]}"
        self.admin = AdminClient({"bootstrap.servers": servers})
        self.producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
        self.create(partitions)

    def create(self, partitions: int) -> None:
        self.admin.create_topics([NewTopic(self.topic, partitions, 1)])[self.topic].result(30)

    def delete(self) -> None:
        self.admin.delete_topics([self.topic])[self.topic].result(30)

    def tell(self, partition: int = -1, at_ms: int = 0, headers: Any = None, **stock: Any) -> None:
        for code, count in stock.items():
            value = orjson.dumps({"code": code, "stock": count}, option=orjson.OPT_INDENT_2)
            self.send(value, partition, code, at_ms, headers)
        assert self.producer.flush(30) == 0

    def send(
        self, value: bytes | None, partition: int = 0, key: str = "k", at_ms: int = 0, headers: Any = None
    ) -> None:
        self.producer.produce(self.topic, value, key, max(partition, 0), timestamp=at_ms, headers=headers)
        self.producer.poll(0)

    def feed(self, mapping: dict[str, Any] | None = None, format_: str = "ndjson", **source: Any) -> dict[str, Any]:
        config = {"kind": "kafka", "bootstrap_servers": self.servers, "topic": self.topic} | source
        written = {"csv": {"format": "csv", "header": False, "columns": ["code", "stock"]}}
        return {
            "source": config,
            "format": written.get(format_, {"format": format_}),
            "mapping": mapping or MAPPED,
            "poll": {"every_s": 0.5},
        }


@pytest.fixture
def supplier(running: Running) -> Supplier:
    return Supplier(running.deployment.bootstrap_servers)


def read_to(running: Running) -> int:
    """Of all partitions together, as the feed's progress says."""
    return sum(running.progress().get("acme/stock", {}).get("state", {}).get("next", {}).values())


async def test_each_message_is_an_update_with_its_time_key_headers_or_a_dead_letter(
    running: Running, supplier: Supplier
) -> None:
    supplier.tell(0, 1_790_000_000_123, [("where", b"north")], s1=5, s2="many")
    supplier.send(None, 1)  # a deletion says nothing of stock
    supplier.send(b"no json", 1)
    supplier.send(b"", 1)
    supplier.tell(1, 1_790_000_000_456, [("where", b"s\xffd")], s3=9)  # no text, and so nowhere
    supplier.tell(1, 1_790_000_000_456, [("where", b"south")], s3=7)
    mapping = MAPPED | {"sku": "$.key", "location": "$.headers.where"}
    running.configure("acme", stock=supplier.feed(mapping))
    async with running:
        updates = await running.until_updates(2)
        await running.until(lambda: len(running.letters()) >= 4)
        supplier.tell(1, 1_790_000_000_789, [("where", b"south")], s3=6)
        await running.until_updates(3)
    found = {(u["sku"], u["location_id"], u["quantity"], u["observed_at"]) for u in updates}
    assert found == {("s1", "north", 5, 1_790_000_000_123), ("s3", "south", 7, 1_790_000_000_456)}
    assert len(running.letters()) == 4
    assert (len(running.updates()), repeats(running.updates())) == (3, 0)


@pytest.mark.parametrize(("each", "format_"), [("line", "csv"), ("document", "csv"), ("line", "ndjson")])
async def test_a_message_may_be_a_line_or_a_document_and_was_true_when_it_was_sent(
    running: Running, supplier: Supplier, each: str, format_: str
) -> None:
    for n, code in enumerate(("s1", "s2")):
        value = f"{code},{n}".encode() if format_ == "csv" else orjson.dumps({"code": code, "stock": n})
        supplier.send(value, 0, at_ms=1_790_000_000_000 + n * 60_000)
    supplier.producer.flush(30)
    names = ("$.code", "$.stock") if format_ == "ndjson" else ("code", "stock")
    mapping = {"version": 1, "sku": names[0], "quantity": names[1]}
    running.configure("acme", stock=supplier.feed(mapping, format_, each=each))
    async with running:
        updates = await running.until_updates(2)
    assert {u["sku"]: u["observed_at"] for u in updates} == {"s1": 1_790_000_000_000, "s2": 1_790_000_060_000}


async def test_a_start_goes_on_where_it_was_and_reads_partitions_that_were_added(
    running: Running, supplier: Supplier
) -> None:
    supplier.tell(0, s0=9)
    running.configure("acme", stock=supplier.feed(start="latest"))
    async with running:
        await running.until(lambda: "acme/stock" in running.progress())
        supplier.tell(0, s1=1)
        await running.until_updates(1)
    supplier.admin.create_partitions([NewPartitions(supplier.topic, 3)])[supplier.topic].result(30)
    supplier.producer = Producer({"bootstrap.servers": supplier.servers})
    supplier.tell(2, s2=2)
    async with running:
        updates = await running.until_updates(2)
    assert (units(updates), repeats(updates)) == ({"s1": 1, "s2": 2}, 0)


@pytest.mark.parametrize("lost", ["deleted", "made anew"])
async def test_what_was_deleted_before_it_was_read_is_told_and_the_rest_is_read(
    running: Running, supplier: Supplier, lost: str
) -> None:
    supplier.tell(0, s1=1)
    running.configure("acme", stock=supplier.feed())
    async with running:
        await running.until_updates(1)
    if lost == "deleted":
        supplier.tell(0, s2=2, s3=3)
        asked = TopicPartition(supplier.topic, 0, 2)
        supplier.admin.delete_records([asked])[asked].result(30)
    else:
        supplier.delete()
        supplier.create(2)
        supplier.tell(0, s3=3)
    async with running:
        updates = await running.until_updates(2)
        await running.until(lambda: len(running.letters()) >= 1)
    assert units(updates) == {"s1": 1, "s3": 3}
    [letter] = running.letters()
    assert told(letter)["__connect.errors.exception.class.name"] == "messages_lost"
    said = told(letter)["__connect.errors.exception.message"]
    assert ("offsets 1 to 1" if lost == "deleted" else "made anew") in said


async def test_a_transaction_that_was_aborted_is_not_read_and_its_marks_are_no_loss(
    running: Running, supplier: Supplier
) -> None:
    supplier.producer = Producer({"bootstrap.servers": supplier.servers, "transactional.id": supplier.topic})
    supplier.producer.init_transactions(30)
    for code, end in (("bad", "abort_transaction"), ("s1", "commit_transaction")):
        supplier.producer.begin_transaction()
        supplier.tell(0, **{code: 1})
        getattr(supplier.producer, end)(30)
    running.configure("acme", stock=supplier.feed())
    async with running:
        await running.until_updates(1)
        await running.until(lambda: read_to(running) == 4)
    asked = TopicPartition(supplier.topic, 0, 4)
    supplier.admin.delete_records([asked])[asked].result(30)
    supplier.producer.begin_transaction()
    supplier.tell(0, s2=2)
    supplier.producer.commit_transaction(30)
    async with running:
        updates = await running.until_updates(2)
    assert (units(updates), running.letters()) == ({"s1": 1, "s2": 2}, [])


async def test_a_killed_process_leaves_no_message_out_and_what_comes_twice_has_the_same_ids(
    running: Running, supplier: Supplier
) -> None:
    rows = 60_000
    for n in range(rows):
        supplier.send(b'{"code":"s%d","stock":%d}' % (n, n % 1_000), n % 2)
        if n % 10_000 == 0:
            supplier.producer.flush(30)
    supplier.producer.flush(30)
    running.configure("acme", stock=supplier.feed(within_s=3_600.0))
    command = [sys.executable, "-m", "stockweave", "connectors", "run", str(running.folder)]
    environment = running.deployment.environment("killed")
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:  # noqa: ASYNC220
        await running.until(lambda: bool(running.progress()))
        process.send_signal(signal.SIGKILL)
    done = read_to(running)
    assert 0 < done <= len({u["sku"] for u in running.updates()}) < rows, "progress is not ahead of Kafka"
    async with running:
        await running.until(lambda: read_to(running) == rows)
    updates = running.updates()
    assert {u["sku"]: u["quantity"] for u in updates} == {f"s{n}": n % 1_000 for n in range(rows)}
    assert len({(u["sku"], u["update_id"]) for u in updates}) == rows


async def test_a_row_has_the_same_id_however_many_messages_come_at_once(
    running: Running, supplier: Supplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "DOCUMENT_MESSAGES_MAX", 9)
    monkeypatch.setattr(source, "DOCUMENT_BYTES", 400)
    for n in range(60):
        supplier.send(b'{"code":"s%d","stock":1,"name":"%s"}' % (n, b"x" * (n % 7 * 20)), n % 3 // 2)
    supplier.producer.flush(30)
    running.configure("acme", stock=supplier.feed(within_s=3_600.0))
    config = load(running.folder, kinds()).feeds["acme/stock"].config.source
    read: list[dict[bytes, tuple[str, int]]] = []
    for at_once in (1, 7, 10_000):
        monkeypatch.setattr("connectors.kafka.client.MESSAGES_AT_ONCE", at_once)
        opened = kinds()["kafka"].open(config, Surroundings(1, SystemClock(), Budget(GENEROUS, SystemClock())))
        read.append({})
        async for document in opened.read({}):
            assert document.blocks is not None
            rows = b"".join([block async for block in document.blocks]).splitlines()
            read[-1] |= {row: (document.origin, number) for number, row in enumerate(rows)}
        await opened.close()
    assert read[0] == read[1] == read[2]
    assert len(read[0]) == 60


def test_secrets_are_where_they_are_kept_and_a_configuration_says_how_it_is_secured(
    running: Running, supplier: Supplier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HIS_PASSWORD", "hunter2")
    (ca_file := tmp_path / "ca.pem").touch()
    sasl = {"mechanism": "SCRAM-SHA-512", "user": "us", "password": {"env": "HIS_PASSWORD"}}
    running.configure("acme", stock=supplier.feed(sasl=sasl, tls={"ca_file": str(ca_file)}))
    loaded = load(running.folder, kinds())
    assert loaded.faults == []
    assert "hunter2" not in repr(loaded.feeds["acme/stock"].config.source)
    client = Client("localhost:1", "t", Sasl.model_validate(sasl), KafkaTls(ca_file=str(ca_file)))
    config = client._config()
    assert (config["security.protocol"], config["sasl.password"]) == ("SASL_SSL", "hunter2")
    assert (config["sasl.mechanism"], config["ssl.ca.location"]) == ("SCRAM-SHA-512", str(ca_file))
    with pytest.raises(ValidationError):
        Sasl.model_validate(sasl | {"password": "hunter2"})


async def test_what_keeps_a_topic_from_being_read_is_told_with_what_to_mend(broker: EmbeddedKafka) -> None:
    there = broker.bootstrap_servers
    for servers, tls, said in (
        (there, None, "there is no such topic; mend topic"),
        (f"127.0.0.1:{free_port()}", None, "it does not answer: is it up? Else mend bootstrap_servers, or tls"),
        (there, KafkaTls(ca_file="/not-there.pem"), "/not-there.pem cannot be read"),
    ):
        client = Client(servers, "his.unheard-of", None, tls)
        with pytest.raises(Retriable, match=re.escape(said)):
            await client.look()
        await client.close()


async def test_messages_of_avro_are_rows_and_broken_ones_dead_letters_with_their_bytes(
    running: Running, supplier: Supplier, tmp_path: Path
) -> None:
    fields = [{"name": "code", "type": "string"}, {"name": "stock", "type": "int"}]
    (tmp_path / "s.avsc").write_bytes(orjson.dumps({"type": "record", "name": "Stock", "fields": fields}))
    for value in (b"\x04s1\x0a", b"\x04s2", b"\x04s3\x0e", b"\x02s\x0a\x0a"):
        supplier.send(value, 0, "k", 1_790_000_000_000, [("where", b"north")])
    supplier.producer.flush(30)
    mapping = MAPPED | {"location": "$.headers.where"}
    read = {"format": {"format": "avro", "schema_file": str(tmp_path / "s.avsc")}}
    running.configure("acme", stock=supplier.feed(mapping, each="record") | read)
    async with running:
        updates = await running.until_updates(2)
        await running.until(lambda: len(running.letters()) == 2)
    assert {(u["sku"], u["quantity"], u["location_id"], u["observed_at"]) for u in updates} == {
        ("s1", 5, "north", 1_790_000_000_000), ("s3", 7, "north", 1_790_000_000_000),
    }  # fmt: skip
    originals = [(letter.value() or b"").partition(b"\n")[2] for letter in running.letters()]
    assert originals == [b"\x04s2", b"\x02s\x0a\x0a"]
