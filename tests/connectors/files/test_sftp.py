"""Folders of SFTP servers, each test with a real one, on this machine."""

from __future__ import annotations

import logging
from contextlib import aclosing
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from connectors.files.sftp import SftpConfig
from connectors.kinds import kinds
from connectors.testing.sftp_server import HOST, SftpServer
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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "out").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture(autouse=True)
def _no_secret_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Any:
    monkeypatch.setenv("ACME_PASSWORD", SECRET)
    monkeypatch.setenv("ACME_WRONG", WRONG)
    caplog.set_level(logging.DEBUG)
    yield
    for text in (SECRET, WRONG, "PRIVATE KEY"):
        assert text not in caplog.text


def options(server: SftpServer, **more: Any) -> dict[str, Any]:
    who = {} if "key" in more else {"password": {"env": "ACME_PASSWORD"}}
    trusted = {} if "known_hosts" in more else {"host_key": server.host_key}
    where = {"kind": "sftp", "host": HOST, "port": server.port, "user": server.user, "path": "/out"}
    return where | who | trusted | more


async def test_a_file_arrives_with_all_of_its_bytes_and_its_time(root: Path) -> None:
    content = noise(9_000_001)
    put(root / "out" / "a.csv", content)
    put(root / "out" / "empty.csv", b"")
    put(root / "out" / "below" / "b.csv", b"of another folder")
    async with SftpServer(root, SECRET) as server, opened(**options(server)) as source:
        found, state = await fetched(source)
        assert found == {"a.csv": content, "empty.csv": b""}
        assert state == {"read": {"a.csv": f"9000001:{CHANGED_MS}", "empty.csv": f"0:{CHANGED_MS}"}}
        assert await fetched(source, state) == ({}, state)
        assert server.connections == 1


async def test_a_link_stands_for_its_file_and_one_to_nothing_for_none(root: Path) -> None:
    put(root / "elsewhere" / "b.csv", b"whole")
    (root / "out" / "latest.csv").symlink_to("../elsewhere/b.csv")
    (root / "out" / "gone.csv").symlink_to("../elsewhere/none.csv")
    async with SftpServer(root, SECRET) as server, opened(**options(server)) as source:
        assert (await fetched(source))[0] == {"latest.csv": b"whole"}


@pytest.mark.parametrize("passphrase", [None, SECRET])
async def test_a_key_logs_in(root: Path, tmp_path: Path, passphrase: str | None) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    put(root / "out" / "a.csv", b"whole")
    (tmp_path / "key").write_bytes(key.export_private_key("pkcs8-pem", passphrase=passphrase))
    with_phrase = {} if passphrase is None else {"passphrase": {"env": "ACME_PASSWORD"}}
    async with SftpServer(root, user_key=key.convert_to_public()) as server:
        async with opened(**options(server, key={"file": str(tmp_path / "key")}, **with_phrase)) as source:
            assert (await fetched(source))[0] == {"a.csv": b"whole"}
        if passphrase is not None:
            wrong = options(server, key={"file": str(tmp_path / "key")}, passphrase={"env": "ACME_WRONG"})
            async with opened(**wrong) as source:
                assert "mend key or passphrase" in await complaint(source)
        (tmp_path / "key").write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
        async with opened(**options(server, key={"file": str(tmp_path / "key")})) as source:
            assert await complaint(source) == f"sftp {HOST}:{server.port} refuses stockweave; mend user or key"


async def test_a_wrong_password_is_told_and_a_mended_one_holds_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_PASSWORD", WRONG)
    async with SftpServer(root, SECRET) as server, opened(**options(server)) as source:
        assert await complaint(source) == f"sftp {HOST}:{server.port} refuses stockweave; mend user or password"
        monkeypatch.setenv("ACME_PASSWORD", SECRET)
        assert await fetched(source) == ({}, {})


async def test_a_known_host_is_spoken_to_and_no_other(root: Path, tmp_path: Path) -> None:
    put(root / "out" / "a.csv", b"whole")
    hosts = tmp_path / "known_hosts"
    another = SftpServer(root, SECRET).host_key
    async with SftpServer(root, SECRET) as server:
        async with opened(**options(server, known_hosts=str(hosts))) as source:
            assert await complaint(source) == f"known_hosts {hosts} cannot be read (FileNotFoundError); mend the file"
            for text in ("", f"elsewhere {server.host_key}\n", f"[{HOST}]:{server.port} {another}\n"):
                hosts.write_text(text)
                said = await complaint(source)
                assert f"shows a host key that is not what {hosts} says of it, and was told nothing" in said
            hosts.write_text(server.known_hosts)
            assert (await fetched(source))[0] == {"a.csv": b"whole"}
        async with opened(**options(server, host_key=another)) as source:
            assert "shows a host key that is not host_key" in await complaint(source)


async def test_nothing_of_the_user_who_runs_this_is_used(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    put(tmp_path / ".ssh" / "config", b"Host *\n  ProxyCommand false\n")
    put(tmp_path / ".ssh" / "id_ed25519", key.export_private_key())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ACME_PASSWORD", WRONG)
    async with SftpServer(root, SECRET, key.convert_to_public()) as server, opened(**options(server)) as source:
        assert "refuses stockweave; mend user or password" in await complaint(source)


async def test_a_missing_folder_and_a_forbidden_one_are_told(root: Path) -> None:
    async with SftpServer(root, SECRET) as server:
        async with opened(**options(server, path="/none")) as source:
            said = await complaint(source)
            assert said == f"sftp {HOST}:{server.port} has not the folder /none; create it, or mend path"
        server.forbidden = "/out"
        async with opened(**options(server)) as source:
            said = await complaint(source)
            assert said == (
                f"sftp {HOST}:{server.port} gives stockweave no right to the folder /out; have the supplier grant it"
            )


async def test_a_server_that_is_away_is_told_and_found_again(root: Path) -> None:
    put(root / "out" / "a.csv", b"whole")
    server = SftpServer(root, SECRET)
    async with server:
        pass
    async with opened(**options(server)) as source:
        assert "does not answer (ConnectionRefusedError); is it up?" in await complaint(source)
        async with server:
            found, state = await fetched(source)
            assert found == {"a.csv": b"whole"}
            server.disconnect()
        async with server:
            assert await fetched(source, state) == ({}, state)


async def test_a_server_that_is_silent_is_given_up(root: Path) -> None:
    put(root / "out" / "a.csv", noise(1_000))
    faults = TransferFaults(slow_s=30.0)
    async with SftpServer(root, SECRET, faults=faults) as server, opened(**options(server, timeout_s=0.5)) as source:
        assert "does not answer (TimeoutError); is it up?" in await complaint(source)
        faults.slow_s = 0.0
        assert (await fetched(source))[0] == {"a.csv": noise(1_000)}
        assert server.connections == 2


async def test_a_cut_file_is_no_file(root: Path) -> None:
    content = noise(5_000_000)
    put(root / "out" / "a.csv", content)
    faults = TransferFaults(cuts=[1, 4_999_999], refused_logins=1)
    async with SftpServer(root, SECRET, faults=faults) as server, opened(**options(server)) as source:
        assert "refuses stockweave" in await complaint(source)
        for _ in range(2):
            assert "is it up?" in await complaint(source)
        assert (await fetched(source))[0] == {"a.csv": content}
        assert not faults.are_left


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_is_cut_the_whole_file_comes_in_the_end(root: Path, seed: int) -> None:
    content = noise(1_500_000)
    put(root / "out" / "a.csv", content)
    faults = TransferFaults.seeded(seed, len(content))
    async with SftpServer(root, SECRET, faults=faults) as server, opened(**options(server)) as source:
        assert await fetched_at_last(source, faults) == {"a.csv": content}


@pytest.mark.parametrize(
    ("change", "said"),
    [(b"less", "ends after 4 of 24 bytes"), (b"more, much more than it was", "has grown beyond its 24 bytes")],
)
async def test_a_file_of_another_size_than_was_listed_is_no_file(root: Path, change: bytes, said: str) -> None:
    file = put(root / "out" / "a.csv", b"just as long as it was..")
    async with (
        SftpServer(root, SECRET) as server,
        opened(**options(server)) as source,
        aclosing(source.read({})) as documents,
    ):
        document = await anext(documents)
        put(file, change)
        with pytest.raises(Retriable, match=said):
            await drained(document)


async def test_a_file_that_changes_while_it_is_read_is_no_file(root: Path) -> None:
    file = put(root / "out" / "a.csv", b"just as long as it was..")
    async with (
        SftpServer(root, SECRET) as server,
        opened(**options(server)) as source,
        aclosing(source.read({})) as documents,
    ):
        document = await anext(documents)
        assert document.blocks is not None
        await anext(document.blocks)
        put(file, b"just as long as it was!!", CHANGED_MS + 1_000)
        with pytest.raises(Retriable, match=r"a\.csv changed while it was read"):
            await drained(document)


@pytest.mark.parametrize("replaces", [True, False])
@pytest.mark.parametrize("to", ["done", "below/deeper", "/elsewhere"])
async def test_a_file_that_was_read_is_moved(root: Path, to: str, replaces: bool) -> None:
    put(root / "out" / "a.csv", b"whole")
    target = root / "out" / to if not to.startswith("/") else root / to[1:]
    if not replaces:
        put(target / "a.csv", b"of the day before")
    async with SftpServer(root, SECRET) as server, opened(**options(server, then="move", to=to)) as source:
        server.replaces = replaces
        await settled(source)
    assert (target / "a.csv").read_bytes() == b"whole"
    assert not (root / "out" / "a.csv").exists()


async def test_a_file_that_was_read_is_deleted(root: Path) -> None:
    put(root / "out" / "a.csv", b"whole")
    put(root / "out" / "b.txt", b"not ours")
    deleting = {"then": "delete", "pattern": "*.csv"}
    async with SftpServer(root, SECRET) as server, opened(**options(server, **deleting)) as source:
        await settled(source)
    assert [file.name for file in (root / "out").iterdir()] == ["b.txt"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"host_key": None}, "needs either known_hosts or host_key"),
        ({"known_hosts": "hosts"}, "needs either known_hosts or host_key"),
        ({"host_key": "acme.example ssh-ed25519 AAAA"}, "is no public key"),
        ({"password": None}, "needs either password or key"),
        ({"key": {"env": "KEY"}}, "needs either password or key"),
        ({"passphrase": {"env": "PHRASE"}}, "has a passphrase without a key"),
    ],
)
def test_a_login_that_cannot_be_or_trusts_anybody_is_refused(root: Path, wrong: dict[str, Any], said: str) -> None:
    given = options(SftpServer(root)) | {"port": 22} | wrong
    with pytest.raises(ValidationError, match=said):
        SftpConfig.model_validate(given)


def test_the_configuration_shows_no_secret(root: Path) -> None:
    config = SftpConfig.model_validate(options(SftpServer(root)) | {"port": 22})
    assert "ACME_PASSWORD" in repr(config)
    assert SECRET not in repr(config)
    assert kinds()["sftp"].config is SftpConfig


async def test_rows_of_a_file_that_is_cut_again_and_again_all_reach_kafka_and_repeats_have_their_ids(
    running: Running, root: Path
) -> None:
    count = 150_000
    content = rows(count)
    put(root / "out" / "a.csv", content)
    faults = TransferFaults(cuts=[len(content) - 1, len(content) // 2, len(content) - 2], refused_logins=1)
    async with SftpServer(root, SECRET, faults=faults) as server:
        running.configure(
            "acme",
            stock={
                "source": options(server, settle_s=0.0, then="move", to="done"),
                "format": {"format": "csv"},
                "mapping": SIMPLE,
                "poll": {"every_s": 0.2},
            },
        )
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
