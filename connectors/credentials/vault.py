"""Secrets from HashiCorp Vault, or what speaks as it does: read on a thread of their own, kept for a while, never told.

Invariant: `read` never waits. A secret that is older than `REFRESH_S` is asked for again, beside; while Vault is away
the last one is used, for `KEPT_S`; one that Vault has no more, or that we may no more read, is used no more. Asked by
`secret`; how Vault is reached is said by its own environment variables (docs/connectors/credentials.md).
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import hvac
import requests
import structlog
from hvac.exceptions import Forbidden, InternalServerError, InvalidPath, InvalidRequest, Unauthorized, VaultError
from pydantic import Field

from connectors.options import Options
from stockweave.errors import Retriable
from stockweave.world import Clock, SystemClock

log = structlog.get_logger(__name__)

REFRESH_S = 30.0
KEPT_S = 3_600.0
CALL_S = 5.0

Text = Annotated[str, Field(min_length=1)]


class VaultSecret(Options):
    """A field of a secret in a KV engine. `path`: within the `mount`, without `data/`; `kv`: the engine's version."""

    path: Text
    field: Text
    mount: Text = "secret"
    kv: Literal[1, 2] = 2

    @property
    def place(self) -> Place:
        """Where it is, with its neighbours."""
        return Place(self.mount.strip("/"), self.path.strip("/"), self.kv)


class Place(NamedTuple):
    """A secret in Vault: some fields."""

    mount: str
    path: str
    kv: int

    def __str__(self) -> str:
        return f"{self.mount}/{self.path}"


class Found(NamedTuple):
    """What Vault said, `at_s` of the clock. `why`: there are no fields for us, and what to do about it."""

    fields: Mapping[str, Any]
    at_s: float
    why: str = ""


class Vault:
    """A way to one Vault, which is logged in to when it is first asked, and anew when it refuses us.

    Args:
        environment: VAULT_ADDR, and VAULT_TOKEN, VAULT_TOKEN_FILE, or VAULT_ROLE_ID with VAULT_SECRET_ID_FILE.
        clock: of ages.
    """

    def __init__(self, environment: Mapping[str, str], clock: Clock) -> None:
        self._environment = environment
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "vault")
        self._lock = threading.Lock()
        self._found: dict[Place, Found] = {}
        self._asked_s: dict[Place, float] = {}
        self._under_way: dict[Place, Future[None]] = {}
        self._client: hvac.Client | None = None  # used on the thread alone
        self._renew_s = 0.0

    def read(self, secret: VaultSecret) -> str:
        """As it was when it was last asked for; it is asked for again where that is long ago.

        Raises:
            Retriable: it is not there, may not be read, or Vault was not heard for too long; names the remedy.
        """
        place, now_s = secret.place, self._clock.monotonic_s()
        found = self._found.get(place)
        if found is None or now_s - max(found.at_s, self._asked_s.get(place, 0.0)) > REFRESH_S:
            self._ask(place)
        if found is None:
            raise Retriable(f"{place} was not read from Vault yet; it is being asked")
        if now_s - found.at_s > KEPT_S:
            raise Retriable(f"Vault has not told {place} for {KEPT_S / 60:.0f} minutes; is it up and unsealed?")
        if found.why:
            raise Retriable(found.why)
        if secret.field not in found.fields:
            names = ", ".join(sorted(found.fields)) or "none"
            raise Retriable(f"{place} in Vault has no field {secret.field}, but {names}; mend field, or write it there")
        value = found.fields[secret.field]
        if not isinstance(value, str) or not value:
            raise Retriable(f"field {secret.field} of {place} in Vault is no text, or an empty one; write a text")
        return value

    async def ready(self, secret: VaultSecret) -> None:
        """Asks Vault, and waits, where `read` has nothing to say; it says then why, if it has nothing still.

        Raises:
            Retriable: Vault is away.
        """
        try:
            self.read(secret)
        except Retriable:
            asked = asyncio.wrap_future(self._ask(secret.place))
            await asyncio.shield(asked)  # others wait for the same: who is cancelled leaves it to them

    def _ask(self, place: Place) -> Future[None]:
        """One question at a time for each."""
        with self._lock:
            if (under_way := self._under_way.get(place)) is not None:
                return under_way
            self._asked_s[place] = self._clock.monotonic_s()
            asked = self._under_way[place] = self._thread.submit(self._look, place)
        asked.add_done_callback(lambda _: self._answered(place))
        return asked

    def _answered(self, place: Place) -> None:
        with self._lock:
            self._under_way.pop(place, None)

    def _look(self, place: Place) -> None:
        """What nobody waits for is logged; the rest is told by `read`, or `ready`."""
        former = self._found.get(place)
        try:
            found = self._fetched(place)
        except Retriable as why:
            if former is not None:
                log.warning("vault_fails", secret=str(place), why=str(why))
            raise
        if found.why and former is not None and not former.why:
            log.warning("vault_refuses", secret=str(place), why=found.why)
        self._found[place] = found

    def _fetched(self, place: Place) -> Found:
        """Errors of the library's tell addresses, so what is told is our own words."""
        now_s = self._clock.monotonic_s()
        try:
            try:
                return Found(_fields(self._logged_in(), place), now_s)
            except (Forbidden, Unauthorized):
                self._leave()  # the token's time is over, perhaps
                return Found(_fields(self._logged_in(), place), now_s)
        except InvalidPath:
            return Found(
                {}, now_s, f"Vault has no secret at {place} (KV version {place.kv}); write it, or mend the path"
            )
        except (Forbidden, Unauthorized):
            self._leave()
            what = f"{place.mount}/data/{place.path}" if place.kv == 2 else str(place)
            return Found(
                {}, now_s, f"Vault does not let us read {what}; is the token valid, and has its policy `read`?"
            )
        except (requests.RequestException, VaultError, OSError) as error:
            self._leave()
            raise Retriable(f"Vault does not answer ({type(error).__name__}); is it up and unsealed?") from None

    def _logged_in(self) -> hvac.Client:
        """Raises what the library raises, or Retriable where the environment does not say enough."""
        if self._client is None:
            told = self._environment
            if not (address := told.get("VAULT_ADDR")):
                raise Retriable("the environment has no VAULT_ADDR; set it to the address of Vault, and start again")
            client = hvac.Client(
                address, token="", verify=told.get("VAULT_CACERT") or True, timeout=CALL_S,
                namespace=told.get("VAULT_NAMESPACE") or None,
            )  # fmt: skip
            self._log_in(client)
            self._client = client
        elif self._clock.monotonic_s() > self._renew_s:
            self._renew(self._client)
        return self._client

    def _leave(self) -> None:
        if self._client is not None:
            self._client.adapter.close()
            self._client = None

    def _log_in(self, client: hvac.Client) -> None:
        told, self._renew_s = self._environment, 0.0
        if role_id := told.get("VAULT_ROLE_ID"):
            secret_id = _text("VAULT_SECRET_ID_FILE", told.get("VAULT_SECRET_ID_FILE"))
            try:
                client.auth.approle.login(role_id, secret_id, mount_point=told.get("VAULT_APPROLE_MOUNT") or "approle")
            except (InvalidRequest, InternalServerError):  # some versions of it say the latter
                raise Retriable(
                    "Vault does not log us in by VAULT_ROLE_ID with the secret id of its file; write a new one"
                ) from None
        elif token_file := told.get("VAULT_TOKEN_FILE"):
            client.token = _text("VAULT_TOKEN_FILE", token_file)
        elif token := told.get("VAULT_TOKEN"):
            client.token = token
        else:
            raise Retriable("the environment has no VAULT_TOKEN, VAULT_TOKEN_FILE, or VAULT_ROLE_ID; set one of them")

    def _renew(self, client: hvac.Client) -> None:
        """Halfway through a token's time; one that ends all the same is asked for anew, when it is refused."""
        held = client.auth.token.lookup_self()["data"]
        if held["renewable"]:
            held["ttl"] = client.auth.token.renew_self(increment=held["creation_ttl"])["auth"]["lease_duration"]
        self._renew_s = self._clock.monotonic_s() + (held["ttl"] / 2 or KEPT_S)


@functools.cache
def vault() -> Vault:
    """That of this process."""
    return Vault(os.environ, SystemClock())


def _fields(client: hvac.Client, place: Place) -> Mapping[str, Any]:
    if place.kv == 1:
        told = client.secrets.kv.v1.read_secret(place.path, mount_point=place.mount)["data"]
    else:
        version = client.secrets.kv.v2.read_secret_version(
            place.path, mount_point=place.mount, raise_on_deleted_version=True
        )
        told = version["data"]["data"]
    return dict(told)


def _text(name: str, path: str | None) -> str:
    if not path:
        raise Retriable(f"the environment has no {name}; set it to the path of a file")
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Retriable(f"the file that {name} names cannot be read ({type(error).__name__}); mend it") from None
