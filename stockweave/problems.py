"""Errors as HTTP answers: RFC 9457 problem details, from our three classes and from aiohttp's own refusals.

`type` is a URN whose last part is the stable `reason`; `field` names the parameter or field at fault. Every aiohttp
app of ours has `middleware`; handlers raise `Rejected` (422) and `Retriable` (503), and return `problem` otherwise.
"""

from __future__ import annotations

from http import HTTPStatus

import orjson
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler

from stockweave.errors import Rejected, Retriable

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:stockweave:problem:"


def problem(
    status: int,
    reason: str,
    detail: str,
    *,
    field: str | None = None,
    retry_after_s: int | None = None,
    **members: object,
) -> web.Response:
    """A problem as a response.

    Args:
        status: of HTTP.
        reason: a stable code in snake_case.
        detail: what happened and how to mend it.
        field: what is at fault, in the client's spelling.
        retry_after_s: becomes the header of that name.
        members: anything more to say; JSON values.
    """
    body = standard_members(status, reason, detail) | ({} if field is None else {"field": tellable(field)}) | members
    headers = {} if retry_after_s is None else {hdrs.RETRY_AFTER: str(retry_after_s)}
    return web.Response(body=orjson.dumps(body), status=status, content_type=MEDIA_TYPE, headers=headers)


def standard_members(status: int, reason: str, detail: str) -> dict[str, object]:
    """What every problem says; for an answer that is streamed."""
    return {
        "type": TYPE + reason,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": tellable(detail),
        "reason": reason,
    }


def tellable(text: str) -> str:
    """The text as UTF-8 can say it: what a header held that is not UTF-8 comes in as lone surrogates."""
    return text.encode(errors="replace").decode()


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers what a handler raises; a Fatal, or a defect, stays aiohttp's 500 with its log entry."""
    try:
        return await handler(request)
    except Rejected as error:
        return problem(422, error.reason, str(error), field=error.field)
    except Retriable as error:
        return problem(503, "try_again", str(error), retry_after_s=error.retry_after_s)
    except ConnectionResetError:  # the client's, in the middle of its body or of our answer: no defect, no 500
        return problem(400, "connection_lost", "the client closed the connection; send it again")
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _refused(request, error)


def _refused(request: web.Request, error: web.HTTPException) -> web.Response:
    """What aiohttp itself refuses: no such route, a method that the route lacks, a body over the limit."""
    phrase = HTTPStatus(error.status).phrase
    is_described = any(resource.canonical == "/openapi.json" for resource in request.app.router.resources())
    remedy = "/openapi.json lists what there is" if is_described else "mend the address, or the method"
    detail = f"{request.method} {request.path}: {error.text or phrase}; {remedy}"
    response = problem(error.status, phrase.lower().replace(" ", "_"), detail)
    if hdrs.ALLOW in error.headers:
        response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
    return response


async def expectation(request: web.Request) -> web.StreamResponse | None:
    """For `expect_handler` of every route: asks for the body, or refuses what else a client expects.

    aiohttp's own tells the header back as it is, which fails where it is not UTF-8, and outside of every middleware.
    """
    if request.version < HttpVersion11:
        return None
    expected = request.headers.get(hdrs.EXPECT, "")
    if expected.lower() != "100-continue":
        detail = f"Expect is {expected}; send 100-continue, or none"
        return problem(417, "expectation_failed", detail, field=hdrs.EXPECT)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer's own headers have not begun
    return None


async def unexpected(_: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: aiohttp's own 500, logged already, leaves as a problem, without internals."""
    if response.status == HTTPStatus.INTERNAL_SERVER_ERROR and isinstance(response, web.Response):
        body = standard_members(500, "internal_error", "the service failed; its log says why, please report it")
        response.body = orjson.dumps(body)
        response.headers[hdrs.CONTENT_TYPE] = MEDIA_TYPE
        response.headers[hdrs.CONTENT_LENGTH] = str(len(response.body))
