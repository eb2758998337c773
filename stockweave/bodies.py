"""Request bodies: what type they are, and whole ones up to a limit.

Called by every route that takes a body, before anything is known of the content. Compressed bodies are refused: the
server unpacks them, and does not tell when one breaks off, so lines could be missing without a word.
"""

from __future__ import annotations

import codecs

from aiohttp import StreamReader, hdrs, web

from stockweave.problems import problem

JSON = "application/json"

_ENCODINGS = ("", "identity")


def unsupported(request: web.Request, *media_types: str) -> web.Response | None:
    """The 415 to answer, if the body is of none of the media types, or in an encoding that is not unpacked."""
    if request.content_type not in media_types:
        given = request.headers.get(hdrs.CONTENT_TYPE, "none")
        wanted = " or ".join(media_types)
        return problem(415, "unsupported_media_type", f"Content-Type is {given}; send {wanted}", field="Content-Type")
    if (request.charset or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        detail = f"charset is {request.charset}; send UTF-8"
        return problem(415, "unsupported_media_type", detail, field="Content-Type")
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").lower()
    if encoding not in _ENCODINGS:
        detail = f"Content-Encoding is {encoding}; send the body as it is, not compressed"
        return problem(415, "unsupported_encoding", detail, field="Content-Encoding")
    return None


async def read_whole(content: StreamReader, bytes_max: int) -> bytes | None:
    """A whole body, or None if it is larger than `bytes_max`; reads no further than that."""
    parts = []
    size = 0
    mark = Mark()
    while data := await content.readany():
        size += len(data)
        if size > bytes_max:
            return None
        parts.append(mark.strip(data))
    return b"".join(parts)


async def whole(request: web.Request, bytes_max: int, remedy: str) -> bytes | web.Response:
    """A whole body, or the problem to answer: that it is too large, with a remedy, or cannot be read on."""
    try:
        raw = await read_whole(request.content, bytes_max)
    except web.RequestPayloadError as error:
        response = problem(400, "malformed_body", unreadable(request, error))
        response.force_close()
        return response
    if raw is None:
        return problem(413, "body_too_large", f"the body is larger than {bytes_max} bytes; {remedy}")
    return raw


def unreadable(request: web.Request, error: web.RequestPayloadError) -> str:
    """What is said of a body that broke off in the middle."""
    request.content.feed_eof()  # nothing more can be read; aiohttp would try, and log the same error as its own
    return f"the body cannot be read on ({' '.join(str(error).split())}); mend it"


class Mark:
    """Takes the byte order mark off the beginning of a body, which spreadsheets and PowerShell put there."""

    def __init__(self) -> None:
        self._at_beginning = True

    def strip(self, data: bytes) -> bytes:
        """The data without the mark; it is looked for in the first data alone."""
        if not self._at_beginning:
            return data
        self._at_beginning = False
        return data.removeprefix(codecs.BOM_UTF8)
