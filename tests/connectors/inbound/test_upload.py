"""Files that suppliers post: whole, or not at all; through a real Kafka."""

from __future__ import annotations

import asyncio
import gzip
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from connectors.inbound import spool, uploads
from connectors.inbound.spool import DRAFTS, tidy
from tests.connectors.inbound.sending import Receiver, listening, post, ready
from tests.connectors.inbound.test_server import BEARER, form, in_chunks, upload_feed
from tests.connectors.running import Running, repeats, units

CSV = b"code,stock\ns1,5\ns2,7\n"


def kept(folder: Path) -> list[str]:
    """Of all that is below it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_the_rows_of_an_upload_are_updates(running: Running, tmp_path: Path) -> None:
    url = listening(running)
    running.configure("acme", files=upload_feed(tmp_path, then="move", to="done"))
    async with running:
        await ready(running, url)
        status, _, text = await post(f"{url}/uploads/acme/files?name=monday.csv", CSV, BEARER)
        assert status == 201
        answer = json.loads(text)
        assert (answer["size"], answer["sha256"]) == (len(CSV), sha256(CSV).hexdigest())
        updates = await running.until_updates(2)
        assert units(updates) == {"s1": 5, "s2": 7}
        await running.until((tmp_path / "in" / "done" / answer["name"]).exists)
        packed = gzip.compress(b"code,stock\ns1,4\n")
        assert (await post(f"{url}/uploads/acme/files", form(("tuesday.csv.gz", packed), note="x"), BEARER))[0] == 201
        updates = await running.until_updates(3)
    assert (units(updates)["s1"], repeats(updates)) == (4, 0)
    assert {update["feed"] for update in updates} == {"acme/files@1"}


async def test_what_is_in_the_folder_is_what_was_sent(running: Running, tmp_path: Path) -> None:
    running.configure("acme", files=upload_feed(tmp_path))
    large = b"code,stock\n" + b"s1,5\n" * 1_000_000
    async with Receiver(running) as server:
        url = f"{server.url}/uploads/acme/files"
        for name, data in (("a b/../ü.csv", form(("a b/../ü.csv", large))), ("chunks", in_chunks(large))):
            status, _, text = await post(url, data, BEARER)
            assert status == 201, text
            file = tmp_path / "in" / json.loads(text)["name"]
            assert file.read_bytes() == large, name
            assert json.loads(text)["sha256"] == sha256(large).hexdigest()
    assert len(kept(tmp_path / "in")) == 2
    assert all(not set(name) & set("/ü ") for name in kept(tmp_path / "in"))


async def test_who_may_not_or_sends_no_single_file_is_refused_and_nothing_stays(
    running: Running, tmp_path: Path
) -> None:
    running.configure("acme", files=upload_feed(tmp_path, bytes_max=1_000))
    two, none = form(("a", CSV), ("b", CSV)), form(note="x")
    cut = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.csv"\r\n\r\ncode,stock\ns1,5\n'
    form_type = {"Content-Type": "multipart/form-data; boundary=b"}
    async with Receiver(running) as server:
        url = f"{server.url}/uploads/acme/files"
        cases: list[tuple[int, str, Any, dict[str, str]]] = [
            (401, "wrong_token", CSV, {}),
            (401, "wrong_token", CSV, {"Authorization": "Bearer é"}),
            (401, "wrong_token", CSV, {"Authorization": BEARER["Authorization"].replace("Bearer", "Basic")}),
            (400, "empty_file", b"", BEARER),
            (400, "several_files", two, BEARER),
            (400, "no_file", none, BEARER),
            (400, "malformed_form", cut, BEARER | form_type),
            (400, "malformed_form", cut + b"\r\n--b", BEARER | form_type),
            (400, "malformed_form", b"", BEARER | form_type),
            (400, "malformed_form", CSV, BEARER | {"Content-Type": "multipart/form-data"}),
            (413, "body_too_large", b"x" * 1_001, BEARER),
            (413, "body_too_large", in_chunks(b"x" * 1_001), BEARER),
            (413, "body_too_large", form(("a", b"x" * 1_001)), BEARER),
            (415, "unsupported_encoding", CSV, BEARER | {"Content-Encoding": "br"}),
        ]
        for status, reason, data, headers in cases:
            found, told, text = await post(url, data, headers)
            assert (found, json.loads(text).get("reason")) == (status, reason), text
            assert found != 401 or told["WWW-Authenticate"] == "Bearer"
            assert kept(tmp_path / "in") == []


async def test_a_file_that_breaks_off_or_stalls_is_not_there(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "STALL_S", 0.5)
    running.configure("acme", files=upload_feed(tmp_path))
    head = f"POST /uploads/acme/files HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER['Authorization']}\r\n"
    drafts = tmp_path / "in" / DRAFTS
    async with Receiver(running) as server:
        port = int(server.url.rpartition(":")[2])
        for length in ("Content-Length: 100\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n4\r\n"):
            for breaks_off in (True, False):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(f"{head}{length}half".encode())
                await writer.drain()
                await running.until(lambda: len(list(drafts.iterdir())) == 1)
                if not breaks_off:
                    assert (await reader.readline()).split()[1] == b"408"
                writer.close()
                await running.until(lambda: not list(drafts.iterdir()))
                assert kept(tmp_path / "in") == []


async def test_a_folder_that_cannot_be_written_is_503_and_not_told_of(running: Running, tmp_path: Path) -> None:
    running.configure("acme", files=upload_feed(tmp_path))
    (tmp_path / "in").write_text("a file in its place")
    async with Receiver(running) as server:
        status, headers, text = await post(f"{server.url}/uploads/acme/files", CSV, BEARER)
        assert (status, headers["Retry-After"]) == (503, "30")
        assert str(tmp_path) not in text


def test_what_a_process_left_that_died_is_deleted_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.make(tmp_path)
    (tmp_path / DRAFTS / "a.csv").write_bytes(b"x")
    tidy(tmp_path)
    assert len(kept(tmp_path)) == 1
    monkeypatch.setattr(spool, "DRAFT_S_MAX", -1)
    tidy(tmp_path)
    assert kept(tmp_path) == []
