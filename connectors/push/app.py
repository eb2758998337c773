"""The push routes as an aiohttp application, mounted at `ROOT` beside the read API.

`root.add_subapp(ROOT, create_app(...))`. An answer is given only when Kafka's is known: 202 means that Kafka has it.
Made by the assembly in `stockweave`, which starts and stops the publisher around it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import aclosing

import orjson
from aiohttp import hdrs, web
from pydantic import ValidationError
from pydantic_core import from_json as decode_json

from connectors.publisher import Headers, InDoubt, Publisher
from connectors.push import body
from connectors.push.batch import Batch, Stop
from connectors.push.models import InventoryUpdate
from connectors.push.validation import Fault, checked_supplier, faults_of, from_json, from_object, record_of
from stockweave import bodies, problems
from stockweave.metrics import PUSHED_ACCEPTED, PUSHED_IN_DOUBT, PUSHED_REJECTED
from stockweave.problems import problem
from stockweave.settings import Settings
from stockweave.world import Clock, SystemClock

ROOT = "/api/v1/suppliers"
UPDATE_PATH = "/{supplierId}/inventory-update"
BATCH_PATH = "/{supplierId}/inventory-batch-update"

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TOO_LARGE = "send a batch in parts, or as NDJSON"
_STOPPING = "the service is stopping; send what was not read again"


def create_app(
    settings: Settings,
    publisher: Publisher,
    clock: Clock | None = None,
    gives_way: Callable[[], bool] = lambda: False,
) -> web.Application:
    """The application.

    Args:
        settings: for the limits.
        publisher: started before the first request, stopped by the caller after the last.
        clock: stamps what is received.
        gives_way: whether batches are to leave most of the time to others.
    """
    app = web.Application(middlewares=[problems.middleware])
    routes = PushRoutes(settings, publisher, clock or SystemClock(), gives_way)
    app.router.add_post(UPDATE_PATH, routes.update, expect_handler=problems.expectation)
    app.router.add_post(BATCH_PATH, routes.batch, expect_handler=problems.expectation)
    app.on_response_prepare.append(problems.unexpected)
    app.on_shutdown.append(routes.on_shutdown)
    return app


class PushRoutes:
    """Takes updates in."""

    def __init__(self, settings: Settings, publisher: Publisher, clock: Clock, gives_way: Callable[[], bool]) -> None:
        self._body_bytes_max = settings.body_bytes_max
        self._line_bytes_max = settings.line_bytes_max
        self._patience_s = settings.publish_timeout_ms / 1000
        self._publisher = publisher
        self._clock = clock
        self._gives_way = gives_way
        self._reading: set[asyncio.Timeout] = set()

    async def on_shutdown(self, _: web.Application) -> None:
        """End the batches that are still being read: each answers for what it has read."""
        for timeout in self._reading:
            timeout.reschedule(0)

    async def update(self, request: web.Request) -> web.Response:
        """POST one update."""
        if (refused := bodies.unsupported(request, bodies.JSON)) is not None:
            return refused
        supplier_id = checked_supplier(request.match_info["supplierId"])
        raw = await bodies.whole(request, self._line_bytes_max, _TOO_LARGE)
        if isinstance(raw, web.Response):
            return raw
        try:
            record = record_of(from_json(raw), supplier_id, self._clock.now_ms())
        except ValidationError as error:
            record = faults_of(error)
        if isinstance(record, list):
            PUSHED_REJECTED.inc()
            return _invalid(record)
        try:
            receipt = await self._publisher.publish(record, _headers(request))
        except InDoubt as error:
            PUSHED_IN_DOUBT.inc()
            return problem(503, "in_doubt", str(error), retry_after_s=error.retry_after_s, inDoubt=1)
        PUSHED_ACCEPTED.inc()
        token = f"{receipt.partition}-{receipt.offset}"
        return web.Response(
            body=orjson.dumps(receipt._asdict() | {"token": token}), status=202, content_type=bodies.JSON
        )

    async def batch(self, request: web.Request) -> web.StreamResponse:
        """POST a batch: a JSON array, or NDJSON."""
        if (refused := bodies.unsupported(request, bodies.JSON, body.NDJSON)) is not None:
            return refused
        supplier_id = checked_supplier(request.match_info["supplierId"])
        batch = Batch(
            self._publisher, supplier_id, self._clock.now_ms, _headers(request), self._patience_s, self._gives_way
        )
        try:
            if request.content_type == body.NDJSON:
                await self._take_lines(request, batch)
            else:
                items = await self._items(request)
                if isinstance(items, web.Response):
                    return items
                await _take_items(items, batch)
            await batch.settle()
            return await _answer(request, batch)
        finally:
            batch.close()

    async def _take_lines(self, request: web.Request, batch: Batch) -> None:
        timeout = asyncio.timeout(None)
        try:
            async with timeout, aclosing(body.read_lines(request.content, self._line_bytes_max)) as chunks:
                self._reading.add(timeout)
                async for first, lines in chunks:
                    if not await batch.take(first, lines, self._read_line):
                        return
        except TimeoutError:
            batch.stop = Stop(503, "try_again", _STOPPING, 1)
        except web.RequestPayloadError as error:
            batch.stop = Stop(400, "malformed_body", bodies.unreadable(request, error))
        finally:
            self._reading.discard(timeout)

    def _read_line(self, line: bytes | None) -> InventoryUpdate | Fault | None:
        if line is None:
            detail = f"the line is longer than {self._line_bytes_max} bytes; end each update with a line feed"
            return Fault("line_too_long", None, detail)
        return None if not line or line.isspace() else from_json(line)

    async def _items(self, request: web.Request) -> list[object] | web.Response:
        raw = await bodies.whole(request, self._body_bytes_max, _TOO_LARGE)
        if isinstance(raw, web.Response):
            return raw
        try:
            items = decode_json(raw, allow_inf_nan=False)
        except ValueError as error:
            return problem(400, "malformed_json", f"the body is not JSON ({error}); send an array of updates")
        if not isinstance(items, list):
            return _invalid([Fault("not_a_list", None, "the body is not an array; send [...], or NDJSON as such")])
        return items


async def _take_items(items: Sequence[object], batch: Batch) -> None:
    for at in range(0, len(items), body.CHUNK_LINES):
        if not await batch.take(at + 1, items[at : at + body.CHUNK_LINES], from_object):
            return
        await asyncio.sleep(0)  # other requests get their turn between chunks


def _headers(request: web.Request) -> Headers | None:
    """The W3C trace context of a request, for the messages; a malformed one is left out, as the standard asks."""
    parent = request.headers.get("traceparent")
    return [("traceparent", parent)] if parent is not None and _TRACEPARENT.fullmatch(parent) else None


def _invalid(faults: list[Fault]) -> web.Response:
    """422, or 400 where it isn't JSON at all; `errors` lists every fault."""
    status = 400 if faults[0].reason == "malformed_json" else 422
    reason = faults[0].reason if len(faults) == 1 else "invalid_update"
    detail = "; ".join(fault.detail for fault in faults)
    return problem(status, reason, detail, field=faults[0].field, errors=[fault._asdict() for fault in faults])


async def _answer(request: web.Request, batch: Batch) -> web.StreamResponse:
    """202, 207, or the problem that stopped it; the list of errors is copied from its spool."""
    stop = batch.stop
    if stop is None and not batch.received:
        return _invalid([Fault("empty_batch", None, "the batch has no update; send one or more")])
    account: dict[str, object] = {
        "received": batch.received,
        "accepted": batch.accepted,
        "rejected": batch.rejected,
        "inDoubt": batch.in_doubt,
        "token": batch.token,
    }
    headers = {hdrs.CONTENT_TYPE: bodies.JSON}
    if stop is None:
        status, head = (207 if batch.rejected else 202), account
    else:
        status = stop.status
        head = (
            problems.standard_members(status, stop.reason, _stopped(batch, stop))
            | account
            | {"lastLine": batch.last_line}
        )
        headers[hdrs.CONTENT_TYPE] = problems.MEDIA_TYPE
        if stop.retry_after_s is not None:
            headers[hdrs.RETRY_AFTER] = str(stop.retry_after_s)
    errors, errors_bytes = batch.errors()
    begin = orjson.dumps(head)[:-1] + b',"errors":['
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(begin) + errors_bytes + 2
    if stop is not None:
        response.force_close()  # what is left of the body is not read
    await response.prepare(request)
    await response.write(begin)
    while part := errors.read(64 << 10):
        await response.write(part)
    await response.write_eof(b"]}")
    return response


def _stopped(batch: Batch, stop: Stop) -> str:
    in_doubt = f", {batch.in_doubt} of them in doubt and listed" if batch.in_doubt else ""
    remedy = "send the lines in doubt and all lines after it again" if batch.in_doubt else "send what follows it again"
    return f"{stop.detail}. Lines up to {batch.last_line} are accounted for{in_doubt}; none after it was sent; {remedy}"
