"""Schemas of a registry, which is a real one: asked for once, with our user and password, and told when it refuses."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from connectors.credentials.secret import Secret
from connectors.formats.avro import schemas
from connectors.formats.avro.config import AvroConfig, SchemaRegistry
from connectors.testing.certificates import Authority
from schemas.codec import FRAME
from stockweave.errors import Retriable
from stockweave.ports import free_port
from tests.connectors.formats.avro.test_container import SCHEMA, body, texts
from tests.connectors.formats.avro.test_messages import PATHS, one, rows
from tests.connectors.kafka.test_source import Supplier
from tests.connectors.running import Running, units
from tests.schemas import apicurio

JSON_SCHEMA = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}
PROOF = "Basic " + base64.b64encode(b"us:hunter2").decode()


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with apicurio.running() as url:
        yield url


class Gate(BaseHTTPRequestHandler):
    """Stands before a registry, as its owners do it: lets those through who prove who they are."""

    behind: ClassVar[str]
    asked: ClassVar[list[str]]
    instead: ClassVar[tuple[int, bytes] | None]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, content = (401, b"") if self.headers["Authorization"] != PROOF else self.instead or self._passed()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _passed(self) -> tuple[int, bytes]:
        parts = urlsplit(self.behind)
        with closing(http.client.HTTPConnection(parts.netloc, timeout=10)) as connection:
            connection.request("GET", parts.path + self.path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def gate(behind: str, authority: Authority | None = None) -> Iterator[tuple[type[Gate], str]]:
    made = type("OwnGate", (Gate,), {"behind": behind, "asked": [], "instead": None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), made)
    if authority is not None:
        server.socket = authority.server().wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made, f"http{'' if authority is None else 's'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def register(url: str, **more: Any) -> int:
    """An id of the registry's for SCHEMA, or for another one."""
    parts = urlsplit(url)
    asked = {"schema": json.dumps(SCHEMA | {"doc": uuid.uuid4().hex})} | more
    with closing(http.client.HTTPConnection(parts.netloc, timeout=10)) as connection:
        path = f"{parts.path}/subjects/{uuid.uuid4().hex}/versions"
        connection.request("POST", path, json.dumps(asked), {"Content-Type": "application/vnd.schemaregistry.v1+json"})
        answer = connection.getresponse()
        text = answer.read()
    assert answer.status == 200, text
    found: int = json.loads(text)["id"]
    return found


def config(url: str, password: Path, **more: Any) -> AvroConfig:
    password.write_text("hunter2\n")
    return AvroConfig(registry=SchemaRegistry(url=url, user="us", password=Secret(file=str(password)), **more))


@pytest.mark.online
def test_each_id_is_asked_for_once_with_our_proof(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, other, protobuf = register(registry), register(registry), 2**31 - 1
    with gate(registry) as (asked, url):
        read = config(f"{url}/", tmp_path / "password")
        values = [FRAME.pack(0, schema_id) + one(n) for n, schema_id in enumerate((known, other, known, protobuf))]
        for _ in range(2):
            [found] = rows(read, *values)
            assert texts([found], PATHS) == [("s0", "0", "k0"), ("s1", "1", "k1"), ("s2", "2", "k2")]
            assert "does not know it" in found.broken[0].detail
        assert asked.asked == [f"/schemas/ids/{each}" for each in (known, other, protobuf)]
        monkeypatch.setattr(schemas, "UNKNOWN_S", 0.0)
        (tmp_path / "password").write_text("changed")
        unknown = [FRAME.pack(0, protobuf - 1) + one(1)]
        with pytest.raises(Retriable, match=r"answers 401; mend registry\.user and registry\.password") as raised:
            rows(read, *unknown)
        assert "changed" not in str(raised.value)
        assert not rows(read, *values[:3])[0].broken, "what is known needs no registry"
        (tmp_path / "password").write_text("hunter2")
        rows(read, *unknown)
        rows(read, *unknown)
        assert len(asked.asked) == 6


@pytest.mark.online
def test_a_registry_over_tls_is_one_that_we_trust(registry: str, tmp_path: Path) -> None:
    authority, value = Authority(tmp_path), FRAME.pack(0, register(registry)) + one(1)
    with gate(registry, authority) as (_, url):
        assert not rows(config(url, tmp_path / "p", tls={"ca_file": str(authority.file)}), value)[0].broken
        with pytest.raises(Retriable, match=r"does not answer \(SSLCertVerificationError\)"):
            rows(config(url, tmp_path / "p"), value)


@pytest.mark.online
def test_a_schema_of_another_kind_or_that_refers_to_others_is_told(registry: str, tmp_path: Path) -> None:
    subject = uuid.uuid4().hex
    parts = urlsplit(registry)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=10)) as connection:
        inner = {"type": "record", "name": "Inner", "fields": [{"name": "a", "type": "int"}]}
        headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        path = f"{parts.path}/subjects/{subject}/versions"
        connection.request("POST", path, json.dumps({"schema": json.dumps(inner)}), headers)
        assert connection.getresponse().status == 200
    outer = {"type": "record", "name": "Outer", "fields": [{"name": "inner", "type": "Inner"}]}
    refers = register(
        registry,
        schema=json.dumps(outer),
        schemaType="AVRO",
        references=[{"name": "Inner", "subject": subject, "version": 1}],
    )
    json_schema = register(registry, schema=json.dumps(JSON_SCHEMA), schemaType="JSON")
    with gate(registry) as (_, url):
        [found] = rows(
            config(url, tmp_path / "p"), *(FRAME.pack(0, schema_id) + one(1) for schema_id in (refers, json_schema))
        )
    assert "it refers to other schemas" in found.broken[0].detail
    assert "only AVRO is read" in found.broken[1].detail


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        ((503, b""), "answers 503; is it up"),
        ((302, b""), "answers 302; is it up"),
        ((403, b""), "answers 403; mend registry.user"),
        ((200, b"<html>"), "answers with no schema; mend registry.url"),
        ((200, b'{"id": 7}'), "answers with no schema"),
        ((200, b" " * 5_000_000), "answers with no schema"),
    ],
)
def test_what_is_no_answer_is_asked_for_again_later(instead: tuple[int, bytes], said: str, tmp_path: Path) -> None:
    with gate("") as (answers, url):
        answers.instead = instead
        with pytest.raises(Retriable, match=said):
            rows(config(url, tmp_path / "p"), FRAME.pack(0, 1) + one(1))
        answers.instead = 200, json.dumps({"schema": json.dumps(SCHEMA)}).encode()
        assert not rows(config(url, tmp_path / "p"), FRAME.pack(0, 1) + one(1))[0].broken


def test_a_registry_that_is_away_is_told(tmp_path: Path) -> None:
    with pytest.raises(Retriable, match=r"does not answer \(ConnectionRefusedError\); is it up\?"):
        rows(config(f"http://127.0.0.1:{free_port()}", tmp_path / "p"), FRAME.pack(0, 1) + one(1))


@pytest.mark.parametrize(
    "fields",
    [
        {"registry": {"url": "http://us:hunter2@registry"}},
        {"registry": {"url": "https://registry", "user": "us"}},
        {"registry": {"url": "http://registry", "tls": {}}},
        {"registry": {"url": "http://registry"}, "schema_file": "s.avsc"},
        {"schema_files": {}},
    ],
)
def test_a_configuration_that_does_not_fit_together_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AvroConfig.model_validate(fields)


@pytest.mark.online
async def test_messages_of_a_topic_are_rows_by_their_schemas_and_broken_ones_are_dead_letters(
    running: Running, registry: str, tmp_path: Path
) -> None:
    supplier = Supplier(running.deployment.bootstrap_servers, 1)
    schema = SCHEMA | {"fields": [*SCHEMA["fields"], {"name": "at", "type": TIME}]}
    schema_id = register(registry, schema=json.dumps(schema))
    for n in range(3):
        record = {"code": f"s{n}", "stock": n, "at": 1_790_000_000_000 + n}
        supplier.send(FRAME.pack(0, schema_id) + body(schema, record), key=f"k{n}", headers=[("where", b"north")])
    supplier.send(b"\0\0\0\0\x01\xff\xfe")
    supplier.producer.flush(30)
    mapping = {"version": 1, "sku": "$.value.code", "quantity": "$.value.stock"}
    mapping |= {"observed_at": "$.value.at", "location": "$.headers.where"}
    feed = supplier.feed(mapping, each="record") | {"format": {"format": "avro", "registry": {"url": registry}}}
    running.configure("acme", stock=feed)
    async with running:
        updates = await running.until_updates(3)
        await running.until(lambda: len(running.letters()) == 1)
    assert units(updates) == {"s0": 0, "s1": 1, "s2": 2}
    assert {u["observed_at"] for u in updates} == {1_790_000_000_000, 1_790_000_000_001, 1_790_000_000_002}
    assert {u["location_id"] for u in updates} == {"north"}
    [letter] = running.letters()
    said, _, value = (letter.value() or b"").partition(b"\n")
    assert value == b"\0\0\0\0\x01\xff\xfe"
    assert json.loads(said)["id"] == f"{supplier.topic}-00000-{3:016}"


TIME = {"type": "long", "logicalType": "timestamp-millis"}
