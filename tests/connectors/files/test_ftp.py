"""Folders of FTP servers, each test with a real one, on this machine; with TLS and without."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from connectors.documents import State
from connectors.files.ftp import FtpConfig
from connectors.testing.ftp_server import HOST, FtpServer, self_signed
from connectors.testing.transfer_faults import TransferFaults
from stockweave.errors import Retriable
from tests.connectors.files.fetching import (
    CHANGED_MS,
    SECRET,
    WRONG,
    complaint,
    drained,
    fetched,
    fetched_at_last,
    noise,
    opened,
    put,
    rows,
    settled,
)
from tests.connectors.running import SIMPLE, Running, repeats, units

Tls = Literal["none", "explicit", "implicit"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "out").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(autouse=True)
def _no_secret_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    monkeypatch.setenv("ACME_PASSWORD", SECRET)
    caplog.set_level(logging.DEBUG)
    yield
    assert SECRET not in caplog.text
    assert WRONG not in caplog.text


@pytest.fixture
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine is in a time zone of its own."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def options(server: FtpServer, **more: Any) -> dict[str, Any]:
    where = {"kind": "ftp", "host": HOST, "port": server.port, "user": server.user, "path": "/out", "tls": "none"}
    return where | {"password": {"env": "ACME_PASSWORD"}} | more


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize("tls", ["none", "explicit", "implicit"])
async def test_a_file_arrives_with_all_of_its_bytes_and_its_time(root: Path, certificate: Path, tls: Tls) -> None:
    content = noise(3_000_001)
    put(root / "out" / "a b.csv", content)
    put(root / "out" / "empty.csv", b"")
    put(root / "out" / "below" / "b.csv", b"of another folder")
    trusted = {} if tls == "none" else {"ca_file": str(certificate)}
    with FtpServer(root, SECRET, tls, certificate if trusted else None) as server:
        async with opened(**options(server, tls=tls, **trusted)) as source:
            found, state = await fetched(source)
            assert found == {"a b.csv": content, "empty.csv": b""}
            assert state == {"read": {"a b.csv": f"3000001:{CHANGED_MS}", "empty.csv": f"0:{CHANGED_MS}"}}
            assert await fetched(source, state) == ({}, state)


async def test_a_server_without_mlsd_tells_sizes_and_times_one_by_one(root: Path) -> None:
    put(root / "out" / "a b.csv", b"whole")
    put(root / "out" / "b.txt", b"not asked for")
    (root / "out" / "folder.csv").mkdir()
    with FtpServer(root, SECRET, lacks=("MLSD",)) as server:
        async with opened(**options(server, pattern="*.csv")) as source:
            for _ in range(2):
                assert await fetched(source) == ({"a b.csv": b"whole"}, {"read": {"a b.csv": f"5:{CHANGED_MS}"}})


async def test_a_certificate_that_is_not_trusted_is_told_and_nothing_is_told_to_it(
    root: Path, certificate: Path, tmp_path: Path
) -> None:
    for tls in ("explicit", "implicit"):
        with FtpServer(root, SECRET, tls, certificate) as server:
            async with opened(**options(server, tls=tls)) as source:
                said = await complaint(source)
                assert f"ftp {HOST}:{server.port} shows a certificate that is not trusted, and was told nothing" in said
            async with opened(**options(server, tls=tls, ca_file=str(tmp_path / "none"))) as source:
                assert "cannot be read (FileNotFoundError); mend the file" in await complaint(source)
            another = options(server, tls=tls, ca_file=str(certificate), host="localhost")
            async with opened(**another) as source:
                assert "mend host, or name it in ca_file" in await complaint(source)
            assert server.users == []


async def test_without_tls_no_password_is_sent_unless_that_is_wanted(root: Path) -> None:
    with FtpServer(root, SECRET) as server:
        given = options(server)
        del given["tls"]
        async with opened(**given) as source:
            said = await complaint(source)
            assert f"ftp {HOST}:{server.port} does not let us in, or not with TLS (502); mend tls" in said
        async with opened(**options(server, tls="implicit", timeout_s=5.0)) as source:
            assert "speaks no TLS that is safe still; mend tls or port" in await complaint(source)
        assert server.users == []


async def test_a_wrong_password_is_told_and_a_mended_one_holds_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_PASSWORD", WRONG)
    with FtpServer(root, SECRET) as server:
        async with opened(**options(server)) as source:
            said = await complaint(source)
            assert said == f"ftp {HOST}:{server.port} refuses stockweave (530); mend user, password or tls"
            monkeypatch.setenv("ACME_PASSWORD", SECRET)
            assert await fetched(source) == ({}, {})


async def test_a_missing_folder_is_told(root: Path) -> None:
    with FtpServer(root, SECRET) as server:
        async with opened(**options(server, path="/none")) as source:
            said = await complaint(source)
            assert said.startswith(f"ftp {HOST}:{server.port} refuses the folder /none (550): it is not there, or ")
            assert "mend path" in said
            (root / "none").mkdir()
            assert await fetched(source) == ({}, {})


async def test_a_server_that_is_away_is_told_and_one_that_hung_up_is_called_again(root: Path) -> None:
    put(root / "out" / "a.csv", b"whole")
    server = FtpServer(root, SECRET)
    with server:
        given = options(server)
    async with opened(**given) as source:
        assert "does not answer (ConnectionRefusedError); is it up?" in await complaint(source)
    with FtpServer(root, SECRET) as server:
        async with opened(**options(server)) as source:
            found, state = await fetched(source)
            assert found == {"a.csv": b"whole"}
            server.disconnect()
            assert await fetched(source, state) == ({}, state)


async def test_a_server_that_is_silent_is_given_up(root: Path) -> None:
    put(root / "out" / "a.csv", noise(1_000))
    with FtpServer(root, SECRET, faults=TransferFaults(slow_s=2.0)) as server:
        async with opened(**options(server, timeout_s=0.5)) as source:
            assert "does not answer (TimeoutError); is it up?" in await complaint(source)


@pytest.mark.parametrize("says_whole", [False, True])
@pytest.mark.parametrize("tls", ["none", "explicit"])
async def test_a_cut_file_is_no_file(root: Path, certificate: Path, tls: Tls, says_whole: bool) -> None:
    content = noise(2_000_000)
    put(root / "out" / "a.csv", content)
    faults = TransferFaults(cuts=[0, 1_999_999], refused_logins=1, says_whole=says_whole)
    with FtpServer(root, SECRET, tls, certificate, faults) as server:
        async with opened(**options(server, tls=tls, ca_file=str(certificate))) as source:
            assert "refuses stockweave" in await complaint(source)
            said = [await complaint(source), await complaint(source)]
            assert (await fetched(source))[0] == {"a.csv": content}
    assert not faults.are_left
    if says_whole:
        sizes = ["ends after 0 of 2000000 bytes", "ends after 1999999 of 2000000 bytes"]
        assert [size in why for size, why in zip(sizes, said, strict=True)] == [True, True], said


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_is_cut_the_whole_file_comes_in_the_end(root: Path, seed: int) -> None:
    content = noise(1_500_000)
    put(root / "out" / "a.csv", content)
    faults = TransferFaults.seeded(seed, len(content))
    with FtpServer(root, SECRET, faults=faults) as server:
        async with opened(**options(server)) as source:
            assert await fetched_at_last(source, faults) == {"a.csv": content}


async def test_a_file_that_grows_while_it_is_read_is_no_file(root: Path) -> None:
    file = put(root / "out" / "a.csv", b"just as long as it was..")
    with FtpServer(root, SECRET) as server:
        async with opened(**options(server)) as source, aclosing(source.read({})) as documents:
            document = await anext(documents)
            put(file, b"more, much more than it was")
            with pytest.raises(Retriable, match="has grown beyond its 24 bytes"):
                await drained(document)


@pytest.mark.parametrize("replaces", [True, False])
@pytest.mark.parametrize("to", ["done", "below/deeper", "/elsewhere"])
async def test_a_file_that_was_read_is_moved(root: Path, to: str, replaces: bool) -> None:
    put(root / "out" / "a b.csv", b"whole")
    target = root / "out" / to if not to.startswith("/") else root / to[1:]
    with FtpServer(root, SECRET, replaces=replaces) as server:
        async with opened(**options(server, then="move", to=to)) as source:
            for content in (b"whole", b"the next one, of that name"):
                put(root / "out" / "a b.csv", content)
                await settled(source)
                assert (target / "a b.csv").read_bytes() == content
    assert not (root / "out" / "a b.csv").exists()


async def test_a_file_that_was_read_is_deleted_and_one_that_was_not_read_to_its_end_as_well(root: Path) -> None:
    put(root / "out" / "a.csv", noise(3_000_000))
    put(root / "out" / "b.txt", b"not ours")
    with FtpServer(root, SECRET) as server:
        async with opened(**options(server, then="delete", pattern="*.csv")) as source:
            state: State = {}
            async for document in source.read(state):
                assert document.blocks is not None
                await anext(document.blocks)  # what is no CSV is read no further
                state = document.after or {}
            assert await fetched(source, state) == ({}, state)
    assert [file.name for file in (root / "out").iterdir()] == ["b.txt"]


@pytest.mark.parametrize("then", ["delete", "move"])
async def test_a_right_that_is_missing_is_told(root: Path, then: str) -> None:
    put(root / "out" / "a.csv", b"whole")
    with FtpServer(root, SECRET, may_change=False) as server:
        async with opened(**options(server, then=then)) as source:
            _, state = await fetched(source)
            with pytest.raises(Retriable, match=r"\(550\): it is not there, or stockweave has no right to it; mend"):
                await fetched(source, state)


def test_the_configuration_shows_no_secret_and_takes_no_second_line() -> None:
    given = {"kind": "ftp", "host": "acme.example", "user": "stockweave", "password": {"env": "ACME_PASSWORD"}}
    config = FtpConfig.model_validate(given)
    assert (config.tls, config.path) == ("explicit", ".")
    assert SECRET not in repr(config)
    for name in ("user", "path", "to"):
        with pytest.raises(ValidationError):
            FtpConfig.model_validate(given | {name: "a\r\nDELE b"})


async def test_rows_of_a_file_that_is_cut_again_and_again_all_reach_kafka_and_repeats_have_their_ids(
    running: Running, root: Path, certificate: Path
) -> None:
    count = 150_000
    content = rows(count)
    put(root / "out" / "a.csv", content)
    faults = TransferFaults(cuts=[len(content) - 1, len(content) // 2, len(content) - 2], refused_logins=1)
    with FtpServer(root, SECRET, "explicit", certificate, faults) as server:
        source = options(server, tls="explicit", ca_file=str(certificate), settle_s=0.0, then="move", to="done")
        read = {"format": {"format": "csv"}, "mapping": SIMPLE, "poll": {"every_s": 0.2}}
        running.configure("acme", stock={"source": source} | read)
        with capture_logs() as logs:
            async with running:
                await running.until((root / "out" / "done" / "a.csv").exists)
                updates = await running.until_updates(count)
    assert not faults.are_left
    assert units(updates) == {f"sku-{n:07}": n for n in range(count)}
    assert len(updates) - repeats(updates) == count
    assert len(updates) > count  # else nothing was cut in the middle
    assert [log["event"] for log in logs].count("feed_failed") == 4
    assert SECRET not in str(logs)
    assert running.letters() == []
