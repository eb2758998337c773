"""Credentials of HTTP requests: API key, basic, bearer, OAuth 2.0 client credentials (RFC 6749, section 4.4).

Used by the kinds that speak HTTP.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, Any, Literal, NamedTuple, Self

import aiohttp
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from connectors.credentials.secret import Secret
from connectors.options import Options
from stockweave.errors import Retriable
from stockweave.world import Clock

TOKEN_S = 300.0  # of a token that does not say how long it holds
EARLY_S = 30.0  # so long before its end a token is asked for anew
TIMEOUT_S = 30.0


class Proof(NamedTuple):
    """What a request carries."""

    headers: dict[str, str]
    params: dict[str, str]


class ApiKey(Options):
    """A key in a header, or in a parameter of the address."""

    kind: Literal["api_key"]
    value: Secret
    header: str | None = None
    parameter: str | None = None

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if (self.header is None) == (self.parameter is None):
            raise PydanticCustomError("api_key", "needs either header or parameter, and not both")
        return self


class Basic(Options):
    """A user and a password."""

    kind: Literal["basic"]
    user: str
    password: Secret


class Bearer(Options):
    """A token that somebody else renews."""

    kind: Literal["bearer"]
    token: Secret


class OAuth2Client(Options):
    """A token for which the supplier is asked with the client's own id and secret."""

    kind: Literal["oauth2_client"]
    token_url: str
    client_id: str
    client_secret: Secret
    scope: str | None = None


Credentials = Annotated[ApiKey | Basic | Bearer | OAuth2Client, Field(discriminator="kind")]


class Credential:
    """Proves who we are, request by request.

    Args:
        config: None where nobody asks.
        clock: of tokens.
    """

    def __init__(self, config: Credentials | None, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._token = ""
        self._token_until_s = -1.0
        self._asking = asyncio.Lock()

    async def proof(self, session: aiohttp.ClientSession) -> Proof:
        """For the next request.

        Raises:
            Retriable: a secret is not there, or no token is to be had.
        """
        match self._config:
            case None:
                return Proof({}, {})
            case ApiKey(header=header, parameter=parameter, value=value):
                secret = value.read()
                return Proof({header: secret}, {}) if header is not None else Proof({}, {parameter or "": secret})
            case Basic(user=user, password=password):
                return Proof({"Authorization": f"Basic {_both(user, password.read())}"}, {})
            case Bearer(token=token):
                return Proof({"Authorization": f"Bearer {token.read()}"}, {})
            case OAuth2Client():
                return Proof({"Authorization": f"Bearer {await self._valid_token(session, self._config)}"}, {})

    def refused(self) -> bool:
        """The supplier did not take it; whether it is worth another try, with another token."""
        had_token = bool(self._token)
        self._token, self._token_until_s = "", -1.0
        return had_token

    def hidden(self, text: str) -> str:
        """A text of somebody else's, with our secrets taken out."""
        for secret in (self._token, *_secrets(self._config)):
            text = text.replace(secret, "***") if secret else text
        return text

    async def _valid_token(self, session: aiohttp.ClientSession, config: OAuth2Client) -> str:
        async with self._asking:
            if not self._token or self._clock.monotonic_s() > self._token_until_s:
                answer = await _ask(session, config)
                token, seconds = answer.get("access_token"), answer.get("expires_in", TOKEN_S)
                if not isinstance(token, str) or not isinstance(seconds, int | float):
                    raise Retriable(f"{config.token_url} gives no access_token; mend token_url")
                self._token = token
                self._token_until_s = self._clock.monotonic_s() + seconds - min(EARLY_S, seconds / 2)
            return self._token


def _secrets(config: Credentials | None) -> list[str]:
    """As they are now; one that is gone is in nobody's words."""
    if config is None:
        return []
    try:
        secret = next(value for _, value in config if isinstance(value, Secret)).read()
    except Retriable:
        return []
    match config:
        case Basic(user=user) | OAuth2Client(client_id=user):
            return [secret, _both(user, secret)]
        case _:
            return [secret]


def _both(user: str, password: str) -> str:
    """As basic authentication has them (RFC 7617)."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


async def _ask(session: aiohttp.ClientSession, config: OAuth2Client) -> dict[str, Any]:
    form = {"grant_type": "client_credentials"} | ({"scope": config.scope} if config.scope else {})
    headers = {"Authorization": f"Basic {_both(config.client_id, config.client_secret.read())}"}
    timeout = aiohttp.ClientTimeout(TIMEOUT_S)
    try:
        async with session.post(
            config.token_url, data=form, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise Retriable(f"{config.token_url} answers {response.status}; mend client_id or client_secret")
            answer = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Retriable(f"{config.token_url} gives no token: {type(error).__name__}; is it up?") from None
    if not isinstance(answer, dict):
        raise Retriable(f"{config.token_url} does not answer with an object; mend token_url")
    return answer
