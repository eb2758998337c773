"""What suppliers are answered, and what they are never told."""

from __future__ import annotations

import asyncio
import json
import socket
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData

from connectors.configuration.load import load
from connectors.inbound import hooks
from connectors.kinds import kinds
from schemas.topics import RECEIVED
from stockweave.errors import Fatal
from stockweave.ports import free_port
from tests.connectors.inbound.sending import SECRET, Receiver, body, hook_feed, kept, post, send, signed
from tests.connectors.running import Running

TOKEN = "t0ken-of-the-supplier"


def upload_feed(folder: Path, **more: Any) -> dict[str, Any]:
    source = {"kind": "upload", "path": str(folder / "in"), "token": kept(folder, "token", TOKEN)} | more
    return {
        "source": source,
        "format": {"format": "csv"},
        "mapping": {"version": 1, "sku": "code", "quantity": "stock"},
        "poll": {"every_s": 0.2},
    }


BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def test_each_refusal_has_its_status_and_is_a_problem(running: Running, tmp_path: Path) -> None:
    more = {"body_bytes_max": 100, "delivery_id_header": "X-Delivery"}
    stripe = {"signature": {"scheme": "stripe", "secret": kept(tmp_path)}}
    running.configure("acme", stock=hook_feed(tmp_path, more), timed=hook_feed(tmp_path, stripe))
    raw = body(s1=5)
    async with Receiver(running) as server:
        hook = f"{server.url}/hooks/acme/stock"
        cases = [
            (202, None, hook, raw, signed(raw, **{"X-Delivery": "d"})),
            (401, "wrong_signature", hook, raw + b" ", signed(raw, **{"X-Delivery": "d"})),
            (401, "wrong_signature", hook, raw, {}),
            (400, "no_delivery_id", hook, raw, signed(raw)),
            (400, "malformed_timestamp", f"{server.url}/hooks/acme/timed", raw, {"Stripe-Signature": "t=now,v1=00"}),
            (404, "unknown_feed", f"{server.url}/hooks/acme/other", raw, signed(raw)),
            (404, "unknown_feed", f"{server.url}/uploads/acme/stock", raw, BEARER),
            (404, "not_found", f"{server.url}/hooks", raw, {}),
            (413, "body_too_large", hook, b"x" * 101, signed(b"x" * 101)),
            (413, "body_too_large", hook, in_chunks(b"x" * 101), signed(b"x" * 101)),
            (415, "unsupported_encoding", hook, raw, signed(raw, **{"Content-Encoding": "br"})),
            (404, "unknown_feed", f"{hook}?hub.challenge=x", None, {}),
        ]
        for status, reason, url, data, headers in cases:
            method = "GET" if data is None else "POST"
            found, told, text = await post(url, data, headers, method)
            assert found == status, (reason, text)
            if reason is not None:
                assert told["Content-Type"].startswith("application/problem+json")
                assert json.loads(text)["reason"] == reason
                assert "openapi" not in text, "it is not served here"
            assert SECRET not in text
    assert len(list(running.deployment.read(RECEIVED.name))) == 1


async def test_while_kafka_is_away_a_webhook_is_503_and_nobody_hears_where_it_is(
    running: Running, tmp_path: Path
) -> None:
    running.configure("acme", stock=hook_feed(tmp_path))
    servers = f"127.0.0.1:{free_port()}"
    async with Receiver(running, servers) as server:
        raw = body(s1=5)
        status, headers, text = await post(f"{server.url}/hooks/acme/stock", raw, signed(raw))
        assert (status, headers["Retry-After"], json.loads(text)["reason"]) == (503, "1", "try_again")
        assert servers not in text
        assert (await post(f"{server.url}/healthz", None, method="GET"))[0] == 503
        assert (await post(f"{server.url}/hooks/acme/stock", raw, {}))[0] == 401


async def test_a_secret_that_is_missing_or_empty_refuses_all_and_where_it_should_be_is_told_to_the_log_alone(
    running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running.configure("acme", stock=hook_feed(tmp_path), files=upload_feed(tmp_path))
    raw = body(s1=5)
    async with Receiver(running) as server:
        for text in (None, ""):
            for name in ("secret", "token"):
                (tmp_path / name).unlink() if text is None else (tmp_path / name).write_text(text)
            for path, headers in (
                ("hooks/acme/stock", signed(raw)),
                ("uploads/acme/files", {"Authorization": "Bearer "}),
            ):
                status, told, answer = await post(f"{server.url}/{path}", raw, headers)
                assert (status, told["Retry-After"]) == (503, "30")
                assert str(tmp_path) not in answer
    assert "secret_missing" in capsys.readouterr().out
    assert list(running.deployment.read(RECEIVED.name)) == []


async def test_no_secret_is_logged_or_answered(
    running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = {"signature": {"scheme": "token", "header": "X-Token", "secret": kept(tmp_path)}}
    running.configure(
        "acme", stock=hook_feed(tmp_path, token | {"verify_token": kept(tmp_path)}), files=upload_feed(tmp_path)
    )
    async with Receiver(running) as server:
        hook, uploads = f"{server.url}/hooks/acme/stock", f"{server.url}/uploads/acme/files"
        answers = [
            await post(hook, body(s1=5), {"X-Token": SECRET}),
            await post(hook, body(s1=5), {"X-Token": f"{SECRET}x"}),
            await post(f"{hook}?hub.verify_token={SECRET}&hub.challenge=c", None, method="GET"),
            await post(f"{hook}?hub.verify_token={SECRET}x&hub.challenge=c", None, method="GET"),
            await post(uploads, b"code,stock\n", BEARER),
            await post(uploads, b"code,stock\n", {"Authorization": f"Bearer {TOKEN}x"}),
        ]
    assert [status for status, _, _ in answers] == [202, 401, 200, 401, 201, 401]
    assert answers[2][2] == "c"
    said = capsys.readouterr()
    everything = [said.out, said.err, *(f"{headers} {text}" for _, headers, text in answers)]
    assert not [text for text in everything if SECRET in text or TOKEN in text]


async def test_who_asks_by_a_body_whether_it_is_us_is_answered_once_it_has_proved_itself(
    running: Running, tmp_path: Path
) -> None:
    running.configure("acme", stock=hook_feed(tmp_path, {"url_verification": True}))
    raw = b'{"type":"url_verification","challenge":"3eZbrw1a"}'
    async with Receiver(running) as server:
        hook = f"{server.url}/hooks/acme/stock"
        status, _, text = await post(hook, raw, signed(raw))
        assert (status, json.loads(text)) == (200, {"challenge": "3eZbrw1a"})
        assert (await post(hook, raw, {}))[0] == 401
    assert list(running.deployment.read(RECEIVED.name)) == []


async def test_a_body_that_breaks_off_or_does_not_come_is_not_kept(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "BODY_S", 0.3)
    running.configure("acme", stock=hook_feed(tmp_path, {"signature": {"scheme": "none"}}))
    async with Receiver(running) as server:
        port = int(server.url.rpartition(":")[2])
        for breaks_off in (True, False):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /hooks/acme/stock HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
            await writer.drain()
            if breaks_off:
                writer.close()
            else:
                assert (await reader.readline()).split()[1] == b"408"
                writer.close()
        assert await send(f"{server.url}/hooks/acme/stock", body(s1=1)) == 202
    assert [m.value() for m in running.deployment.read(RECEIVED.name)] == [body(s1=1)]


async def test_two_processes_of_a_machine_share_the_port_and_another_program_is_told(
    running: Running, tmp_path: Path
) -> None:
    running.configure("acme", stock=hook_feed(tmp_path))
    first, second = Receiver(running), Receiver(running)
    second._inbound._port = first._inbound._port
    async with first:
        async with second:
            assert {await send(f"{first.url}/hooks/acme/stock", body(s1=n)) for n in range(8)} == {202}
        assert {await send(f"{first.url}/hooks/acme/stock", body(s1=n)) for n in range(8)} == {202}
    with (
        socket.create_server(("127.0.0.1", first._inbound._port)),
        pytest.raises(Fatal, match="STOCKWEAVE_CONNECTORS_PORT"),
    ):
        await first._inbound.configure(load(running.folder, kinds()))


async def in_chunks(data: bytes) -> Any:
    yield data[:50]
    yield data[50:]


def form(*files: tuple[str, bytes], **fields: str) -> FormData:
    made = FormData(fields, default_to_multipart=True)
    for name, content in files:
        made.add_field("file", BytesIO(content), filename=name)
    return made
