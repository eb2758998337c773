"""The read API as an aiohttp application; other parts' applications are mounted beside its routes.

Made by `stockweave.serve`, and by tests as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from aiohttp import web

from api import docs_page, openapi
from api.reservations import description
from api.reservations.desk import Desk
from api.reservations.routes import ReservationRoutes
from api.routes import ReadRoutes
from api.suppliers import SupplierRoutes
from api.system import SystemRoutes, measure
from stockweave import problems

_PAGE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"}


def make_app(
    desk: Desk,
    updates: str,
    read_wait_ms: int,
    mounts: Mapping[str, web.Application] | None = None,
    contributions: Iterable[Mapping[str, Any]] = (),
) -> web.Application:
    """The application.

    Args:
        desk: of reservations; its view, opened, is run and closed by the caller, and its log of commands as well.
        updates: inventory.updates as deployed.
        read_wait_ms: how long a read may wait for its `min_offset`.
        mounts: applications by the path under which they answer.
        contributions: what they add to the API's description, see `api.openapi`.
    """
    app = web.Application(middlewares=[measure, problems.middleware])
    reads = ReadRoutes(desk.view, updates, read_wait_ms)
    reads.add_to(app)
    ReservationRoutes(desk).add_to(app)
    SystemRoutes(desk.view).add_to(app)
    SupplierRoutes(desk.view).add_to(app)
    _describe(app, openapi.document([description.contribution(), *contributions]))
    for path, mounted in (mounts or {}).items():
        app.add_subapp(path, mounted)

    async def close(_: web.Application) -> None:
        reads.close()

    app.on_cleanup.append(close)
    app.on_response_prepare.append(problems.unexpected)
    return app


def _describe(app: web.Application, document: openapi.Document) -> None:
    as_json = orjson.dumps(document)

    async def description(request: web.Request) -> web.Response:
        return web.Response(body=as_json, content_type="application/json")

    async def page(request: web.Request) -> web.Response:
        text = docs_page.render(document, problems.tellable(f"{request.scheme}://{request.host}"))
        return web.Response(text=text, content_type="text/html", headers=_PAGE_HEADERS)

    app.router.add_get("/openapi.json", description, expect_handler=problems.expectation)
    app.router.add_get("/docs", page, expect_handler=problems.expectation)
