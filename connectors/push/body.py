"""Request bodies: what type they are, whole JSON ones up to a limit, and NDJSON line by line in bounded memory.

Called by the routes, before anything is known of the content. Compressed bodies are refused: the server unpacks them,
and does not tell when one breaks off, so lines could be missing without a word.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator
from typing import NamedTuple

from aiohttp import StreamReader, hdrs, web

from stockweave.problems import problem

JSON = "application/json"
NDJSON = "application/x-ndjson"
CHUNK_LINES = 500  # validated and handed to Kafka in one go: a few milliseconds of the loop

_ENCODINGS = ("", "identity")


class Lines(NamedTuple):
    """Lines that follow one another. `first`: number of the first one, from 1; None stands for one over the limit."""

    first: int
    lines: list[bytes | None]


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
    mark = _Mark()
    while data := await content.readany():
        size += len(data)
        if size > bytes_max:
            return None
        parts.append(mark.strip(data))
    return b"".join(parts)


async def read_lines(content: StreamReader, line_bytes_max: int) -> AsyncGenerator[Lines, None]:
    """A body's lines as they arrive, up to `CHUNK_LINES` at a time; an empty line is an empty one."""
    splitter = LineSplitter(line_bytes_max)
    mark = _Mark()
    first = 1
    while data := await content.readany():
        lines = splitter.feed(mark.strip(data))
        for at in range(0, len(lines), CHUNK_LINES):
            chunk = lines[at : at + CHUNK_LINES]
            yield Lines(first, chunk)
            first += len(chunk)
    if (last := splitter.close()) != b"":
        yield Lines(first, [last])


class _Mark:
    """Takes the byte order mark off the beginning of a body, which spreadsheets and PowerShell put there."""

    def __init__(self) -> None:
        self._at_beginning = True

    def strip(self, data: bytes) -> bytes:
        """The data without the mark; it is looked for in the first data alone."""
        if not self._at_beginning:
            return data
        self._at_beginning = False
        return data.removeprefix(codecs.BOM_UTF8)


class LineSplitter:
    """Cuts a stream at line feeds, keeping at most `line_bytes_max` of an unfinished line."""

    def __init__(self, line_bytes_max: int) -> None:
        self._line_bytes_max = line_bytes_max
        self._begun: list[bytes] = []
        self._begun_bytes = 0

    def feed(self, data: bytes) -> list[bytes | None]:
        """The lines that `data` completes; None for each one over the limit."""
        parts = data.split(b"\n")
        rest = parts.pop()
        if not parts:
            self._begin(rest)
            return []
        self._begin(parts[0])
        limit = self._line_bytes_max
        lines: list[bytes | None] = [self.close()]
        lines += [part if len(part) <= limit else None for part in parts[1:]]
        self._begin(rest)
        return lines

    def close(self) -> bytes | None:
        """The unfinished line, which ends here."""
        line = b"".join(self._begun) if self._begun_bytes <= self._line_bytes_max else None
        self._begun, self._begun_bytes = [], 0
        return line

    def _begin(self, part: bytes) -> None:
        self._begun_bytes += len(part)
        if part and self._begun_bytes <= self._line_bytes_max:
            self._begun.append(part)
