"""Refresh tokens that the supplier replaces at each use: the newest is kept, whoever asks and however that ends."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from connectors.credentials import rotating
from connectors.credentials.rotating import TokenFile, held
from connectors.rest.source import KIND
from connectors.testing.faults import Fault, Faults
from connectors.testing.http_server import HttpSupplier
from connectors.testing.token_issuer import TokenIssuer
from stockweave.errors import Retriable
from tests.connectors.files.fetching import put
from tests.connectors.polling import Feed

SECRET = "s3cret-of-acme"
GRANTED = "granted-to-us"
ROWS = [{"code": "s1", "stock": 1}]


def issuer(**more: Any) -> TokenIssuer:
    return TokenIssuer(("we", SECRET), refresh_token=GRANTED, **more)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACME_SECRET", SECRET)
    (tmp_path / "tokens").mkdir()
    path = tmp_path / "tokens" / "acme"
    path.write_text(f"{GRANTED}\n")
    return path


def feed(supplier: HttpSupplier, file: Path, **more: Any) -> Feed:
    credentials = {
        "kind": "oauth2_refresh",
        "token_url": f"{supplier.origin}/token",
        "client_id": "we",
        "client_secret": {"env": "ACME_SECRET"},
        "refresh_token_file": str(file),
    }
    return Feed(KIND, url=f"{supplier.origin}/stock", credentials=credentials | more)


def text(path: Path) -> str:
    return path.read_text()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def is_link(path: Path) -> bool:
    return path.is_symlink()


def names(path: Path) -> set[str]:
    """Of what is in its folder."""
    return {each.name for each in path.parent.iterdir()}


async def test_a_new_refresh_token_is_kept_for_its_owner_alone_and_outlives_a_restart(file: Path) -> None:
    async with HttpSupplier(ROWS, issuer=issuer()) as supplier:
        for times in (1, 2, 3):
            async with feed(supplier, file) as restarted:
                assert (await restarted.poll()).rows() == ROWS
            assert text(file) == GRANTED + times * "-next"
            assert mode(file) == 0o600
        assert names(file) == {"acme", "acme.lock"}


async def test_a_refresh_token_that_is_not_replaced_stays(file: Path) -> None:
    async with HttpSupplier(ROWS, issuer=issuer(rotates=False)) as supplier, feed(supplier, file) as one:
        assert (await one.poll()).rows() == ROWS
    assert text(file) == f"{GRANTED}\n"
    assert names(file) == {"acme", "acme.lock"}


async def test_a_link_to_the_file_stays_one(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    async with HttpSupplier(ROWS, issuer=issuer()) as supplier, feed(supplier, link) as one:
        assert (await one.poll()).rows() == ROWS
    assert is_link(link)
    assert text(file) == f"{GRANTED}-next"


async def test_an_access_token_that_ends_is_renewed_with_the_newest_refresh_token(file: Path) -> None:
    faults = Faults([None, Fault.EXPIRED])
    async with HttpSupplier(ROWS, faults, issuer=issuer()) as supplier, feed(supplier, file) as one:
        await one.poll()
        await one.poll()
        assert supplier.tokens == 2
    assert text(file) == f"{GRANTED}-next-next"


async def test_many_that_ask_at_once_never_use_a_token_twice(file: Path) -> None:
    async with HttpSupplier(ROWS, issuer=issuer()) as supplier:
        feeds = [feed(supplier, file) for _ in range(8)]
        await asyncio.gather(*(each.poll() for each in feeds), return_exceptions=True)  # access tokens end each other
        for each in feeds:
            await each.source.close()
        assert supplier.tokens >= 8
    assert text(file) == GRANTED + supplier.tokens * "-next"


async def test_a_feed_that_is_stopped_after_the_supplier_gave_a_token_keeps_it(file: Path) -> None:
    gives = issuer()
    gives.withholds.clear()
    async with HttpSupplier(ROWS, issuer=gives) as supplier, feed(supplier, file) as one:
        polls = asyncio.create_task(one.poll())
        await gives.has_withheld.wait()
        polls.cancel()
        await asyncio.sleep(0)
        gives.withholds.set()
        with pytest.raises(asyncio.CancelledError):
            await polls
    assert text(file) == f"{GRANTED}-next"


async def test_what_cannot_be_kept_is_not_asked_for(file: Path) -> None:
    (file.parent / "acme.new").mkdir()
    async with HttpSupplier(ROWS, issuer=issuer()) as supplier, feed(supplier, file) as one:
        with pytest.raises(Retriable, match="cannot be replaced"):
            await one.poll()
        assert supplier.asked_for_tokens == 0


async def test_a_refresh_token_that_holds_no_longer_is_told_with_its_remedy_and_without_itself(file: Path) -> None:
    async with HttpSupplier(ROWS, issuer=issuer()) as supplier, feed(supplier, file) as one:
        put(file, b"of-long-ago")
        with pytest.raises(Retriable, match=r"400 \(invalid_grant\).*grant another one, and put it into") as why:
            await one.poll()
        assert "of-long-ago" not in str(why.value)


@pytest.mark.parametrize("content", [None, b"", b"\n"])
async def test_without_a_refresh_token_nobody_is_asked(file: Path, content: bytes | None) -> None:
    if content is None:
        file = file.with_name("another")
    else:
        put(file, content)
    async with HttpSupplier(ROWS, issuer=issuer()) as supplier, feed(supplier, file) as one:
        with pytest.raises(Retriable, match="refresh token's file"):
            await one.poll()
        assert supplier.asked_for_tokens == 0


HOLDS = """
import asyncio, sys
from pathlib import Path
from connectors.credentials.rotating import held
async def main():
    async with held(Path(sys.argv[1])) as file:
        file.prepare()
        print("held", flush=True)
        sys.stdin.read()
asyncio.run(main())
"""


async def test_a_process_that_dies_with_the_lock_lets_go_of_it_and_leaves_a_whole_token(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDS, str(file), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert other.stdout is not None
    assert await other.stdout.readline() == b"held\n"
    with monkeypatch.context() as patched:
        patched.setattr(rotating, "LOCK_S_MAX", 0.1)
        with pytest.raises(Retriable, match="another process holds"):
            await _hold(file)
    other.kill()
    await other.wait()
    async with HttpSupplier(ROWS, issuer=issuer()) as supplier, feed(supplier, file) as one:
        assert (await one.poll()).rows() == ROWS
    assert text(file) == f"{GRANTED}-next"


async def _hold(path: Path) -> None:
    async with held(path):
        pass


def test_what_is_written_is_whole_before_it_is_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_descriptor: int) -> None:
        raise OSError("no disk")

    tokens = TokenFile(file)
    tokens.prepare()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(Retriable, match="cannot be replaced"):
            tokens.replace("new")
        assert tokens.read() == GRANTED
    tokens.replace("new")
    assert tokens.read() == "new"
