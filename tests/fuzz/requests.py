"""Hostile requests, byte by byte, to a served API: what no client library would send."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from typing import Any

import orjson

from connectors.push.body import NDJSON
from stockweave.bodies import JSON
from tests.fuzz.junk import SCALARS, TEXTS, spoilt, spoilt_json

ANSWERS_S = 5.0
ENDS_S = 0.2  # how long a request that is cut short is waited for, until its end is told
READS = (
    b"/api/v1/inventory?sku=milk", b"/api/v1/inventory?sku=milk,tea&min_offset=0-0", b"/api/v1/inventory/tea",
    b"/api/v1/inventory?limit=2&in_stock=true&supplier=acme&location=default", b"/api/v1/inventory?updated_since=1",
    b"/api/v1/inventory?cursor=kqFnoWE", b"/api/v1/stats", b"/healthz", b"/readyz", b"/metrics?name[]=x",
    b"/openapi.json", b"/docs", b"/nothing",
)  # fmt: skip
HEADERS = (
    b"If-None-Match", b"Accept", b"Content-Type", b"Content-Encoding", b"Transfer-Encoding", b"Content-Length", b"Host",
    b"traceparent", b"Cookie", b"Range", b"Accept-Encoding", b"Connection", b"Upgrade",
)  # fmt: skip
VALUES = (
    b"\xff", b"", b'W/"\xff', b"*", b"text/plain;version=1.x.0",
    b"application/openmetrics-text; version=a; escaping=\xff",
    b"application/json; charset=\xff", b"application/json; charset*=x'y'%ff", b";;;=", b"gzip", b"chunked", b"-1", b"7",
    b"[", b"x:99999999", b"<script>", b"\x00", b"a" * 9_000, b"application/x-ndjson", b"websocket",
)  # fmt: skip
UPDATE = {"sku": "tea", "quantity": 3, "timestamp": "2026-01-05T09:00:00Z", "updateId": "u-1", "kind": "COUNT",
          "incoming": [{"expectedAt": 1_800_000_000_000, "quantity": 5}], "staleAfterMs": 60_000}  # fmt: skip
RESERVED: dict[str, Any] = {
    "sku": "tea",
    "quantity": 1,
    "orderId": "o-1",
    "if_version": "g-7",
    "preferred_locations": ["shop", "x"],
}
RESERVATION: dict[str, Any] = {
    "order_id": "o-1",
    "lines": [{"sku": "milk", "quantity": 2, "location": "default"}],
    "channel": "web",
}
OWN_ID = b"AAAAAAAAAAAAAAAAAAAAAA.dGVh"


def get(path: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join((b"GET " + path + b" HTTP/1.1", b"Connection: close", *_host(headers), *headers, b"", b""))


def post(path: bytes, body: bytes, media: str = JSON, *headers: bytes) -> bytes:
    """A POST to a route of suppliers."""
    return post_to(b"/api/v1/suppliers/" + path, body, media, *headers)


def post_to(path: bytes, body: bytes, media: str = JSON, *headers: bytes) -> bytes:
    """A POST to any path."""
    own = [f"Content-Type: {media}".encode()] if not any(h.startswith(b"Content-Type") for h in headers) else []
    length = b"Content-Length: %d" % len(body)
    head = (b"POST " + path + b" HTTP/1.1", b"Connection: close", *_host(headers), *own, length)
    return b"\r\n".join((*head, *headers, b"", body))


def _host(headers: tuple[bytes, ...]) -> list[bytes]:
    return [] if any(h.startswith(b"Host:") for h in headers) else [b"Host: x"]


def status(port: int, request: bytes) -> int | None:
    """Of the answer; None where the connection ends without one, as it may where the request never ends."""
    with socket.create_connection(("127.0.0.1", port), ANSWERS_S) as connection:
        try:
            connection.sendall(request)
            connection.settimeout(ENDS_S)
            answer = _received(connection)
            if answer is None:
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(ANSWERS_S)
                answer = _received(connection)
            while answer and _received(connection):
                pass  # to its end: an answer that nobody reads is an error to the server
        except ConnectionError:
            return None  # what was sent is no request, and was not read to its end
    return int(answer.split(b" ", 2)[1]) if answer else None


def _received(connection: socket.socket) -> bytes | None:
    try:
        return connection.recv(64 << 10)
    except TimeoutError:
        return None


def request(drawn: random.Random) -> bytes:
    """One request, spoilt somewhere."""
    headers = [drawn.choice(HEADERS) + b": " + _header(drawn) for _ in range(drawn.choice((0, 0, 0, 1, 2)))]
    match drawn.randrange(8):
        case 6 | 7:
            return _reservation(drawn, headers)
        case 0 | 1:
            path = drawn.choice(READS)
            return get(spoilt(drawn, path)[:2_000] if drawn.randrange(4) == 0 else path + _percent(drawn), *headers)
        case 2:
            return post(b"acme/inventory-update", _update(drawn), JSON, *headers)
        case 3:
            items = b"[" + b",".join(_update(drawn) for _ in range(drawn.randint(0, 3))) + b"]"
            return post(_percent(drawn) + b"/inventory-batch-update", items, JSON, *headers)
        case 4:
            lines = b"\n".join(spoilt(drawn, _update(drawn)) for _ in range(drawn.randint(0, 5)))
            return post(b"acme/inventory-batch-update", lines, NDJSON, *headers)
    return spoilt(drawn, post(b"acme/inventory-update", orjson.dumps(UPDATE), JSON, *headers))


def _reservation(drawn: random.Random, headers: list[bytes]) -> bytes:
    """A call on reservations."""
    key = [b"Idempotency-Key: " + drawn.choice((b"k-1", b"k-1", b"\xff", b"a b", b"", b"k" * 300))]
    body = _spoilt_body(drawn, RESERVED)
    match drawn.randrange(5):
        case 0:
            return post_to(b"/api/v1/inventory/reserve", body, JSON, *key, *headers)
        case 1:
            return post_to(b"/api/v1/reservations", _spoilt_body(drawn, RESERVATION), JSON, *key, *headers)
        case 2:
            entries = b",".join((body, _spoilt_body(drawn, RESERVATION), _spoilt_body(drawn, RESERVED)))
            return post_to(b"/api/v1/reservations:batch", b'{"reservations":[' + entries + b"]}", JSON, *key, *headers)
        case 3:
            path = spoilt(drawn, b"/api/v1/reservations/" + OWN_ID) if drawn.randrange(2) else b"/api/v1/reservations/"
            return get(path[:2_000] + _percent(drawn), *headers)
    action = drawn.choice((b"commit", b"release", b"fulfil", b"extend"))
    units = _spoilt_body(drawn, {"quantity": 1, "location": "default"})
    own_id = drawn.choice((OWN_ID, _percent(drawn), OWN_ID + b"%00"))
    return post_to(b"/api/v1/reservations/" + own_id + b"/" + action, units, JSON, *key, *headers)


def _header(drawn: random.Random) -> bytes:
    value = drawn.choice(VALUES)
    return spoilt(drawn, value)[:9_000].replace(b"\n", b"") if drawn.randrange(3) == 0 else value


def _percent(drawn: random.Random) -> bytes:
    return b"".join(b"%%%02x" % byte for byte in drawn.choice(TEXTS)[:200])


def _update(drawn: random.Random) -> bytes:
    return _spoilt_body(drawn, UPDATE)


def _spoilt_body(drawn: random.Random, good: dict[str, Any]) -> bytes:
    match drawn.randrange(4):
        case 0:
            return spoilt(drawn, orjson.dumps(good))
        case 1:
            return (
                orjson.dumps(good)[:-1] + b',"a":' + drawn.choice((b"[" * 9_000, b"9" * 5_000, b"1e999", b"NaN")) + b"}"
            )
    changed = spoilt_json(drawn, good) if drawn.randrange(2) else good | {"sku": drawn.choice(SCALARS)}
    return orjson.dumps(changed, default=str) if _is_utf8(changed) else b'{"sku": "\\ud800"}'


def _is_utf8(value: object) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def hostile(port: int, count: Callable[[int | None], object]) -> Callable[[random.Random, int], int]:
    """Requests to the API at `port`: each is answered, or its connection ends, and no answer is 500."""

    def run(drawn: random.Random, cases: int) -> int:
        for _ in range(cases):
            sent = request(drawn)
            answered = status(port, sent)
            count(answered)
            assert answered != 500, sent
        return cases

    return run
