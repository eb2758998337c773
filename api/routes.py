"""The read routes: availability of one SKU, of several, as a list, and whole rows.

What is asked is read by `api.params`, what is answered is made by `api.answers`; in between are the view, and a thread
for what would hold up the event loop. What is raised is answered by `stockweave.problems`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from aiohttp import ETag, hdrs, web

from api.answers import Answers, Items, Page, encode_json
from api.cursor import Cursor
from api.generation import GenerationView
from api.listing import Filters, page
from api.params import Params, identifier
from api.view import View
from inventory.policies import DEFAULT_CHANNEL
from schemas.keys import partition_of
from stockweave import problems
from stockweave.errors import Retriable
from stockweave.problems import problem

ROOT = "/api/v1/inventory"
FILTERS = ("supplier", "location", "in_stock", "updated_since", "limit", "cursor")
INVENTORY_PARAMS = ("sku", *FILTERS, "channel", "min_offset")
ROW_PARAMS = ("channel", "min_offset")

SKUS_INLINE_MAX = 32  # about a millisecond of the event loop; more are answered on the thread
WAITING_MAX = 32  # requests for the thread; one takes some tens of milliseconds at most

T = TypeVar("T")


class ReadRoutes:
    """Answers from a view.

    Args:
        view: opened; it need not have caught up.
        updates: inventory.updates as deployed.
        read_wait_ms: how long a read may wait for its `min_offset`.
    """

    def __init__(self, view: View, updates: str, read_wait_ms: int) -> None:
        self._view = view
        self._updates = updates
        self._read_wait_s = read_wait_ms / 1_000
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="list")
        self._waiting = 0

    def add_to(self, app: web.Application) -> None:
        """Register the routes; HEAD comes with GET."""
        app.router.add_get(ROOT, self.inventory, expect_handler=problems.expectation)
        app.router.add_get(ROOT + "/{sku:.+}", self.row, expect_handler=problems.expectation)

    async def inventory(self, request: web.Request) -> web.Response:
        """GET /api/v1/inventory: one SKU, several, or the list."""
        params = Params(request.query, INVENTORY_PARAMS)
        skus = params.skus()
        if skus is None:
            return await self._list(params)
        params.refuse(FILTERS, "sku")
        await self._wait(params)
        if len(skus) == 1:
            return self._one(request, skus[0], self._answers(self._view.served, params))
        with self._view.lease() as served:
            answers = self._answers(served, params)
            if len(skus) <= SKUS_INLINE_MAX:
                return _json(_many(served, skus, answers))
            return _json(await self._off_loop(lambda: _many(served, skus, answers)))

    async def row(self, request: web.Request) -> web.Response:
        """GET /api/v1/inventory/{sku}: everything that is known of a SKU."""
        params = Params(request.query, ROW_PARAMS)
        sku = identifier("sku", request.match_info["sku"])
        await self._wait(params)
        row, answers = self._view.row(sku), self._answers(self._view.served, params)
        if row is None:
            return _unknown(sku)
        available = answers.available(row)
        tag = ETag(answers.etag(row, available), is_weak=True)
        answer = answers.row(row, available, partition_of(sku.encode(), len(self._view.partitions)))
        return _not_modified(request, tag) or _json(encode_json(answer), tag)

    def _one(self, request: web.Request, sku: str, answers: Answers) -> web.Response:
        row = self._view.row(sku)
        if row is None:
            return _unknown(sku)
        available = answers.available(row)
        tag = ETag(answers.etag(row, available), is_weak=True)
        return _not_modified(request, tag) or _json(encode_json(answers.item(row, available)), tag)

    async def _list(self, params: Params) -> web.Response:
        filters = Filters(
            params.identifier("supplier"),
            params.identifier("location"),
            params.flag("in_stock"),
            params.time_ms("updated_since"),
        )
        limit, token = params.limit(), params.text("cursor")
        cursor = None if token is None else Cursor.parse(token)
        await self._wait(params)
        with self._view.lease() as served:
            generation = served.topic.generation
            if cursor is not None and cursor.generation != generation:
                detail = "the list was built anew since that cursor was given; begin again without a cursor"
                return problem(410, "cursor_of_another_generation", detail, field="cursor")
            after = "" if cursor is None else cursor.last

            def scan() -> bytes:
                items, last = page(served.partitions, filters, after, limit, self._answers(served, params))
                return encode_json(Page(items, None if last is None else Cursor(generation, last).token()))

            return _json(await self._off_loop(scan))

    def _answers(self, served: GenerationView, params: Params) -> Answers:
        view = self._view
        channel = params.identifier("channel") or DEFAULT_CHANNEL
        now_ms, heard_at_ms = view.clock.now_ms(), view.heard_at_ms
        return Answers(served.topic.generation, self._updates, now_ms, heard_at_ms, view.policies, channel)

    async def _wait(self, params: Params) -> None:
        offsets = params.min_offset(len(self._view.partitions))
        if offsets:
            await self._view.wait_for(offsets, self._read_wait_s)

    async def _off_loop(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise Retriable(f"{self._waiting} lists are being made already; ask again in a second")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the thread, after the last request."""
        self._thread.shutdown()


def _many(served: GenerationView, skus: list[str], answers: Answers) -> bytes:
    rows = served.rows(skus)
    items = [answers.item(row, answers.available(row)) for row in rows if row is not None]
    unknown = [sku for sku, row in zip(skus, rows, strict=True) if row is None]
    return encode_json(Items(items, unknown))


def _unknown(sku: str) -> web.Response:
    return problem(404, "unknown_sku", f"nothing was ever heard of SKU {sku!r}; {ROOT} lists those known", sku=sku)


def _not_modified(request: web.Request, tag: ETag) -> web.Response | None:
    if hdrs.IF_NONE_MATCH not in request.headers:
        return None
    given = request.if_none_match or ()
    if not any(etag.value in ("*", tag.value) for etag in given):
        return None
    response = web.Response(status=304)
    response.etag = tag
    return response


def _json(body: bytes, tag: ETag | None = None) -> web.Response:
    response = web.Response(body=body, content_type="application/json", headers={hdrs.CACHE_CONTROL: "no-cache"})
    if tag is not None:
        response.etag = tag
    return response
