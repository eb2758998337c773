from __future__ import annotations

import base64
import http.client
import json
import threading
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from schemas.codec import FRAME, Codec
from schemas.registry import UNUSABLE_S, ConfluentRegistry, versions
from schemas.topics import subjects
from stockweave.errors import Fatal, Rejected, Retriable
from stockweave.ports import free_port
from tests.schemas import apicurio
from tests.schemas.test_codec import sample

real = pytest.mark.online
pytestmark = pytest.mark.timeout(600)  # the first start fetches 159 MB


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with apicurio.running() as address:
        yield address


@pytest.fixture
def names() -> dict[str, str]:
    """The subjects of a deployment of this test alone."""
    return subjects(f"{uuid.uuid4().hex[:8]}.")


def ask(url: str, method: str, path: str, body: object = None) -> object:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    with closing(connection):
        connection.request(method, parts.path + path, json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
    assert answer.status == 200, text
    return json.loads(text)


@real
def test_every_schema_is_registered_under_its_topics_subject_and_found_by_its_id(
    url: str, names: dict[str, str]
) -> None:
    writer, reader = ConfluentRegistry(url, names), ConfluentRegistry(url, names)
    for name, subject in names.items():
        schema_id = writer.id_of(name)
        assert writer.id_of(name) == schema_id
        assert reader.schema_of(schema_id) == versions()[name][-1]
        found = ask(url, "GET", f"/subjects/{subject}/versions/latest")
        assert isinstance(found, dict)
        assert found["id"] == schema_id


@real
def test_registering_again_gives_the_same_id(url: str, names: dict[str, str]) -> None:
    first = ConfluentRegistry(url, names).id_of("StockUpdate")
    assert ConfluentRegistry(url, names).id_of("StockUpdate") == first


@real
def test_what_one_process_encodes_another_decodes(url: str, names: dict[str, str]) -> None:
    message = Codec("StockUpdate", ConfluentRegistry(url, names)).encode(sample())
    assert Codec("StockUpdate", ConfluentRegistry(url, names)).decode([message, message]) == [sample(), sample()]


@real
def test_an_id_that_the_registry_does_not_know_is_rejected(url: str, names: dict[str, str]) -> None:
    codec = Codec("StockUpdate", ConfluentRegistry(url, names))
    [decoded] = codec.decode([FRAME.pack(0, 1_000_000) + b"x"])
    assert isinstance(decoded, Rejected)
    assert decoded.reason == "unknown_schema_id"


@real
@pytest.mark.parametrize("foreign", ['"string"', '["null", "string"]', '{"type": "map", "values": "long"}'])
def test_a_foreign_schema_is_rejected_as_the_wrong_one(url: str, names: dict[str, str], foreign: str) -> None:
    answer = ask(url, "POST", f"/subjects/{uuid.uuid4().hex}/versions", {"schema": foreign})
    assert isinstance(answer, dict)
    [decoded] = Codec("StockUpdate", ConfluentRegistry(url, names)).decode([FRAME.pack(0, answer["id"]) + b"x"])
    assert isinstance(decoded, Rejected)
    assert decoded.reason == "wrong_schema"


@real
def test_a_json_schema_is_rejected(url: str, names: dict[str, str]) -> None:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}
    body = {"schema": json.dumps(schema), "schemaType": "JSON"}
    answer = ask(url, "POST", f"/subjects/{uuid.uuid4().hex}/versions", body)
    assert isinstance(answer, dict)
    with pytest.raises(Rejected, match="is JSON; AVRO is expected"):
        ConfluentRegistry(url, names).schema_of(answer["id"])


@real
def test_an_incompatible_version_is_refused_by_the_registry_and_fatal_here(url: str, names: dict[str, str]) -> None:
    subject = names["StockUpdate"]
    other = {"type": "record", "name": "StockUpdate", "fields": [{"name": "sku", "type": "long"}]}
    ask(url, "POST", f"/subjects/{subject}/versions", {"schema": json.dumps(other)})
    ask(url, "PUT", f"/config/{subject}", {"compatibility": "BACKWARD"})
    with pytest.raises(Fatal, match=r"the registry refuses /subjects/.*; see its compatibility level"):
        ConfluentRegistry(url, names).id_of("StockUpdate")


def test_a_registry_that_does_not_answer_is_worth_another_try() -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Retriable, match=rf"the registry at {nowhere} does not answer .*is it running\?"):
        ConfluentRegistry(nowhere, subjects("")).id_of("StockUpdate")


@pytest.mark.parametrize("wrong", ["registry:8081", "ftp://registry", "http://", ""])
def test_an_address_that_is_none_is_fatal(wrong: str) -> None:
    with pytest.raises(Fatal, match="STOCKWEAVE_REGISTRY_URL is"):
        ConfluentRegistry(wrong, subjects(""))


class Gate(BaseHTTPRequestHandler):
    """Answers every request with one status, as a proxy before a registry does, and keeps the headers it was sent."""

    status = 503
    told: ClassVar[dict[str, str]] = {}

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).told = dict(self.headers)
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"no")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Quiet."""


@pytest.fixture
def gate() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Gate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, Fatal), (403, Fatal), (404, Retriable), (409, Fatal), (429, Retriable), (503, Retriable)],
)
def test_a_refusal_is_fatal_and_an_overload_is_worth_another_try(
    gate: str, status: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "status", status)
    with pytest.raises(error, match="the registry"):
        ConfluentRegistry(f"http://{gate}", subjects("")).id_of("StockUpdate")


class Answers(BaseHTTPRequestHandler):
    """Answers every request with the same bytes, and closes; counts."""

    raw: ClassVar[bytes] = b""
    asked: ClassVar[list[str]] = []

    def handle(self) -> None:
        self.raw_requestline = self.rfile.readline()
        self.parse_request()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append(self.path)
        self.wfile.write(self.raw)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Quiet."""


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Answers, "asked", [])
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


OK = b"HTTP/1.0 200 OK\r\n"
NOT_FOUND = b"HTTP/1.0 404 Not Found\r\n\r\n{}"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (OK + b'Content-Length: 100\r\n\r\n{"schema":', "half an answer"),
        (OK + b"\r\n<html>proxy</html>", "something that is not JSON"),
        (OK + b"\r\n\xff\xfe\x00", "something that is not JSON"),
        (OK + b"\r\n", "something that is not JSON"),
        (OK + b"\r\n[1]", "JSON that is no object"),
        (OK + b"\r\n{}", "an answer without"),
        (OK + b'\r\n{"id": "seven", "schema": 7}', "an answer without"),
        (OK + b'\r\n{"schema": "{"}', "an answer without"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "none of HTTP"),
        (b"", "does not answer"),
        (b"HTTP/1.0 503 Busy\r\nContent-Length: 100\r\n\r\nhalf", "answers 503"),
    ],
)
@pytest.mark.parametrize("ask", ["id_of", "schema_of"])
def test_what_no_registry_would_answer_is_worth_another_try_and_named(
    answers: str, raw: bytes, said: str, ask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "raw", raw)
    registry = ConfluentRegistry(answers, subjects(""))
    with pytest.raises(Retriable, match=said):
        registry.id_of("StockUpdate") if ask == "id_of" else registry.schema_of(7)


def test_an_unknown_id_is_asked_for_once_in_a_while_and_found_when_it_is_there(
    answers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "raw", NOT_FOUND)
    now_s = [100.0]
    registry = ConfluentRegistry(answers, subjects(""), monotonic_s=lambda: now_s[0])
    for _ in range(3):
        for schema_id in (7, 8):
            with pytest.raises(Rejected, match=f"/schemas/ids/{schema_id} is not in the registry; register it"):
                registry.schema_of(schema_id)
    assert Answers.asked == ["/schemas/ids/7", "/schemas/ids/8"]
    monkeypatch.setattr(Answers, "raw", OK + b'\r\n{"schema": "\\"string\\""}')
    now_s[0] += UNUSABLE_S - 0.1
    with pytest.raises(Rejected):
        registry.schema_of(7)
    now_s[0] += 0.2
    assert registry.schema_of(7) == registry.schema_of(7) == {"type": "string"}
    assert len(Answers.asked) == 3


def test_an_id_of_another_kind_of_schema_is_not_asked_for_again(answers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "raw", OK + b'\r\n{"schemaType": "JSON", "schema": "{}"}')
    registry = ConfluentRegistry(answers, subjects(""))
    for _ in range(3):
        with pytest.raises(Rejected, match="schema id 7 is JSON; AVRO is expected"):
            registry.schema_of(7)
    assert len(Answers.asked) == 1


def test_a_registry_that_is_away_is_asked_each_time(answers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "raw", b"HTTP/1.0 503 Busy\r\n\r\n")
    registry = ConfluentRegistry(answers, subjects(""))
    for _ in range(3):
        with pytest.raises(Retriable):
            registry.schema_of(7)
    assert len(Answers.asked) == 3


def test_unknown_ids_do_not_fill_the_memory(answers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "raw", NOT_FOUND)
    monkeypatch.setattr("schemas.registry.UNUSABLE_MAX", 10)
    registry = ConfluentRegistry(answers, subjects(""))
    for schema_id in range(30):
        with pytest.raises(Rejected):
            registry.schema_of(schema_id)
    assert list(registry._unusable) == list(range(20, 30))


def test_user_and_password_in_the_address_are_sent_as_basic_authentication(gate: str) -> None:
    with pytest.raises(Retriable) as caught:
        ConfluentRegistry(f"http://me:p%40ss@{gate}/api", subjects("")).id_of("StockUpdate")
    assert Gate.told["Authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert "p@ss" not in str(caught.value)
    assert "p%40ss" not in str(caught.value)


def answered(body: bytes) -> bytes:
    return b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("schema_id", [b"-1", b"4294967296", b"true", b"1.5", b'"7"', b"null"])
def test_an_id_that_no_message_can_carry_is_no_answer(
    answers: str, schema_id: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "raw", answered(b'{"id": ' + schema_id + b"}"))
    with pytest.raises(Retriable, match="an answer without an id"):
        ConfluentRegistry(answers, subjects("")).id_of("StockUpdate")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"schema": "' + b"[" * 100_000 + b'"}', "nested too deep"),
        (b'{"schema": "' + b"x" * (5 << 20) + b'"}', "is larger than"),
    ],
)
def test_a_schema_that_nobody_can_read_does_not_hold_up_what_follows_its_messages(
    answers: str, body: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "raw", answered(body))
    with pytest.raises(Rejected, match=said) as refused:
        ConfluentRegistry(answers, subjects("")).schema_of(7)
    assert refused.value.reason == "unknown_schema_id"


def test_an_answer_nested_beyond_reading_is_worth_another_try(answers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "raw", answered(b"[" * 100_000))
    with pytest.raises(Retriable, match="not JSON"):
        ConfluentRegistry(answers, subjects("")).schema_of(7)
