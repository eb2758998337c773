"""The routes of reservations: reserve, one by one or many at once; commit, release, fulfil, extend, transfer; look.

What is asked is read by `requests`, decided by the writer of the SKU's partition (`desk`), and told by `outcomes` and
`answers`. What is raised is answered by `stockweave.problems`; registered by `api.app`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec
from aiohttp import hdrs, web

from api.answers import encode_json
from api.params import Params
from api.reservations import answers, ids, outcomes, requests
from api.reservations.answers import Reply, ReservationResult, ReservationResults, Reservations
from api.reservations.desk import SAME_KEY, Desk
from schemas.codec import Record
from schemas.reservations import COMMIT, EXTEND, FULFIL, RELEASE, TRANSFER, Hold
from stockweave import bodies, metrics, problems
from stockweave.errors import Rejected, Retriable
from stockweave.problems import MEDIA_TYPE, standard_members

RESERVE = "/api/v1/inventory/reserve"
ROOT = "/api/v1/reservations"
ONE = ROOT + "/{id}"
BATCH = ROOT + ":batch"
ACTIONS = {"commit": COMMIT, "release": RELEASE, "fulfil": FULFIL, "extend": EXTEND, "transfer": TRANSFER}

KEY = "Idempotency-Key"
BODY_BYTES_MAX, BATCH_BYTES_MAX = 64 << 10, 4 << 20
OF_ORDER_MAX = 1_000
_PASSED_OVER = "the writer passed the command over; the log of the workers says why"

Body = TypeVar("Body", requests.ReserveRequest, requests.ReservationRequest)


class Entry(NamedTuple):
    """An entry of a batch that goes to the writers. `place`: among the entries."""

    place: int
    command: Record
    told: Callable[[Hold], object]


class ReservationRoutes:
    """Answers from a desk and its view."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._view = desk.view

    def add_to(self, app: web.Application) -> None:
        """Register the routes; HEAD comes with GET."""
        app.router.add_post(RESERVE, self.reserve, expect_handler=problems.expectation)
        app.router.add_post(ROOT, self.reservation, expect_handler=problems.expectation)
        app.router.add_get(ROOT, self.of_order, expect_handler=problems.expectation)
        app.router.add_post(BATCH, self.batch, expect_handler=problems.expectation)
        app.router.add_get(ONE, self.one, expect_handler=problems.expectation)
        for name in ACTIONS:
            app.router.add_post(f"{ONE}/{name}", self.change, expect_handler=problems.expectation)

    async def reserve(self, request: web.Request) -> web.Response:
        """POST /api/v1/inventory/reserve: units of one SKU."""
        return await self._reserve(request, requests.RESERVE, answers.reserved)

    async def reservation(self, request: web.Request) -> web.Response:
        """POST /api/v1/reservations: the same, told in full."""
        return await self._reserve(request, requests.RESERVATION, answers.reservation)

    async def batch(self, request: web.Request) -> web.Response:
        """POST /api/v1/reservations:batch: many calls in one."""
        Params(request.query, ())
        key = _key(request)
        raw = await _body(request, BATCH_BYTES_MAX)
        if isinstance(raw, web.Response):
            return raw
        try:
            given = requests.decoded(raw, requests.BATCH)
        except Rejected as error:
            return _response(_rejected(error))
        replies: list[Reply | None] = []
        entries: list[Entry] = []
        for place, each in enumerate(given.reservations):
            entry = self._entry(place, each, key)
            replies.append(entry if isinstance(entry, Reply) else None)
            if isinstance(entry, Entry):
                entries.append(entry)
        if entries:
            holds = await self._decided([entry.command for entry in entries])
            for entry, hold in zip(entries, holds, strict=True):
                replies[entry.place] = _of_hold(entry.command, hold, entry.told)
        results = [ReservationResult(reply.status, reply.body) for reply in replies if reply is not None]
        return _response(Reply(200, ReservationResults(results)))

    async def change(self, request: web.Request) -> web.Response:
        """POST /api/v1/reservations/{id}/commit, and what else can become of it."""
        Params(request.query, ())
        action = ACTIONS[request.path.rpartition("/")[2]]
        key = _key(request) or ids.random_key()
        raw = await _body(request, BODY_BYTES_MAX, may_be_empty=True)
        if isinstance(raw, web.Response):
            return raw
        own_id = request.match_info["id"]
        sku = ids.sku_of(own_id)
        if sku is None:
            return _response(outcomes.unknown(own_id))
        try:
            asked = requests.change(action, raw)
        except Rejected as error:
            return _response(_rejected(error))
        try:
            asked = requests.fitted(action, asked, sku)
        except Rejected as error:
            [there] = self._view.served.holds([(sku, own_id)])  # what fits none is no fault of what is asked
            return _response(outcomes.unknown(own_id) if there is None else _rejected(error))
        command = self._desk.change_command(action, (sku, own_id), key, asked)
        [hold] = await self._decided([command])
        if isinstance(hold, Retriable):
            raise hold
        return _response(_counted(outcomes.of_change(command, hold, self._view.clock.now_ms()), command))

    async def one(self, request: web.Request) -> web.Response:
        """GET /api/v1/reservations/{id}: as it stands, and how it came to that."""
        Params(request.query, ())
        own_id = request.match_info["id"]
        sku = ids.sku_of(own_id)
        [hold] = [None] if sku is None else self._view.served.holds([(sku, own_id)])
        return _response(outcomes.unknown(own_id) if hold is None else Reply(200, answers.history(hold)))

    async def of_order(self, request: web.Request) -> web.Response:
        """GET /api/v1/reservations?order_id=: those of an order."""
        order_id = Params(request.query, ("order_id",)).identifier("order_id")
        if order_id is None:
            raise Rejected("missing", "order_id is missing; send it", "order_id")
        holds = self._view.served.holds_of(order_id, OF_ORDER_MAX + 1)
        told = [answers.reservation(hold) for hold in holds[:OF_ORDER_MAX]]
        return _response(Reply(200, Reservations(told, more=len(holds) > OF_ORDER_MAX)))

    async def _reserve(
        self,
        request: web.Request,
        decoder: msgspec.json.Decoder[Body],
        told: Callable[[Hold], object],
    ) -> web.Response:
        Params(request.query, ())
        key = _key(request) or ids.random_key()
        raw = await _body(request, BODY_BYTES_MAX)
        if isinstance(raw, web.Response):
            return raw
        try:
            asked = requests.decoded(raw, decoder).asked()
        except Rejected as error:
            return _response(_rejected(error))
        command = self._desk.hold_command(asked, key)
        [hold] = await self._decided([command])
        return _response(_of_hold(command, hold, told))

    def _entry(self, place: int, raw: msgspec.Raw, batch_key: str | None) -> Entry | Reply:
        """An entry of a batch, or the answer that it gets as it is."""
        try:
            body = requests.entry(raw)
            asked = body.asked()
            if body.idempotency_key is not None:
                key = ids.checked_key(body.idempotency_key, "idempotency_key")
            else:
                key = ids.random_key() if batch_key is None else ids.placed_key(batch_key, place)
        except Rejected as error:
            return _rejected(error)
        told = answers.reservation if isinstance(body, requests.ReservationEntry) else answers.reserved
        return Entry(place, self._desk.hold_command(asked, key), told)

    async def _decided(self, commands: Sequence[Record]) -> list[Hold | Retriable | None]:
        began_s = time.perf_counter()
        late = len(commands)
        try:
            holds = await self._desk.all_decided(commands)
            late = sum(isinstance(hold, Retriable) for hold in holds)
            return holds
        finally:
            metrics.RESERVATION_SECONDS.observe(time.perf_counter() - began_s)
            if late:
                metrics.RESERVATION_COMMANDS.labels(commands[0]["action"], "UNDECIDED").inc(late)


def _of_hold(command: Record, hold: Hold | Retriable | None, told: Callable[[Hold], object]) -> Reply:
    if hold is None:
        hold = Retriable(f"{_PASSED_OVER}; {SAME_KEY}")
    if isinstance(hold, Retriable):
        return Reply(503, standard_members(503, "try_again", str(hold)), hold.retry_after_s)
    return _counted(outcomes.of_hold(command, hold, told), command)


def _counted(reply: Reply, command: Record) -> Reply:
    code = reply.body["code"] if isinstance(reply.body, dict) else "DONE"
    metrics.RESERVATION_COMMANDS.labels(command["action"], code).inc()
    return reply


def _key(request: web.Request) -> str | None:
    given = request.headers.getall(KEY, [])
    if len(given) > 1:
        raise Rejected("invalid_idempotency_key", f"{KEY} is given {len(given)} times; send it once", KEY)
    return ids.checked_key(given[0], KEY) if given else None


async def _body(request: web.Request, bytes_max: int, *, may_be_empty: bool = False) -> bytes | web.Response:
    if may_be_empty and not request.body_exists:
        return b""
    if (refused := bodies.unsupported(request, bodies.JSON)) is not None:
        return refused
    return await bodies.whole(request, bytes_max, "send fewer entries, or shorter names")


def _rejected(error: Rejected) -> Reply:
    """422; 400 where it isn't JSON at all, and 409 where each of its lines can be read, and they fit nothing."""
    status = {requests.MALFORMED: 400, requests.MISMATCH: 409}.get(error.reason, 422)
    body = standard_members(status, error.reason, str(error)) | ({} if error.field is None else {"field": error.field})
    return Reply(status, body | ({"code": error.reason.upper()} if status == 409 else {}))


def _response(reply: Reply) -> web.Response:
    headers = {hdrs.CACHE_CONTROL: "no-cache"}
    if reply.own_id is not None:
        headers[hdrs.LOCATION] = ONE.format(id=reply.own_id)
    if reply.retry_after_s is not None:
        headers[hdrs.RETRY_AFTER] = str(reply.retry_after_s)
    media = bodies.JSON if reply.status < 400 else MEDIA_TYPE
    return web.Response(body=encode_json(reply.body), status=reply.status, content_type=media, headers=headers)
