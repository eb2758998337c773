"""Who gives access tokens at `/token` (RFC 6749), and knows them again. Used by `http_server`.

Invariant: a refresh token holds once; one that was used already ends all that came of it, as RFC 6819 advises.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping

import jwt
from aiohttp import web


class TokenIssuer:
    """Asked for by the client's id with its secret, or with a token that it signs (RFC 7523).

    Args:
        client: its id and secret.
        client_key: the public key that its own tokens are signed with, as PEM; empty: it has a secret.
        refresh_token: if it has one, there is nothing without.
        rotates: whether a refresh token is replaced when it is used.
    """

    def __init__(
        self, client: tuple[str, str], client_key: str = "", refresh_token: str = "", *, rotates: bool = True
    ) -> None:
        self.client = client
        self.client_key = client_key
        self.refresh_token = refresh_token
        self.rotates = rotates
        self.given = 0
        """How many tokens were given out."""
        self.asked = 0
        self.used: set[str] = set()
        """Refresh tokens that hold no longer."""
        self.withholds = asyncio.Event()
        self.has_withheld = asyncio.Event()
        """Set once a token was made, and is not told before `withholds` is set."""
        self.withholds.set()
        self.prefix = "token-"
        """Of the tokens."""
        self._seen: set[str] = set()
        self._token = ""

    async def answer(self, request: web.Request) -> web.Response:
        """To who asks for a token."""
        self.asked += 1
        form = {name: str(value) for name, value in (await request.post()).items()}
        if form.get("grant_type") != ("refresh_token" if self.refresh_token else "client_credentials"):
            return _refusal("unsupported_grant_type")
        if not self._is_known(request, form):
            return web.json_response({"error": "invalid_client"}, status=401)
        told = {}
        if self.refresh_token:
            given = form.get("refresh_token", "")
            if given != self.refresh_token:
                self.refresh_token = "none" if given in self.used else self.refresh_token
                return _refusal("invalid_grant", f"no such token: {given}")
            if self.rotates:
                self.used.add(given)
                self.refresh_token = told["refresh_token"] = f"{given}-next"
        self.given += 1
        self._token = f"{self.prefix}{self.given}"
        if not self.withholds.is_set():
            self.has_withheld.set()
            await self.withholds.wait()
        return web.json_response({"access_token": self._token, "expires_in": 3_600} | told)

    def expire(self) -> None:
        """What was given out holds no longer."""
        self._token = "expired"  # noqa: S105 - none that was given out

    def knows(self, request: web.Request) -> bool:
        """Whether it has the token that was given out last."""
        return request.headers.get("Authorization") == f"Bearer {self._token}"

    def _is_known(self, request: web.Request, form: Mapping[str, str]) -> bool:
        user, secret = self.client
        if not self.client_key:
            both = base64.b64encode(f"{user}:{secret}".encode()).decode()
            return request.headers.get("Authorization", "") == f"Basic {both}"
        claims = verified(form.get("client_assertion", ""), self.client_key, str(request.url))
        is_new = claims is not None and claims.get("jti") not in self._seen
        self._seen.add(str((claims or {}).get("jti")))
        return is_new and claims is not None and claims.get("iss") == claims.get("sub") == user


def verified(token: str, key: str, audience: str) -> dict[str, object] | None:
    """The claims of a token that is signed with `key` for `audience`, and holds yet."""
    algorithms = ["RS256", "ES256"] if key.startswith("-----") else ["HS256"]
    try:
        return dict(jwt.decode(token, key, algorithms, audience=audience, options={"require": ["exp", "iat"]}))
    except jwt.PyJWTError:
        return None


def _refusal(code: str, said: str = "") -> web.Response:
    return web.json_response({"error": code, "error_description": said}, status=400)
