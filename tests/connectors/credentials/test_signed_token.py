"""Tokens that we sign ourselves, checked by a supplier that has the other half of the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import ValidationError

from connectors.credentials.signed_token import Jwt
from connectors.rest.source import KIND
from connectors.testing.http_server import HttpSupplier
from connectors.testing.token_issuer import TokenIssuer
from stockweave.errors import Retriable
from tests.connectors.files.fetching import put
from tests.connectors.polling import Feed

ROWS = [{"code": "s1", "stock": 1}]
PLAIN = "a text that both sides know, long enough"


def pair(algorithm: str, folder: Path) -> tuple[dict[str, str], str]:
    """A secret, and what the supplier knows of it."""
    file = folder / f"{algorithm}.key"
    if algorithm == "HS256":
        file.write_text(f"{PLAIN}\n")
        return {"file": str(file)}, PLAIN
    key = rsa.generate_private_key(65_537, 2_048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {"file": str(file)}, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def signing(supplier: HttpSupplier, key: dict[str, str], algorithm: str = "HS256", **more: Any) -> Feed:
    credentials = {"kind": "jwt", "algorithm": algorithm, "key": key, "audience": "stock"} | more
    return Feed(KIND, url=f"{supplier.origin}/stock", credentials=credentials)


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256"])
async def test_a_supplier_takes_the_tokens_that_we_sign(algorithm: str, tmp_path: Path) -> None:
    key, known = pair(algorithm, tmp_path)
    more = {"issuer": "us", "subject": "our stock", "key_id": "k-1", "valid_s": 60.0, "claims": {"scope": ["stock"]}}
    async with HttpSupplier(ROWS, signer=known) as supplier, signing(supplier, key, algorithm, **more) as feed:
        assert (await feed.poll()).rows() == ROWS
        [token] = supplier.bearers
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": "k-1", "typ": "JWT"}
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims.pop("exp") - claims.pop("iat") == 60
    assert claims == {"iss": "us", "sub": "our stock", "aud": "stock", "scope": ["stock"]}


@pytest.mark.parametrize(("each", "different"), [("period", 1), ("request", 3)])
async def test_a_token_is_for_a_request_or_for_a_period(each: str, different: int, tmp_path: Path) -> None:
    key, known = pair("HS256", tmp_path)
    async with HttpSupplier(ROWS, signer=known) as supplier, signing(supplier, key, each=each) as feed:
        for _ in range(3):
            await feed.poll()
        assert len(set(supplier.bearers)) == different


async def test_a_key_that_changes_signs_at_once(tmp_path: Path) -> None:
    key, _ = pair("HS256", tmp_path)
    new = PLAIN[::-1]
    async with HttpSupplier(ROWS, signer=new) as supplier, signing(supplier, key) as feed:
        with pytest.raises(Retriable, match="401") as why:
            await feed.poll()
        assert PLAIN not in str(why.value)
        put(Path(key["file"]), new.encode())
        assert (await feed.poll()).rows() == ROWS


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
@pytest.mark.parametrize("content", [PLAIN, "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----", ""])
async def test_a_key_that_does_not_fit_is_told_without_it(algorithm: str, content: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(content)
    said = rf"the key in .* does not sign with {algorithm}" if content else "is empty; write it into the file"
    async with (
        HttpSupplier(ROWS, signer=PLAIN) as supplier,
        signing(supplier, {"file": str(tmp_path / "key")}, algorithm) as feed,
    ):
        with pytest.raises(Retriable, match=said) as why:
            await feed.poll()
        assert "QUJD" not in str(why.value)
        assert PLAIN not in str(why.value)


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "iat", "nbf", "exp", "jti"])
def test_claims_that_have_an_option_are_none_of_the_others(name: str) -> None:
    config = {"kind": "jwt", "algorithm": "HS256", "key": {"env": "KEY"}, "claims": {name: "us"}}
    with pytest.raises(ValidationError, match=f"claims has {name}"):
        Jwt.model_validate(config)


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256"])
@pytest.mark.parametrize("refresh_token", ["", "granted"])
async def test_a_client_may_prove_itself_with_a_token_that_it_signs(
    algorithm: str, refresh_token: str, tmp_path: Path
) -> None:
    key, known = pair(algorithm, tmp_path)
    issuer = TokenIssuer(("we", ""), client_key=known, refresh_token=refresh_token)
    more = {}
    if refresh_token:
        (tmp_path / "refresh").write_text(refresh_token)
        more = {"refresh_token_file": str(tmp_path / "refresh")}
    async with HttpSupplier(ROWS, issuer=issuer) as supplier:
        credentials = {
            "kind": "oauth2_refresh" if refresh_token else "oauth2_client",
            "token_url": f"{supplier.origin}/token",
            "client_id": "we",
            "client_assertion": {"algorithm": algorithm, "key": key},
        } | more
        async with Feed(KIND, url=f"{supplier.origin}/stock", credentials=credentials) as feed:
            assert (await feed.poll()).rows() == ROWS
            issuer.expire()
            assert len((await feed.poll()).bodies) == 0  # as before, by its ETag
        assert supplier.tokens == 2  # each asked for with a token of its own
