"""Reads each file of a folder once, the oldest first, however the folder is reached.

Invariant: a file is read when it has stopped to change, and again only when its size or its time of change is another.
What of the folder was read is the feed's state, so a file that goes is forgotten. A file of more or fewer bytes than
were listed never passes for a whole one. Used by `local`, `sftp` and `ftp`.
"""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from hashlib import blake2b
from types import AsyncGeneratorType
from typing import Annotated, ClassVar, Literal, NamedTuple, Protocol, cast

from pydantic import Field

from connectors.documents import Document, SourceConfig, State, Surroundings
from stockweave.errors import Retriable

NAME_CHARACTERS_MAX = 60  # of an origin; a longer one ends in what stands for all of it
READ = "read"
"""In the state: by name, what of the files that are there was read."""


class Entry(NamedTuple):
    """A file. `changed_ms`: since the epoch, as its folder has it."""

    name: str
    size: int
    changed_ms: int

    @property
    def print(self) -> str:
        """What tells it from its former or later self."""
        return f"{self.size}:{self.changed_ms}"


class Folder(Protocol):
    """A way to a folder; its calls raise Retriable when it cannot be reached.

    `is_remote`: it is the supplier's, who may want to be asked seldom.
    """

    is_remote: ClassVar[bool]

    async def entries(self) -> list[Entry]:
        """The files that are there."""
        ...

    def blocks(self, name: str) -> AsyncGenerator[bytes, None]:
        """A file's bytes; closed when no more of them are wanted."""
        ...

    async def move(self, name: str, to: str) -> None:
        """Into another folder, beside this one or below it."""
        ...

    async def delete(self, name: str) -> None:
        """For good."""
        ...

    async def news(self) -> None:
        """Returns when something has changed there; never, where nobody tells."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


class FilesConfig(SourceConfig):
    """What all folders have in common.

    `path`: of the folder; `pattern`: names of its files, as a shell has them. `settle_s`: as long as a file has not
    changed, it is whole. `then`: what becomes of one that was read: `leave`, `delete`, or `move` to the folder `to`.
    """

    is_content_named: ClassVar[bool] = True

    path: Annotated[str, Field(min_length=1)]
    pattern: Annotated[str, Field(min_length=1)] = "*"
    settle_s: Annotated[float, Field(ge=0, le=3_600)] = 2.0
    then: Literal["leave", "delete", "move"] = "leave"
    to: Annotated[str, Field(min_length=1)] = "read"


class FileSource:
    """A feed of files.

    Args:
        config: checked.
        folder: a way to it.
        around: the clock and the budget.
    """

    def __init__(self, config: FilesConfig, folder: Folder, around: Surroundings) -> None:
        self._config = config
        self._folder = folder
        self._around = around
        self._has_news = False
        self._told: dict[str, str] = {}  # what was read, as of the latest poll

    async def read(self, state: State) -> AsyncGenerator[Document, None]:
        """Each file that is new or another one, once it has settled."""
        read: dict[str, str] = dict(state.get(READ, {}))
        there = await self._list()
        for entry in there:
            if read.get(entry.name) == entry.print:
                await self._done_with(entry)
        self._has_news = False
        if all(read.get(entry.name) == entry.print for entry in there):
            self._told = read
            return
        if self._config.settle_s:
            await asyncio.sleep(self._config.settle_s)
            settled = set(there)
            there = [entry for entry in await self._list() if entry in settled]
        names = {entry.name for entry in there}
        read = {name: known for name, known in read.items() if name in names}
        for entry in sorted(there, key=lambda entry: (entry.changed_ms, entry.name)):
            if read.get(entry.name) != entry.print:
                read = read | {entry.name: entry.print}
                blocks = cast("AsyncGeneratorType[bytes, None]", self._blocks(entry))
                try:
                    yield self._document(entry, blocks, {READ: read})
                finally:
                    if not blocks.ag_running:  # else somebody still waits for a block, and is told by `close`
                        await blocks.aclose()
                self._has_news = self._config.then != "leave" and read != self._told  # once: it may have to stay
        self._told = read

    async def news(self) -> None:
        """As the folder tells; and at once after a file that is to go, or where one has come, or changed, since."""
        if self._has_news:
            return
        if self._folder.is_remote:
            await self._folder.news()
            return
        changed = asyncio.create_task(self._folder.news())
        try:
            await asyncio.sleep(0)  # it is watched from here on: what came before is in the list, what comes is told
            if all(self._told.get(entry.name) == entry.print for entry in await self._list()):
                await changed
        finally:
            changed.cancel()
            await asyncio.wait([changed])

    async def close(self) -> None:
        """Let go of the folder."""
        await self._folder.close()

    def _request(self) -> AbstractAsyncContextManager[None]:
        """Around what is asked of a supplier."""
        return self._around.budget.request() if self._folder.is_remote else nullcontext()

    async def _list(self) -> list[Entry]:
        async with self._request():
            entries = await self._folder.entries()
        ours = [entry for entry in entries if fnmatch.fnmatchcase(entry.name, self._config.pattern)]
        for entry in ours:
            if not _is_unicode(entry.name):
                raise Retriable(f"file {entry.name!a} has a name that is not UTF-8; rename it")
        return ours

    def _document(self, entry: Entry, blocks: AsyncGenerator[bytes, None], after: State) -> Document:
        now_ms = self._around.clock.now_ms()
        return Document(
            origin=f"{entry.changed_ms:014}-{_short(entry.name)}-{entry.size}",
            observed_at=min(entry.changed_ms, now_ms),
            received_at=now_ms,
            blocks=blocks,
            after=after,
        )

    async def _blocks(self, entry: Entry) -> AsyncGenerator[bytes, None]:
        """All of its bytes; raises Retriable if there are others than were listed."""
        size = 0
        async with self._request(), aclosing(self._folder.blocks(entry.name)) as blocks:
            async for block in blocks:
                size += len(block)
                if size > entry.size:
                    raise Retriable(
                        f"file {entry.name} has grown beyond its {entry.size} bytes: it changes while it is read;"
                        " raise settle_s, or have it renamed into the folder when it is whole"
                    )
                yield block
        if size < entry.size:
            raise Retriable(f"file {entry.name} ends after {size} of {entry.size} bytes: it was cut; it is read again")

    async def _done_with(self, entry: Entry) -> None:
        """Kafka has all of it: the state says so, and nothing else is a proof."""
        if self._around.is_trial:
            return
        if self._config.then == "delete":
            await self._folder.delete(entry.name)
        elif self._config.then == "move":
            await self._folder.move(entry.name, self._config.to)


def _short(name: str) -> str:
    """In an origin, of two files of one moment the later name has the greater text; and no two names are one."""
    if len(name) <= NAME_CHARACTERS_MAX:
        return name
    return f"{name[: NAME_CHARACTERS_MAX - 17]}~{blake2b(name.encode(), digest_size=8).hexdigest()}"


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
