"""Secrets that are kept in Vault, with a real one."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.credentials import vault as kept_in_vault
from connectors.credentials.secret import Secret
from connectors.credentials.vault import KEPT_S, REFRESH_S, Vault, VaultSecret
from connectors.testing.http_server import HttpSupplier
from stockweave.errors import Retriable
from stockweave.world import SystemClock
from tests.connectors.credentials import a_vault
from tests.connectors.credentials.a_vault import PATH, VaultServer
from tests.connectors.credentials.test_no_secret_is_told import written  # noqa: F401 - a fixture
from tests.connectors.running import SIMPLE, Running, units
from tests.go_program import CannotBuild

pytestmark = [pytest.mark.online, pytest.mark.timeout(1_200)]

PLANTED = "planted-secret-of-the-vault"
KEY = VaultSecret(path=PATH, field="api_key", kv=1)


class Later(SystemClock):
    """`ahead_s` of the system's."""

    ahead_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return a_vault.build(tmp_path_factory.mktemp("vault"))
    except CannotBuild as why:
        pytest.skip(str(why))


@pytest.fixture
def server(program: Path) -> Iterator[VaultServer]:
    with a_vault.running(program) as started:
        started.write(api_key="the-first", port=5)
        yield started


@pytest.fixture
def clock() -> Later:
    return Later()


@pytest.fixture
def vault(server: VaultServer, clock: Later) -> Iterator[Vault]:
    """With a token that may read suppliers' secrets."""
    yield from opened(clock, VAULT_ADDR=server.address, VAULT_TOKEN=server.token())


def opened(clock: Later, **environment: str) -> Iterator[Vault]:
    made = Vault(environment, clock)
    yield made
    made._thread.submit(made._leave).result()
    made._thread.shutdown()


def asked(vault: Vault) -> None:
    """Until nothing is under way."""
    vault._thread.submit(int).result()


def refused(vault: Vault, secret: VaultSecret = KEY) -> str:
    with pytest.raises(Retriable) as why:
        vault.read(secret)
    return str(why.value)


async def told(vault: Vault, secret: VaultSecret = KEY) -> str:
    await vault.ready(secret)
    return vault.read(secret)


async def test_a_field_is_read_from_engines_of_both_versions(vault: Vault, server: VaultServer) -> None:
    server.root.secrets.kv.v2.create_or_update_secret(PATH, {"api_key": "the-other"}, mount_point="versioned")
    assert await told(vault) == "the-first"
    assert await told(vault, VaultSecret(path=PATH, field="api_key", mount="versioned")) == "the-other"


async def test_a_changed_secret_holds_half_a_minute_later_and_nobody_waits_for_it(
    vault: Vault, server: VaultServer, clock: Later
) -> None:
    assert await told(vault) == "the-first"
    server.write(api_key="the-second")
    assert vault.read(KEY) == "the-first"
    clock.ahead_s += REFRESH_S + 1
    assert vault.read(KEY) == "the-first", "it is asked for beside"
    asked(vault)
    assert vault.read(KEY) == "the-second"


async def test_while_vault_is_away_the_last_one_is_used_and_not_for_ever(
    vault: Vault, server: VaultServer, clock: Later
) -> None:
    assert await told(vault) == "the-first"
    server.seal()
    clock.ahead_s += KEPT_S - 1
    assert vault.read(KEY) == "the-first"
    asked(vault)
    assert vault.read(KEY) == "the-first"
    clock.ahead_s += 2
    assert "has not told secret/suppliers/acme for 60 minutes; is it up and unsealed?" in refused(vault)
    with pytest.raises(Retriable, match="does not answer \\(VaultDown\\)"):
        await vault.ready(KEY)
    server.unseal()
    assert await told(vault) == "the-first"


async def test_one_that_is_deleted_or_forbidden_is_used_no_more(
    vault: Vault, server: VaultServer, clock: Later
) -> None:
    assert await told(vault) == "the-first"
    server.root.secrets.kv.v1.delete_secret(PATH, mount_point="secret")
    clock.ahead_s += REFRESH_S + 1
    vault.read(KEY)
    asked(vault)
    assert refused(vault).startswith("Vault has no secret at secret/suppliers/acme")
    server.write(api_key="again")
    assert await told(vault) == "again", "whoever waits has it as soon as it is there"
    server.root.sys.delete_policy("reader")
    clock.ahead_s += REFRESH_S + 1
    vault.read(KEY)
    asked(vault)
    assert "does not let us read secret/suppliers/acme" in refused(vault)


async def test_whoever_stops_waiting_leaves_the_others_their_answer(vault: Vault) -> None:
    busy = threading.Event()
    vault._thread.submit(busy.wait)
    stopped, other = (asyncio.create_task(vault.ready(KEY)) for _ in range(2))
    await asyncio.sleep(0)
    stopped.cancel()
    await asyncio.wait([stopped])
    busy.set()
    await other
    assert vault.read(KEY) == "the-first"


async def test_what_cannot_be_a_secret_is_told_by_its_name_and_never_by_its_value(
    vault: Vault, server: VaultServer
) -> None:
    server.write(api_key=PLANTED, port=5, empty="")
    said = []
    for field in ("api-key", "port", "empty"):
        secret = VaultSecret(path=PATH, field=field, kv=1)
        await vault.ready(secret)
        said.append(refused(vault, secret))
    assert "has no field api-key, but api_key, empty, port; mend field" in said[0]
    assert "port of secret/suppliers/acme in Vault is no text" in said[1]
    assert "empty of secret/suppliers/acme in Vault is no text, or an empty one" in said[2]
    assert PLANTED not in "".join(said)


async def test_a_role_is_logged_in_anew_when_its_token_is_over(
    server: VaultServer, tmp_path: Path, clock: Later
) -> None:
    role_id, secret_id = server.role(ttl="1s")
    (tmp_path / "secret-id").write_text(secret_id + "\n")
    role = {"VAULT_ROLE_ID": role_id, "VAULT_SECRET_ID_FILE": str(tmp_path / "secret-id")}
    for vault in opened(clock, VAULT_ADDR=server.address, **role):
        assert await told(vault) == "the-first"
        [token] = [vault._client.token] if vault._client else []
        server.root.auth.token.revoke(token)
        server.write(api_key="the-second")
        clock.ahead_s += REFRESH_S + 1
        vault.read(KEY)
        asked(vault)
        assert vault.read(KEY) == "the-second"
    (tmp_path / "secret-id").write_text("another")
    for vault in opened(clock, VAULT_ADDR=server.address, **role):
        with pytest.raises(
            Retriable, match="does not log us in by VAULT_ROLE_ID with the secret id of its file; write a new one"
        ):
            await vault.ready(KEY)


async def test_a_token_in_a_file_is_read_anew_and_one_of_the_environment_is_renewed(
    server: VaultServer, tmp_path: Path, clock: Later
) -> None:
    file = tmp_path / "token"
    file.write_text("hvs.wrong")
    for vault in opened(clock, VAULT_ADDR=server.address, VAULT_TOKEN_FILE=str(file)):
        await vault.ready(KEY)
        assert "is the token valid" in refused(vault)
        file.write_text(server.token())
        assert await told(vault) == "the-first"
    token = server.token(ttl="1m")
    for vault in opened(clock, VAULT_ADDR=server.address, VAULT_TOKEN=token):
        assert await told(vault) == "the-first"
        server.root.auth.token.renew(token, increment="20s")
        before = server.root.auth.token.lookup(token)["data"]["ttl"]
        clock.ahead_s += REFRESH_S + 1
        vault.read(KEY)
        asked(vault)
        assert server.root.auth.token.lookup(token)["data"]["ttl"] > before + 10


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "no VAULT_ADDR"),
        ({"VAULT_ADDR": "http://127.0.0.1:1"}, "no VAULT_TOKEN, VAULT_TOKEN_FILE, or VAULT_ROLE_ID"),
        ({"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": PLANTED}, "does not answer .ConnectionError"),
        ({"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_ROLE_ID": "we"}, "no VAULT_SECRET_ID_FILE"),
        ({"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN_FILE": "/no/such"}, "VAULT_TOKEN_FILE names cannot be read"),
    ],
)
async def test_what_the_environment_lacks_is_told_with_its_remedy(
    environment: dict[str, str], why: str, clock: Later
) -> None:
    for vault in opened(clock, **environment):
        with pytest.raises(Retriable, match=why):
            await vault.ready(KEY)


async def test_a_feed_goes_on_with_the_new_key_that_vault_has_and_tells_none(
    running: Running,
    server: VaultServer,
    monkeypatch: pytest.MonkeyPatch,
    written: io.StringIO,  # noqa: F811
) -> None:
    monkeypatch.setattr(kept_in_vault, "REFRESH_S", 0.1)
    monkeypatch.setenv("VAULT_ADDR", server.address)
    monkeypatch.setenv("VAULT_TOKEN", token := server.token())
    kept_in_vault.vault.cache_clear()
    secret = Secret.model_validate({"vault": KEY.model_dump()})
    server.write(api_key=PLANTED)
    rows: list[dict[str, Any]] = [{"code": "s1", "stock": 1}]
    async with HttpSupplier(rows, key=PLANTED) as supplier:
        credentials = {"kind": "api_key", "header": "X-Api-Key", "value": secret.model_dump(exclude_none=True)}
        source = {"kind": "rest", "url": f"{supplier.origin}/stock", "credentials": credentials}
        mapping = SIMPLE | {"sku": "$.code", "quantity": "$.stock"}
        feed = {"source": source, "format": {"format": "json"}, "mapping": mapping, "poll": {"every_s": 0.2}}
        running.configure("acme", stock=feed)
        async with running:
            assert units(await running.until_updates(1)) == {"s1": 1}
            server.write(api_key=f"{PLANTED}-the-next")
            supplier.key, rows[0]["stock"] = f"{PLANTED}-the-next", 2
            assert units(await running.until_updates(2)) == {"s1": 2}
    kept = kept_in_vault.vault()
    kept._thread.submit(kept._leave).result()
    kept_in_vault.vault.cache_clear()
    everything = written.getvalue() + repr(secret) + repr(kept)
    assert PLANTED not in everything
    assert token not in everything
