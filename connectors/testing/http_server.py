"""A supplier that tells its stock as JSON over HTTP: whole, or in pages by number, offset, cursor, address or link.

Invariant: without faults, the pages of a poll are all rows, each once. For tests of configurations, and ours.
"""

from __future__ import annotations

import email.utils
import ssl
from hashlib import blake2b
from typing import Any

import orjson
from aiohttp import web

from connectors.testing.faults import AT_HAND, Fault, Faults, Served
from connectors.testing.token_issuer import TokenIssuer, verified

Row = dict[str, Any]


class HttpSupplier(Served):
    """A supplier.

    At `/stock` all rows, with `ETag` and `Last-Modified`; with `since` (ms since the epoch) those whose `changed_ms`
    is not before it. In pages at `/number`, `/offset`, `/cursor`, `/address`, `/link`. `/moved` sends to `to`. A token
    is to be had at `/token`.

    Args:
        rows: its stock; may be changed meanwhile.
        faults: what goes wrong.
        page_rows: in a page.
        key: what the header `X-Api-Key`, or the parameter `key`, has to say; empty: nobody asks.
        client: id and secret, for which a token is given, which is asked for then.
        issuer: instead of `client`: gives tokens, one of which is asked for then.
        signer: the key of tokens that the client signs for the audience `stock`: a text, or a public key as PEM.
        context: speaks TLS with it.
    """

    def __init__(
        self,
        rows: list[Row],
        faults: Faults | None = None,
        page_rows: int = 2,
        key: str = "",
        client: tuple[str, str] | None = None,
        issuer: TokenIssuer | None = None,
        signer: str = "",
        context: ssl.SSLContext | None = None,
    ) -> None:
        faults = faults or Faults()
        app = web.Application(middlewares=[self._tokens_first, faults.middleware])
        app.router.add_get("/stock", self._stock)
        app.router.add_route("*", "/moved", self._moved)
        for way in ("number", "offset", "cursor", "address", "link"):
            app.router.add_get(f"/{way}", self._page)
        super().__init__(app, faults, context)
        self.rows = rows
        self.page_rows = page_rows
        self.key = key
        self.issuer = issuer or (None if client is None else TokenIssuer(client))
        self.signer = signer
        self.changed_s = 1_790_000_000
        """`Last-Modified`, in s since the epoch."""
        self.clock_ahead_s = 0.0
        self.says = b""
        """If set, what it answers at `/stock` instead, with the `ETag` of what belongs there."""
        self.elsewhere = ""
        """If set, the origin at which the next page is said to be."""
        self.bearers: list[str] = []
        """Tokens of its client's own that were taken."""
        self._swapped: dict[int, int] = {}

    @property
    def tokens(self) -> int:
        """How many were given out."""
        return 0 if self.issuer is None else self.issuer.given

    @property
    def asked_for_tokens(self) -> int:
        """How often."""
        return 0 if self.issuer is None else self.issuer.asked

    @web.middleware
    async def _tokens_first(self, request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401
        """Tokens are not subject to faults."""
        if request.path != "/token":
            answer: web.StreamResponse = await handler(request)
            return answer
        return web.Response(status=400) if self.issuer is None else await self.issuer.answer(request)

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self.issuer is not None:
            if AT_HAND.get() == Fault.EXPIRED:
                self.issuer.expire()
            if not self.issuer.knows(request):
                return web.Response(status=401)
        if self.signer:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if verified(given, self.signer, "stock") is None:
                return web.Response(status=401, text=f"no such token: {given}")
            self.bearers.append(given)
        if self.key and self.key not in (request.headers.get("X-Api-Key"), request.query.get("key")):
            return web.Response(status=401, text=f"unknown key {request.headers.get('X-Api-Key')}")
        return None

    async def _stock(self, request: web.Request) -> web.Response:
        if refused := self._refusal(request):
            return refused
        since_ms = int(request.query.get("since", "0"))
        body = orjson.dumps([row for row in self.rows if row.get("changed_ms", 0) >= since_ms])
        headers = {"Last-Modified": email.utils.formatdate(self.changed_s, usegmt=True)}
        if self.clock_ahead_s:
            now_s = self.changed_s + self.clock_ahead_s
            headers["Date"] = email.utils.formatdate(now_s, usegmt=True)
        return _tagged(request, body, headers, self.says)

    async def _moved(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": request.query["to"]})

    async def _page(self, request: web.Request) -> web.Response:
        """Pages are told apart by the place of their first row, whatever the way to it."""
        if refused := self._refusal(request):
            return refused
        way, query = request.path.strip("/"), request.query
        size = int(query.get("limit", query.get("size", self.page_rows)))
        match way:
            case "number":
                first = (int(query.get("page", "1")) - 1) * size
            case "offset":
                first = int(query.get("offset", "0"))
            case _:
                first = int(query.get("after", "0"))
        if AT_HAND.get() == Fault.REORDERED and first + size < len(self.rows):
            here, there = (self._swapped.get(place, place) for place in (first, first + size))
            self._swapped |= {first: there, first + size: here}
        shown = self._swapped.get(first, first)
        if AT_HAND.get() == Fault.DUPLICATE and first >= size:
            first = shown = first - size
        following = first + size if first + size < len(self.rows) else None
        rows = self.rows[shown : shown + size]
        address = f"{self.elsewhere or self.origin}/{way}?after={following}"
        told: dict[str, Any] = {}
        headers: dict[str, str] = {}
        if way == "cursor":
            told = {"next": None if following is None else str(following)}
        elif way == "address":
            told = {"next": None if following is None else address}
        elif way == "link" and following is not None:
            headers = {"Link": f'<{address}>; rel="next"'}
        body = orjson.dumps({"stock": rows} | told)
        return _tagged(request, body, headers)


def _tagged(request: web.Request, body: bytes, headers: dict[str, str], says: bytes = b"") -> web.Response:
    headers |= {"ETag": f'"{blake2b(body, digest_size=8).hexdigest()}"'}
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    return web.Response(body=says or body, headers=headers, content_type="application/json")
