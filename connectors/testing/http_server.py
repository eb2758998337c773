"""A supplier that tells its stock as JSON over HTTP: whole, or in pages by number, offset, cursor, address or link.

Invariant: without faults, the pages of a poll are all rows, each once. For tests of configurations, and ours.
"""

from __future__ import annotations

import base64
import email.utils
from hashlib import blake2b
from typing import Any

import orjson
from aiohttp import web

from connectors.testing.faults import AT_HAND, Fault, Faults, Served

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
    """

    def __init__(
        self,
        rows: list[Row],
        faults: Faults | None = None,
        page_rows: int = 2,
        key: str = "",
        client: tuple[str, str] | None = None,
    ) -> None:
        faults = faults or Faults()
        app = web.Application(middlewares=[self._tokens_first, faults.middleware])
        app.router.add_get("/stock", self._stock)
        app.router.add_route("*", "/moved", self._moved)
        for way in ("number", "offset", "cursor", "address", "link"):
            app.router.add_get(f"/{way}", self._page)
        super().__init__(app, faults)
        self.rows = rows
        self.page_rows = page_rows
        self.key = key
        self.client = client
        self.changed_s = 1_790_000_000
        """`Last-Modified`, in s since the epoch."""
        self.clock_ahead_s = 0.0
        self.elsewhere = ""
        """If set, the origin at which the next page is said to be."""
        self.tokens = 0
        """How many were given out."""
        self.asked_for_tokens = 0
        self._token = ""
        self._swapped: dict[int, int] = {}

    @web.middleware
    async def _tokens_first(self, request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401
        """Tokens are not subject to faults."""
        if request.path != "/token":
            answer: web.StreamResponse = await handler(request)
            return answer
        self.asked_for_tokens += 1
        form = await request.post()
        given = request.headers.get("Authorization", "")
        if self.client is None or form.get("grant_type") != "client_credentials":
            return web.Response(status=400)
        if given != _basic(*self.client):
            return web.Response(status=401)
        self.tokens += 1
        self._token = f"token-{self.tokens}"
        return web.json_response({"access_token": self._token, "expires_in": 3_600})

    def _refusal(self, request: web.Request) -> web.Response | None:
        if AT_HAND.get() == Fault.EXPIRED:
            self._token = "expired"  # noqa: S105 - none that was given out
        if self.client is not None and request.headers.get("Authorization") != f"Bearer {self._token}":
            return web.Response(status=401)
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
        return _tagged(request, body, headers)

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


def _tagged(request: web.Request, body: bytes, headers: dict[str, str]) -> web.Response:
    headers |= {"ETag": f'"{blake2b(body, digest_size=8).hexdigest()}"'}
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers, content_type="application/json")


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
