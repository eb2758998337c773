"""A folder of this machine, watched: the kind `folder`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import ClassVar, Literal

from watchfiles import awatch

from connectors.documents import Kind, Surroundings
from connectors.files.source import Entry, FilesConfig, FileSource
from stockweave.errors import Retriable

BLOCK_BYTES = 1 << 20


class FolderConfig(FilesConfig):
    """A folder of this machine."""

    asks_supplier: ClassVar[bool] = False

    kind: Literal["folder"] = "folder"


class LocalFolder:
    """The folder `path`."""

    is_remote: ClassVar[bool] = False

    def __init__(self, path: Path) -> None:
        self._path = path

    async def entries(self) -> list[Entry]:
        """The files that are there; raises Retriable if the folder is not."""
        return await asyncio.to_thread(self._entries)

    def _entries(self) -> list[Entry]:
        found = []
        try:
            for file in self._path.iterdir():
                if file.is_file():
                    stat = file.stat()
                    found.append(Entry(file.name, stat.st_size, stat.st_mtime_ns // 1_000_000))
        except OSError as error:
            raise Retriable(
                f"folder {self._path} cannot be read ({error.strerror}); create it, or mend path"
            ) from error
        return found

    async def blocks(self, name: str) -> AsyncGenerator[bytes, None]:
        """A file's bytes."""
        try:
            with (self._path / name).open("rb") as file:
                while block := await asyncio.to_thread(file.read, BLOCK_BYTES):
                    yield block
        except OSError as error:
            raise Retriable(f"file {self._path / name} cannot be read ({error.strerror}); grant the right") from error

    async def move(self, name: str, to: str) -> None:
        """Into another folder."""
        target = self._path / to
        try:
            target.mkdir(parents=True, exist_ok=True)
            (self._path / name).replace(target / name)
        except OSError as error:
            raise Retriable(f"file {name} cannot be moved to {target} ({error.strerror}); grant the right") from error

    async def delete(self, name: str) -> None:
        """For good."""
        try:
            (self._path / name).unlink(missing_ok=True)
        except OSError as error:
            raise Retriable(
                f"file {self._path / name} cannot be deleted ({error.strerror}); grant the right"
            ) from error

    async def news(self) -> None:
        """Returns when something has changed there."""
        if not self._path.is_dir():
            await asyncio.Event().wait()
        async for _ in awatch(self._path, recursive=False):
            return

    async def close(self) -> None:
        """There is nothing to let go of."""


def _open(config: FolderConfig, around: Surroundings) -> FileSource:
    return FileSource(config, LocalFolder(Path(config.path)), around)


KIND = Kind(FolderConfig, _open)
