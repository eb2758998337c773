"""POST /uploads/{supplier}/{feed}: a whole file of any size into the folder of its feed. Made by `server`.

Invariant: 201 means that the file is on the disk, and whole; of one that breaks off nothing stays.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import structlog
from aiohttp import BodyPartReader, hdrs, web

from connectors.configuration.load import Feed
from connectors.credentials.secret import ready
from connectors.inbound.hooks import ENCODINGS, unknown, unverifiable
from connectors.inbound.signature import is_secret
from connectors.inbound.spool import Draft, Stored
from connectors.inbound.upload import UploadConfig
from stockweave import bodies
from stockweave.errors import Rejected, Retriable
from stockweave.metrics import INBOUND
from stockweave.problems import problem
from stockweave.world import Clock

log = structlog.get_logger(__name__)

PATH = "/uploads/{supplier}/{feed}"
BLOCK_BYTES = 1 << 20
STALL_S = 60.0  # without a byte
MULTIPART = "multipart/form-data"
FULL = (errno.ENOSPC, errno.EDQUOT)

T = TypeVar("T")

_STATUS = {"body_too_large": 413, "unsupported_encoding": 415}  # else 400


class Uploads:
    """Takes files.

    Args:
        find: the feed of a request, by supplier and name.
        clock: stamps what comes.
    """

    def __init__(self, find: Callable[[web.Request], Feed | None], clock: Clock) -> None:
        self._find = find
        self._clock = clock

    async def receive(self, request: web.Request) -> web.Response:
        """POST a file, as the body or as the only file of a form."""
        feed = self._find(request)
        config = None if feed is None else feed.config.source
        if feed is None or not isinstance(config, UploadConfig):
            return unknown(request, "upload")
        result, response = await self._received(request, feed, config)
        INBOUND.labels(feed.whole_name, result).inc()
        if response.status >= 400:
            log.warning("upload_refused", feed=feed.whole_name, reason=result)
            response.force_close()  # the rest of a file is not read
        return response

    async def _received(self, request: web.Request, feed: Feed, config: UploadConfig) -> tuple[str, web.Response]:
        try:
            await ready(config)
            if not is_secret(_bearer(request), config.token, config.previous):
                wrong = problem(401, "wrong_token", "the token is not the one agreed; send it as Authorization: Bearer")
                wrong.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
                return "wrong_token", wrong
        except Retriable as why:
            return "unverifiable", unverifiable(feed.whole_name, why)
        try:
            stored = await self._stored(request, config)
        except Rejected as why:
            return why.reason, problem(_STATUS.get(why.reason, 400), why.reason, str(why), field=why.field)
        except web.RequestPayloadError as error:
            return "malformed_body", problem(400, "malformed_body", bodies.unreadable(request, error))
        except TimeoutError:
            return "body_too_slow", problem(408, "body_too_slow", f"nothing came for {STALL_S:g} s; send it again")
        except OSError as error:
            if isinstance(error, ConnectionError):
                raise
            log.error("upload_not_stored", feed=feed.whole_name, path=config.path, why=error.strerror)
            status = 507 if error.errno in FULL else 503
            return "not_stored", problem(status, "not_stored", "it cannot be kept now; send it again", retry_after_s=30)
        log.info("upload_stored", feed=feed.whole_name, file=stored.name, size=stored.size)
        answer = {"name": stored.name, "size": stored.size, "sha256": stored.sha256}
        return "accepted", web.json_response(answer, status=201)

    async def _stored(self, request: web.Request, config: UploadConfig) -> Stored:
        too_large = Rejected("body_too_large", f"the file is larger than {config.bytes_max} bytes; send less at once")
        is_form = request.content_type == MULTIPART
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").lower()
        if encoding not in (ENCODINGS[:2] if is_form else ENCODINGS):
            raise Rejected("unsupported_encoding", f"Content-Encoding is {encoding}; send the file as it is")
        if not is_form and (request.content_length or 0) > config.bytes_max:
            raise too_large
        form = Form(request) if is_form else None
        blocks = _blocks(request) if form is None else form.blocks()
        given = request.query.get("name", "")
        draft: Draft | None = None
        size = 0
        try:
            async with aclosing(blocks):
                async for block in blocks:
                    size += len(block)
                    if size > config.bytes_max:
                        raise too_large
                    if draft is None:
                        name = given or (form.name if form is not None else "")
                        draft = await asyncio.to_thread(Draft, Path(config.path), name, self._clock.now_ms())
                    await asyncio.to_thread(draft.write, block)
            if draft is None:
                raise Rejected("empty_file", "there is no byte in it; send a file")
            return await asyncio.to_thread(draft.finish)
        finally:
            if draft is not None:
                draft.discard()


class Form:
    """The only file of a form. `name`: as the form has it, once the first block is there."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.name = ""

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """The file's bytes; ends only when the form has ended as it should, so that what breaks off is never whole."""
        try:
            reader = await self._request.multipart()
            is_found = False
            while (part := await _soon(reader.next())) is not None:
                if not isinstance(part, BodyPartReader):
                    raise Rejected("malformed_form", "the form holds a form; send one file")
                if part.filename is None:
                    while await _soon(part.read_chunk()):
                        pass
                    continue
                if is_found:
                    raise Rejected("several_files", "the form holds several files; send each by itself")
                if part.headers.get(hdrs.CONTENT_TRANSFER_ENCODING, "binary").lower() not in ("binary", "8bit", "7bit"):
                    raise Rejected("unsupported_encoding", "a part of the form is encoded; send it as it is")
                is_found, self.name = True, part.filename
                while block := await _soon(part.read_chunk(BLOCK_BYTES)):
                    yield block
        except (ValueError, RuntimeError, AssertionError) as error:  # which aiohttp raises for forms that are none
            raise Rejected("malformed_form", f"the form cannot be read ({type(error).__name__}); mend it") from None
        if not is_found:
            raise Rejected("no_file", "the form holds no file; send one, with its name")


async def _blocks(request: web.Request) -> AsyncGenerator[bytes, None]:
    while block := await _soon(request.content.read(BLOCK_BYTES)):
        yield block


async def _soon(reading: Awaitable[T]) -> T:
    async with asyncio.timeout(STALL_S):
        return await reading


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
