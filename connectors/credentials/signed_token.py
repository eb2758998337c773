"""Tokens that we sign ourselves (JWT, RFC 7519): as a bearer token, and as what a client proves itself with (RFC 7523).

Invariant: the key is read at each use, and one that has changed signs anew at once. Used by `http` and `oauth2`.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal, Self

import jwt
from pydantic import Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from connectors.credentials.secret import Secret
from connectors.options import Options
from stockweave.errors import Retriable
from stockweave.world import Clock

RESERVED = ("iss", "sub", "aud", "iat", "nbf", "exp", "jti")
UNUSABLE = (jwt.PyJWTError, ValueError, TypeError)
"""What a key that does not fit its algorithm raises."""


class SigningKey(Options):
    """What is signed with. `key`: a text that both sides know (HS256), or a private key as PEM. `key_id`: as `kid`.

    `valid_s`: of each token.
    """

    algorithm: Literal["HS256", "RS256", "ES256"]
    key: Secret
    key_id: str | None = None
    valid_s: Annotated[float, Field(ge=10, le=86_400)] = 300.0


class Jwt(SigningKey):
    """A bearer token that we sign. `each`: a token for each request, with an id of its own, or for half of `valid_s`.

    `claims`: beside `issuer` (`iss`), `subject` (`sub`), `audience` (`aud`) and the times.
    """

    kind: Literal["jwt"]
    issuer: str | None = None
    subject: str | None = None
    audience: str | None = None
    claims: dict[str, JsonValue] = Field(default={})
    each: Literal["request", "period"] = "period"

    @model_validator(mode="after")
    def _names_no_claim_twice(self) -> Self:
        for name in RESERVED:
            if name in self.claims:
                raise PydanticCustomError(
                    "claims", "claims has {name}, which issuer, subject, audience or valid_s say; remove it from there",
                    {"name": name},
                )  # fmt: skip
        return self


class SignedTokens:
    """Of one configuration. Args: clock: of their times."""

    def __init__(self, config: Jwt, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._token = self._key = ""
        self._until_s = 0.0

    def next(self) -> str:
        """For a request.

        Raises:
            Retriable: the key is not there, or of no use.
        """
        config, key, now_s = self._config, self._config.key.read(), self._clock.monotonic_s()
        if config.each == "request" or key != self._key or now_s > self._until_s:
            told = {"iss": config.issuer, "sub": config.subject, "aud": config.audience}
            claims: dict[str, Any] = config.claims | {name: said for name, said in told.items() if said is not None}
            if config.each == "request":
                claims["jti"] = secrets.token_urlsafe(16)
            self._token = _signed(config, key, claims, self._clock)
            self._key, self._until_s = key, now_s + config.valid_s / 2
        return self._token

    def secrets(self) -> list[str]:
        """What was last told, and signed with."""
        return [self._token, self._key]


def assertion(config: SigningKey, client_id: str, audience: str, clock: Clock) -> str:
    """That we are this client (RFC 7523, section 3), for one use.

    Raises:
        Retriable: the key is not there, or of no use.
    """
    claims = {"iss": client_id, "sub": client_id, "aud": audience, "jti": secrets.token_urlsafe(16)}
    return _signed(config, config.key.read(), claims, clock)


def _signed(config: SigningKey, key: str, claims: dict[str, Any], clock: Clock) -> str:
    now_s = clock.now_ms() // 1_000
    claims |= {"iat": now_s, "exp": now_s + int(config.valid_s)}
    try:
        return jwt.encode(claims, key, config.algorithm, {"kid": config.key_id} if config.key_id is not None else None)
    except UNUSABLE as error:
        place = config.key.file or config.key.env
        raise Retriable(
            f"the key in {place} does not sign with {config.algorithm} ({type(error).__name__}); mend either"
        ) from None
