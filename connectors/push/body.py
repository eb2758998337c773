"""NDJSON bodies, line by line in bounded memory; whole ones are read by `stockweave.bodies`.

Called by the routes, before anything is known of the content.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import NamedTuple

from aiohttp import StreamReader

from stockweave.bodies import Mark

NDJSON = "application/x-ndjson"
CHUNK_LINES = 500  # validated and handed to Kafka in one go: a few milliseconds of the loop


class Lines(NamedTuple):
    """Lines that follow one another. `first`: number of the first one, from 1; None stands for one over the limit."""

    first: int
    lines: list[bytes | None]


async def read_lines(content: StreamReader, line_bytes_max: int) -> AsyncGenerator[Lines, None]:
    """A body's lines as they arrive, up to `CHUNK_LINES` at a time; an empty line is an empty one."""
    splitter = LineSplitter(line_bytes_max)
    mark = Mark()
    first = 1
    while data := await content.readany():
        lines = splitter.feed(mark.strip(data))
        for at in range(0, len(lines), CHUNK_LINES):
            chunk = lines[at : at + CHUNK_LINES]
            yield Lines(first, chunk)
            first += len(chunk)
    if (last := splitter.close()) != b"":
        yield Lines(first, [last])


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
