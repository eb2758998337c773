"""Who asks, and who answers: laws of SASL, TLS and permissions, against a real Kafka that wants all of it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs

from connectors.kafka.client import Client, KafkaTls, Sasl
from connectors.testing.certificates import Authority
from connectors.testing.kafka_server import KafkaServer
from stockweave.errors import Retriable
from tests.connectors.kafka.conftest import PLAIN
from tests.connectors.running import Running, units

PASSWORD = "hunter2"
MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class Topic(NamedTuple):
    """One that a user may read."""

    server: KafkaServer
    name: str
    user: str

    def tell(self, **stock: int) -> None:
        producer = self.server.producer()
        for code, count in stock.items():
            producer.produce(self.name, f"{code},{count}")
        assert producer.flush(30) == 0

    def sasl(self, mechanism: str, file: Path) -> dict[str, Any]:
        return {"mechanism": mechanism, "user": self.user, "password": {"file": str(file)}}

    def feed(self, **security: Any) -> dict[str, Any]:
        servers = self.server.sasl if "sasl" in security else self.server.mutual
        source = {"kind": "kafka", "bootstrap_servers": servers, "topic": self.name, "each": "line"} | security
        csv = {"format": "csv", "header": False, "columns": ["code", "stock"]}
        mapping = {"version": 1, "sku": "code", "quantity": "stock"}
        return {"source": source, "format": csv, "mapping": mapping, "poll": {"every_s": 0.5}}


def topic(server: KafkaServer, user: str, mechanism: str = "") -> Topic:
    made = Topic(server, f"his.{uuid.uuid4().hex[:8]}", user)
    server.create(made.name)
    server.let_read(user, made.name)
    if mechanism.startswith("SCRAM"):
        server.permit(user, mechanism, PASSWORD)
    return made


def written(file: Path, text: str) -> Path:
    file.write_text(f"{text}\n")
    return file


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_rows_come_over_tls_with_each_mechanism_to_who_may_read_that_topic_alone(
    running: Running, secured: KafkaServer, tmp_path: Path, mechanism: str
) -> None:
    his = topic(secured, "plain" if mechanism == "PLAIN" else f"u{uuid.uuid4().hex[:6]}", mechanism)
    his.tell(s1=1, s2=2)
    file = written(tmp_path / "password", PLAIN if mechanism == "PLAIN" else PASSWORD)
    running.configure("acme", stock=his.feed(sasl=his.sasl(mechanism, file), tls={"ca_file": str(secured.ca_file)}))
    async with running:
        await running.until_updates(2)
        his.tell(s3=3)
        updates = await running.until_updates(3)
    assert units(updates) == {"s1": 1, "s2": 2, "s3": 3}


@pytest.mark.parametrize("key_password", ["", "k3y"])
async def test_rows_come_to_who_shows_a_certificate(
    running: Running, secured: KafkaServer, tmp_path: Path, key_password: str
) -> None:
    name = f"us{uuid.uuid4().hex[:6]}"
    his = topic(secured, f"CN={name}")
    his.tell(s1=1)
    certificate, key = secured.authority.issue(name, key_password)
    client: dict[str, Any] = {"certificate_file": str(certificate), "key_file": str(key)}
    if key_password:
        client |= {"key_password": {"file": str(written(tmp_path / "key_password", key_password))}}
    else:  # both in one file
        written(certificate, certificate.read_text() + key.read_text())
        del client["key_file"]
    running.configure("acme", stock=his.feed(tls={"ca_file": str(secured.ca_file), "client": client}))
    async with running:
        updates = await running.until_updates(1)
    assert units(updates) == {"s1": 1}


async def test_a_password_that_is_changed_at_the_broker_and_in_its_file_is_taken_without_a_restart(
    running: Running, secured: KafkaServer, tmp_path: Path
) -> None:
    his = topic(secured, "changes", "SCRAM-SHA-512")
    his.tell(s1=1)
    file = written(tmp_path / "password", PASSWORD)
    tls = {"ca_file": str(secured.ca_file)}
    running.configure("acme", stock=his.feed(sasl=his.sasl("SCRAM-SHA-512", file), tls=tls))
    with capture_logs() as logs:
        async with running:
            await running.until_updates(1)
            secured.permit("changes", "SCRAM-SHA-512", "other-hunter3")
            secured.restart()  # whom it knew stays connected else
            his.tell(s2=2)
            await running.until(lambda: any("mend sasl" in str(entry.get("why")) for entry in logs))
            written(file, "other-hunter3")
            updates = await running.until_updates(2)
    assert units(updates) == {"s1": 1, "s2": 2}
    assert "hunter" not in str(logs)


async def failure(client: Client) -> str:
    """What it says, of what must fail."""
    try:
        with pytest.raises(Retriable) as raised:
            await client.look()
    finally:
        await client.close()
    said = f"{raised.value!s}{raised.value!r}"
    assert "hunter" not in said
    return str(raised.value)


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_wrong_password_is_told_and_tried_a_few_times_at_most(
    secured: KafkaServer, tmp_path: Path, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.kafka.client.WAIT_S", 300.0)  # so it would be told too late else
    his = topic(secured, "plain" if mechanism == "PLAIN" else f"u{uuid.uuid4().hex[:6]}", mechanism)
    sasl = Sasl.model_validate(his.sasl(mechanism, written(tmp_path / "password", "wrong-hunter4")))
    said = await failure(Client(secured.sasl, his.name, sasl, KafkaTls(ca_file=str(secured.ca_file))))
    assert "_AUTHENTICATION; it does not take our user and password; mend sasl" in said


async def test_who_may_not_read_a_topic_or_names_none_is_told(secured: KafkaServer, tmp_path: Path) -> None:
    his = topic(secured, "reader", "SCRAM-SHA-256")
    secured.create("his.secret")
    sasl = Sasl.model_validate(his.sasl("SCRAM-SHA-256", written(tmp_path / "password", PASSWORD)))
    tls = KafkaTls(ca_file=str(secured.ca_file))
    assert "ask the supplier to let us read it" in await failure(Client(secured.sasl, "his.secret", sasl, tls))
    assert "mend topic" in await failure(Client(secured.bootstrap_servers, "his.none", None, None))


async def test_whom_we_do_not_trust_or_who_does_not_trust_us_is_told_with_what_to_mend(
    secured: KafkaServer, tmp_path: Path
) -> None:
    his = topic(secured, "truster", "SCRAM-SHA-256")
    sasl = Sasl.model_validate(his.sasl("SCRAM-SHA-256", written(tmp_path / "password", PASSWORD)))
    stranger = Authority(tmp_path, "stranger")
    other = KafkaTls(ca_file=str(stranger.file))
    assert "mend tls.ca_file" in await failure(Client(secured.sasl, his.name, sasl, other))
    trusted = {"ca_file": str(secured.ca_file)}
    assert "mend tls.client" in await failure(Client(secured.mutual, his.name, None, KafkaTls.model_validate(trusted)))
    certificate, key = stranger.issue("us", "hunter5")
    shown = {"certificate_file": str(certificate), "key_file": str(key)}
    for password, remedy in (("hunter5", "mend tls.client"), ("hunter6", "or tls.client.key_password")):
        file = written(tmp_path / "key_password", password)
        client = shown | {"key_password": {"file": str(file)}}
        tls = KafkaTls.model_validate(trusted | {"client": client})
        assert remedy in await failure(Client(secured.mutual, his.name, None, tls))


async def test_a_file_that_is_not_there_is_named(secured: KafkaServer, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.pem")
    assert f"{gone} cannot be read" in await failure(Client(secured.sasl, "t", None, KafkaTls(ca_file=gone)))
