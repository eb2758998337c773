"""Certificates: whom we trust, what we show, and what is renewed while we run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.graphql.source import GraphqlConfig
from connectors.rest.source import KIND, RestConfig
from connectors.soap.source import SoapConfig
from connectors.testing.certificates import Authority
from connectors.testing.ftp_server import FtpServer
from connectors.testing.http_server import HttpSupplier
from connectors.testing.token_issuer import TokenIssuer
from stockweave.errors import Retriable
from tests.connectors.files.fetching import SECRET, fetched, opened, put, rows
from tests.connectors.polling import Feed

ROWS = [{"code": "s1", "stock": 1}]
PASSWORD = "of-the-private-key"


def shown(folder: Path, **more: Any) -> dict[str, Any]:
    return {"certificate_file": str(folder / "we.crt"), "key_file": str(folder / "we.key")} | more


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue("we")
    return made


def asking(supplier: HttpSupplier, authority: Authority, client: dict[str, Any] | None, **more: Any) -> Feed:
    tls = {"ca_file": str(authority.file), "client": client}
    return Feed(KIND, url=f"{supplier.origin}/stock", tls=tls, **more)


async def test_a_supplier_that_wants_a_certificate_is_shown_ours(authority: Authority, tmp_path: Path) -> None:
    async with HttpSupplier(ROWS, context=authority.server(trusts=authority)) as supplier:
        async with asking(supplier, authority, shown(tmp_path)) as feed:
            assert (await feed.poll()).rows() == ROWS
        async with asking(supplier, authority, None) as feed:
            with pytest.raises(Retriable, match="does not answer"):
                await feed.poll()


async def test_an_authority_that_is_not_named_is_not_trusted(authority: Authority) -> None:
    async with HttpSupplier(ROWS, context=authority.server()) as supplier:
        async with Feed(KIND, url=f"{supplier.origin}/stock") as feed:
            with pytest.raises(Retriable, match="ClientConnectorCertificateError"):
                await feed.poll()
        assert supplier.faults.seen == []


async def test_a_renewed_certificate_is_shown_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    successor = Authority(tmp_path / "next")
    async with (
        HttpSupplier(ROWS, context=authority.server(trusts=successor)) as supplier,
        asking(supplier, authority, shown(tmp_path)) as feed,
    ):
        with pytest.raises(Retriable, match="does not answer"):
            await feed.poll()
        for renewed in successor.issue("we"):
            renewed.replace(tmp_path / renewed.name)
        assert (await feed.poll()).rows() == ROWS


async def test_a_renewed_authority_is_trusted_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    successor = Authority(tmp_path / "next")
    async with (
        HttpSupplier(ROWS, context=successor.server()) as supplier,
        asking(supplier, authority, None) as feed,
    ):
        with pytest.raises(Retriable, match="Certificate"):
            await feed.poll()
        successor.file.replace(authority.file)
        assert (await feed.poll()).rows() == ROWS


@pytest.mark.parametrize("has", [True, False])
async def test_a_private_key_may_have_a_password_and_nobody_is_asked_for_it(
    has: bool, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_PASSWORD", PASSWORD)
    authority.issue("we", PASSWORD)
    client = shown(tmp_path, key_password={"env": "KEY_PASSWORD"}) if has else shown(tmp_path)
    async with (
        HttpSupplier(ROWS, context=authority.server(trusts=authority)) as supplier,
        asking(supplier, authority, client) as feed,
    ):
        if has:
            assert (await feed.poll()).rows() == ROWS
        else:
            with pytest.raises(Retriable, match="give no certificate with its key"):
                await feed.poll()


@pytest.mark.parametrize("missing", ["we.crt", "we.key", "authority.pem"])
async def test_a_file_that_is_missing_is_named(missing: str, authority: Authority, tmp_path: Path) -> None:
    async with HttpSupplier(ROWS, context=authority.server()) as supplier:
        (tmp_path / missing).unlink()
        async with asking(supplier, authority, shown(tmp_path)) as feed:
            with pytest.raises(Retriable, match=f"{missing} cannot be read"):
                await feed.poll()


async def test_who_gives_tokens_is_shown_the_certificate_too_and_may_know_us_by_it(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_SECRET", SECRET)
    issuer = TokenIssuer(("we", SECRET))
    async with HttpSupplier(ROWS, issuer=issuer, context=authority.server(trusts=authority)) as supplier:
        credentials = {
            "kind": "oauth2_client",
            "token_url": f"{supplier.origin}/token",
            "client_id": "we",
            "client_secret": {"env": "ACME_SECRET"},
        }
        async with asking(supplier, authority, shown(tmp_path), credentials=credentials) as feed:
            assert (await feed.poll()).rows() == ROWS
        async with asking(supplier, authority, shown(tmp_path), credentials=credentials | {"token_tls": {}}) as feed:
            with pytest.raises(Retriable, match="gives no token: ClientConnectorCertificateError"):
                await feed.poll()


@pytest.mark.parametrize("tls", ["explicit", "implicit"])
async def test_an_ftp_server_that_wants_a_certificate_is_shown_ours(
    tls: Any, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTP_PASSWORD", SECRET)
    put(tmp_path / "root" / "a.csv", rows(3))
    with FtpServer(tmp_path / "root", SECRET, tls, context=authority.server(trusts=authority)) as server:
        source = {
            "kind": "ftp",
            "host": "127.0.0.1",
            "port": server.port,
            "user": server.user,
            "password": {"env": "FTP_PASSWORD"},
            "tls": tls,
            "ca_file": str(authority.file),
        }
        async with opened(**source, client=shown(tmp_path)) as feed:
            assert list((await fetched(feed))[0].values()) == [rows(3)]
        async with opened(**source) as feed:
            with pytest.raises(Retriable):
                await fetched(feed)


def test_tls_needs_an_address_that_speaks_it() -> None:
    configs = (
        (RestConfig, {"url": "http://acme.example/"}),
        (GraphqlConfig, {"url": "http://acme.example/", "query": "{stock}"}),
        (SoapConfig, {"wsdl": "http://acme.example/", "operation": "stock"}),
    )
    for model, config in configs:
        with pytest.raises(ValidationError, match="begin it with https"):
            model.model_validate({**config, "tls": {}})
