"""POST /hooks/{supplier}/{feed}: verified, written to inventory.received, answered; what it says is the feed's matter.

Invariant: 202 means that Kafka has it. The bodies held at once are bounded, over all senders. Made by `server`.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable

import orjson
import structlog
from aiohttp import hdrs, web

from connectors.configuration.load import Feed
from connectors.credentials.secret import ready
from connectors.inbound.inbox import CONTENT_TYPE, DELIVERY_ID, RECEIVED_AT
from connectors.inbound.signature import verify
from connectors.inbound.webhook import WebhookConfig
from connectors.parcel import REFUSED
from connectors.publisher import Headers, Publisher
from stockweave import bodies
from stockweave.errors import Rejected, Retriable
from stockweave.metrics import INBOUND
from stockweave.problems import problem
from stockweave.world import Clock

log = structlog.get_logger(__name__)

PATH = "/hooks/{supplier}/{feed}"
HELD_BYTES_MAX = 64 << 20
BODY_S = 30.0  # for a body to come
HEADER_CHARACTERS_MAX = 1_000  # of what is kept of a header
ENCODINGS = ("", "identity", "gzip")  # as they come; what is packed is unpacked with the feed's files

_STATUS = {"wrong_signature": 401, "too_old": 400, "malformed_timestamp": 400}


class Hooks:
    """Takes webhooks.

    Args:
        find: the feed of a request, by supplier and name.
        publisher: of inventory.received.
        clock: stamps what comes.
    """

    def __init__(self, find: Callable[[web.Request], Feed | None], publisher: Publisher, clock: Clock) -> None:
        self._find = find
        self._publisher = publisher
        self._clock = clock
        self._held_bytes = 0

    async def receive(self, request: web.Request) -> web.Response:
        """POST a webhook."""
        feed = self._find(request)
        config = None if feed is None else feed.config.source
        if feed is None or not isinstance(config, WebhookConfig):
            return unknown(request, "webhook")
        body = bytearray()
        try:
            result, response = await self._received(request, feed, config, body)
        finally:
            self._held_bytes -= len(body)
        INBOUND.labels(feed.whole_name, result).inc()
        if response.status >= 400:
            log.warning("webhook_refused", feed=feed.whole_name, reason=result)
        return response

    async def challenge(self, request: web.Request) -> web.Response:
        """GET, by which some suppliers ask whether it is us, with a token that both know."""
        feed = self._find(request)
        config = None if feed is None else feed.config.source
        if feed is None or not isinstance(config, WebhookConfig) or config.verify_token is None:
            return unknown(request, "webhook that is asked for by GET")
        try:
            await config.verify_token.ready()
            token = config.verify_token.read()
        except Retriable as why:
            return unverifiable(feed.whole_name, why)
        given = request.query.get("hub.verify_token", "").encode(errors="surrogateescape")
        if not token or not hmac.compare_digest(token.encode(), given):
            return problem(
                401, "wrong_token", "hub.verify_token is not the one agreed; send that", field="hub.verify_token"
            )
        headers = {"X-Content-Type-Options": "nosniff"}
        return web.Response(text=request.query.get("hub.challenge", ""), content_type="text/plain", headers=headers)

    async def _received(
        self, request: web.Request, feed: Feed, config: WebhookConfig, body: bytearray
    ) -> tuple[str, web.Response]:
        """What became of it, and the answer."""
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").lower()
        if encoding not in ENCODINGS:
            detail = f"Content-Encoding is {encoding}; send gzip, or the body as it is"
            return "unsupported_encoding", problem(415, "unsupported_encoding", detail, field=hdrs.CONTENT_ENCODING)
        if (failed := await self._read(request, config.body_bytes_max, body)) is not None:
            return failed
        raw, now_ms = bytes(body), self._clock.now_ms()
        try:
            await ready(config)
            verify(config.signature, request.headers, raw, now_ms)
        except Rejected as why:
            return why.reason, problem(_STATUS[why.reason], why.reason, str(why), field=why.field)
        except Retriable as why:
            return "unverifiable", unverifiable(feed.whole_name, why)
        if config.url_verification and (asked := _asked(raw)) is not None:
            return "url_verification", web.json_response({"challenge": asked})
        headers: Headers = [(RECEIVED_AT, str(now_ms)), (CONTENT_TYPE, _kept(request, hdrs.CONTENT_TYPE))]
        if config.id_header is not None:
            delivery_id = _kept(request, config.id_header)
            if not delivery_id:
                detail = f"the header {config.id_header} is missing; send the id of the delivery in it"
                return "no_delivery_id", problem(400, "no_delivery_id", detail, field=config.id_header)
            headers.append((DELIVERY_ID, delivery_id))
        return await self._written(feed, raw, headers)

    async def _read(self, request: web.Request, bytes_max: int, body: bytearray) -> tuple[str, web.Response] | None:
        """Fill the body with every byte as it came; or what is wrong with it."""
        too_large = ("body_too_large", f"the body is larger than {bytes_max} bytes; send less at once")
        if (request.content_length or 0) > bytes_max:
            return too_large[0], problem(413, *too_large)
        try:
            async with asyncio.timeout(BODY_S):
                while data := await request.content.readany():
                    if len(body) + len(data) > bytes_max:
                        return too_large[0], problem(413, *too_large)
                    if self._held_bytes + len(data) > HELD_BYTES_MAX:
                        busy = problem(503, "busy", "too much comes at once; send it again", retry_after_s=1)
                        busy.force_close()
                        return "busy", busy
                    self._held_bytes += len(data)
                    body += data
        except web.RequestPayloadError as error:
            broken = problem(400, "malformed_body", bodies.unreadable(request, error))
            broken.force_close()
            return "malformed_body", broken
        except TimeoutError:
            late = problem(408, "body_too_slow", f"the body did not come in {BODY_S:g} s; send it again")
            late.force_close()
            return "body_too_slow", late
        return None

    async def _written(self, feed: Feed, raw: bytes, headers: Headers) -> tuple[str, web.Response]:
        try:
            parcel = await self._publisher.send_encoded([raw], [feed.whole_name], [headers])
        except Retriable as why:
            said = "it cannot be kept now; send it again"  # of Kafka's address nobody outside has to know
            log.warning("webhook_not_kept", feed=feed.whole_name, why=str(why))
            return "try_again", problem(503, "try_again", said, retry_after_s=why.retry_after_s)
        await self._publisher.settle(parcel)
        for failure in parcel.failures:
            if failure.reason == REFUSED:
                return "body_too_large", problem(413, "body_too_large", "the body is too large; send less at once")
            log.warning("webhook_not_kept", feed=feed.whole_name, why=failure.detail)
            said = "it may not have been kept; send it again"
            return "in_doubt", problem(503, "in_doubt", said, retry_after_s=1)
        return "accepted", web.json_response({"accepted": True}, status=202)


def unknown(request: web.Request, what: str) -> web.Response:
    """There is no such feed."""
    name = f"{request.match_info['supplier']}/{request.match_info['feed']}"
    return problem(404, "unknown_feed", f"there is no {what} {name} here; mend the address")


def unverifiable(feed: str, why: Retriable) -> web.Response:
    """We lack our own secret: where it is looked for is for our log alone."""
    log.error("secret_missing", feed=feed, why=str(why))
    return problem(503, "unverifiable", "who sent this cannot be told now; send it again later", retry_after_s=30)


def _kept(request: web.Request, header: str) -> str:
    text = request.headers.get(header, "").strip()[:HEADER_CHARACTERS_MAX]
    return text.encode(errors="replace").decode()


def _asked(raw: bytes) -> str | None:
    """The challenge of a body of that type."""
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(content, dict) or content.get("type") != "url_verification":
        return None
    challenge = content.get("challenge")
    return challenge if isinstance(challenge, str) else None
