"""A supplier that tells its stock by GraphQL, in pages by cursor, and counts what queries cost.

Invariant: without faults, the pages of a poll are all rows, each once. It executes any query of its schema. For tests
of configurations, and ours; needs graphql-core.
"""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web
from graphql import build_schema, graphql_sync

from connectors.testing.faults import AT_HAND, Fault, Faults, Served

SCHEMA = build_schema("""
type Query { products(first: Int!, after: String, changedSince: Float, search: String): Products! }
type Products { nodes: [Product!]!, pageInfo: PageInfo! }
type Product { code: String!, stock: Int!, changedMs: Float! }
type PageInfo { hasNextPage: Boolean!, endCursor: String }
""")

Row = dict[str, Any]


class GraphqlSupplier(Served):
    """A supplier at `/graphql`. A row is `{code, stock}`, and `changedMs` where it matters.

    Args:
        rows: its stock; may be changed meanwhile.
        faults: what goes wrong; `refused` is an error beside the data.
        token: what has to be borne; empty: nobody asks.
        points: that queries may cost, each as many as rows it asks for; 0: nobody counts.
        restored: points a second.
    """

    def __init__(
        self,
        rows: list[Row],
        faults: Faults | None = None,
        token: str = "",
        points: float = 0.0,
        restored: float = 100.0,
    ) -> None:
        faults = faults or Faults()
        app = web.Application(middlewares=[faults.middleware])
        app.router.add_post("/graphql", self._answer)
        app.router.add_post("/empty", self._empty)
        super().__init__(app, faults)
        self.rows = rows
        self.token = token
        self.throttled = 0
        """Queries that could not be paid for."""
        self.emptied = 0
        """So many of the next queries find that somebody else has spent all points."""
        self.tells_cost = True
        """Whether it says what it counts."""
        self.searched: list[str | None] = []
        """What queries searched for, in their order."""
        self.message = "the stock of a warehouse is not known"
        """Of the error that `refused` tells."""
        self._points = self._available = points
        self._restored = restored
        self._counted_s = time.monotonic()
        self._requested = 0.0

    @property
    def url(self) -> str:
        """Of the endpoint."""
        return f"{self.origin}/graphql"

    def products(
        self,
        _info: object,
        first: int,
        after: str | None = None,
        changedSince: float = 0.0,  # noqa: N803 - the schema's name
        search: str | None = None,
    ) -> dict[str, Any]:
        """One page; called by the schema."""
        self.searched.append(search)
        self._requested = float(first)
        begin = int(after or "0")
        if AT_HAND.get() == Fault.DUPLICATE:
            begin = max(0, begin - first)
        rows = [{"changedMs": 0.0} | row for row in self.rows if row.get("changedMs", 0.0) >= changedSince]
        end = begin + first
        return {"nodes": rows[begin:end], "pageInfo": {"hasNextPage": end < len(rows), "endCursor": str(end)}}

    async def _empty(self, _request: web.Request) -> web.Response:
        """What no server of GraphQL should say."""
        return web.json_response({"data": None})

    async def _answer(self, request: web.Request) -> web.Response:
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"errors": [{"message": f"{request.headers.get('Authorization')} is unknown"}]})
        asked = await request.json()
        result = graphql_sync(SCHEMA, asked["query"], root_value=self, variable_values=asked.get("variables"))
        errors: list[Any] = [error.formatted for error in result.errors or []]
        if AT_HAND.get() == Fault.REFUSED:
            errors.append({"message": self.message, "path": ["products", "nodes", 0, "stock"]})
        if result.data is None:
            return web.json_response({"errors": errors}, status=400)
        answer: dict[str, Any] = {"data": result.data} | ({"errors": errors} if errors else {})
        return web.json_response(self._paid(answer) if self._points else answer)

    def _paid(self, answer: dict[str, Any]) -> dict[str, Any]:
        now_s = time.monotonic()
        self._available = min(self._points, self._available + (now_s - self._counted_s) * self._restored)
        self._counted_s = now_s
        if self.emptied:
            self.emptied, self._available = self.emptied - 1, 0.0
        status = {"maximumAvailable": self._points, "restoreRate": self._restored}
        if self._requested > self._available + 1e-6:  # which is no point
            self.throttled += 1
            answer = {"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]}
        else:
            self._available -= self._requested
        cost = {
            "requestedQueryCost": self._requested,
            "throttleStatus": status | {"currentlyAvailable": self._available},
        }
        return answer | ({"extensions": {"cost": cost}} if self.tells_cost else {})
