"""OAuth 2.0: access tokens for the client's own proof (RFC 6749, section 4.4), or for a refresh token (section 6).

Invariant: a refresh token that the supplier replaces is in its file before the access token beside it is used, and a
feed that is stopped meanwhile waits for that. No error tells a token, or a word of the supplier's but the codes of the
RFC. Used by `http`.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, cast

import aiohttp
import orjson
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from connectors.credentials.rotating import TokenFile, held
from connectors.credentials.secret import Secret
from connectors.credentials.signed_token import SigningKey, assertion
from connectors.credentials.tls import Contexts, Tls
from connectors.options import Options
from stockweave.errors import Retriable
from stockweave.world import Clock

TOKEN_S = 300.0  # of a token that does not say how long it holds
EARLY_S = 30.0  # so long before its end a token is asked for anew
TIMEOUT_S = 30.0
CODES = ("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
         "invalid_scope")  # fmt: skip
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Assertion(SigningKey):
    """A token that the client signs, in place of its secret. `audience`: `token_url` unless the supplier wants else."""

    audience: str | None = None


class OAuth2(Options):
    """What all ways have in common. `token_tls`: for `token_url`, where it is not as for the source."""

    token_url: str
    client_id: str
    client_secret: Secret | None = None
    client_assertion: Assertion | None = None
    scope: str | None = None
    token_tls: Tls | None = None

    @model_validator(mode="after")
    def _proves_itself_once(self) -> Self:
        if self.client_secret is not None and self.client_assertion is not None:
            raise PydanticCustomError("client", "has both client_secret and client_assertion; remove one")
        return self


class OAuth2Client(OAuth2):
    """A token for which the supplier is asked with the client's own id and secret, signature or certificate."""

    kind: Literal["oauth2_client"]

    @model_validator(mode="after")
    def _proves_itself(self) -> Self:
        is_shown = self.token_tls is not None and self.token_tls.client is not None
        if self.client_secret is None and self.client_assertion is None and not is_shown:
            raise PydanticCustomError("client", "needs client_secret, client_assertion, or a client in token_tls")
        return self


class OAuth2Refresh(OAuth2):
    """A token that is asked for with a refresh token, which a person granted once.

    `refresh_token_file`: holds it; the supplier's next one replaces it there.
    """

    kind: Literal["oauth2_refresh"]
    refresh_token_file: Annotated[str, Field(min_length=1)]


class Tokens:
    """Access tokens of one configuration.

    Args:
        config: whom to ask, and how.
        clock: of their end.
        tls: of the source.
    """

    def __init__(self, config: OAuth2Client | OAuth2Refresh, clock: Clock, tls: Tls | None) -> None:
        self._config = config
        self._clock = clock
        self._contexts = Contexts(tls if config.token_tls is None else config.token_tls)
        self._token = ""
        self._until_s = -1.0
        self._refresh_token = ""
        self._asking = asyncio.Lock()

    async def valid(self, session: aiohttp.ClientSession) -> str:
        """One that holds.

        Raises:
            Retriable: none is to be had.
        """
        async with self._asking:
            if not self._token or self._clock.monotonic_s() > self._until_s:
                if isinstance(self._config, OAuth2Refresh):
                    async with held(Path(self._config.refresh_token_file)) as file:
                        await _to_its_end(self._refreshed(session, file))
                else:
                    self._take(await self._answer(session, {"grant_type": "client_credentials"}))
            return self._token

    def refused(self) -> bool:
        """It holds no longer; whether there was one."""
        had_token = bool(self._token)
        self._token = ""
        return had_token

    def secrets(self) -> list[str]:
        """What an answer might repeat."""
        config = self._config
        found = [self._token, self._refresh_token]
        if config.client_secret is not None:
            secret = config.client_secret.read()
            found += [secret, basic(config.client_id, secret)]
        if config.client_assertion is not None:
            found.append(config.client_assertion.key.read())
        return found

    async def _refreshed(self, session: aiohttp.ClientSession, file: TokenFile) -> None:
        self._refresh_token = file.read()  # another feed or process may have been here
        await asyncio.to_thread(file.prepare)
        try:
            form = {"grant_type": "refresh_token", "refresh_token": self._refresh_token}
            answer = await self._answer(session, form)
            new = answer.get("refresh_token")
            if isinstance(new, str) and new and new != self._refresh_token:
                await asyncio.to_thread(file.replace, new)
                self._refresh_token = new
        finally:
            await asyncio.to_thread(file.leave)
        self._take(answer)

    def _take(self, answer: dict[str, Any]) -> None:
        token, seconds = answer.get("access_token"), answer.get("expires_in", TOKEN_S)
        if not isinstance(token, str) or not isinstance(seconds, int | float):
            raise Retriable(f"{self._config.token_url} gives no access_token; mend token_url")
        self._token = token
        self._until_s = self._clock.monotonic_s() + seconds - min(EARLY_S, seconds / 2)

    async def _answer(self, session: aiohttp.ClientSession, form: dict[str, str]) -> dict[str, Any]:
        url = self._config.token_url
        proof = self._proof()
        form |= proof.form | ({"scope": self._config.scope} if self._config.scope else {})
        try:
            async with session.post(
                url,
                data=form,
                headers=proof.headers,
                timeout=aiohttp.ClientTimeout(TIMEOUT_S),
                allow_redirects=False,  # it would take the proof to anybody
                ssl=self._contexts.now(),
            ) as response:
                status = response.status
                answer = await _json(response)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Retriable(f"{url} gives no token: {type(error).__name__}; is it up?") from None
        if status != 200:
            raise Retriable(self._refusal(status, answer))
        if not isinstance(answer, dict):
            raise Retriable(f"{url} does not answer with an object; mend token_url")
        return answer

    def _proof(self) -> _ClientProof:
        config = self._config
        if config.client_secret is not None:
            return _ClientProof({"Authorization": f"Basic {basic(config.client_id, config.client_secret.read())}"}, {})
        if config.client_assertion is not None:
            audience = config.client_assertion.audience or config.token_url
            signed = assertion(config.client_assertion, config.client_id, audience, self._clock)
            form = {"client_id": config.client_id, "client_assertion_type": JWT_BEARER, "client_assertion": signed}
            return _ClientProof({}, form)
        return _ClientProof({}, {"client_id": config.client_id})

    def _refusal(self, status: int, answer: object) -> str:
        code = answer.get("error") if isinstance(answer, dict) else None
        said = f"{self._config.token_url} answers {status}" + (f" ({code})" if code in CODES else "")
        if code == "invalid_grant" and isinstance(self._config, OAuth2Refresh):
            return (
                f"{said}: the refresh token holds no longer; have the supplier grant another one, and put it into"
                f" {self._config.refresh_token_file}"
            )
        return f"{said}; mend client_id or what proves it"


class _ClientProof(NamedTuple):
    headers: dict[str, str]
    form: dict[str, str]


def basic(user: str, password: str) -> str:
    """As basic authentication has them (RFC 7617)."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


async def _json(response: aiohttp.ClientResponse) -> object:
    """What it holds; None, if that is no JSON."""
    body = await response.read()
    try:
        return cast("object", orjson.loads(body))
    except orjson.JSONDecodeError:
        return None


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Even if who waits for it is to stop: it hears of that afterwards."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and (failure := task.exception()) is not None:
            raise failure from None
        raise
