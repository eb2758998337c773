"""Credentials of HTTP requests: API key, basic, bearer, tokens of OAuth 2.0, and tokens that we sign (JWT).

Used by the kinds that speak HTTP.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

import aiohttp
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from connectors.credentials.oauth2 import OAuth2Client, OAuth2Refresh, Tokens, basic
from connectors.credentials.secret import Secret
from connectors.credentials.signed_token import Jwt, SignedTokens
from connectors.credentials.tls import Tls
from connectors.options import Options
from stockweave.errors import Retriable
from stockweave.world import Clock


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


Credentials = Annotated[ApiKey | Basic | Bearer | Jwt | OAuth2Client | OAuth2Refresh, Field(discriminator="kind")]


class Credential:
    """Proves who we are, request by request.

    Args:
        config: None where nobody asks.
        clock: of tokens.
        tls: of the source, for who gives tokens.
    """

    def __init__(self, config: Credentials | None, clock: Clock, tls: Tls | None = None) -> None:
        self._config = config
        self._signed = SignedTokens(config, clock) if isinstance(config, Jwt) else None
        self._tokens = Tokens(config, clock, tls) if isinstance(config, OAuth2Client | OAuth2Refresh) else None

    async def proof(self, session: aiohttp.ClientSession) -> Proof:
        """For the next request.

        Raises:
            Retriable: a secret is not there, or no token is to be had.
        """
        if self._tokens is not None:
            return _bearing(await self._tokens.valid(session))
        if self._signed is not None:
            return _bearing(self._signed.next())
        match self._config:
            case ApiKey(header=header, parameter=parameter, value=value):
                secret = value.read()
                return Proof({header: secret}, {}) if header is not None else Proof({}, {parameter or "": secret})
            case Basic(user=user, password=password):
                return Proof({"Authorization": f"Basic {basic(user, password.read())}"}, {})
            case Bearer(token=token):
                return _bearing(token.read())
            case _:
                return Proof({}, {})

    def refused(self) -> bool:
        """The supplier did not take it; whether it is worth another try, with another token."""
        return self._tokens is not None and self._tokens.refused()

    def hidden(self, text: str) -> str:
        """A text of somebody else's, with our secrets taken out."""
        for secret in self._secrets():
            text = text.replace(secret, "***") if secret else text
        return text

    def _secrets(self) -> list[str]:
        """As they are now; one that is gone is in nobody's words."""
        try:
            if self._tokens is not None:
                return self._tokens.secrets()
            if self._signed is not None:
                return self._signed.secrets()
            match self._config:
                case ApiKey(value=value) | Bearer(token=value):
                    return [value.read()]
                case Basic(user=user, password=password):
                    secret = password.read()
                    return [secret, basic(user, secret)]
                case _:
                    return []
        except Retriable:
            return []


def _bearing(token: str) -> Proof:
    return Proof({"Authorization": f"Bearer {token}"}, {})
