"""Where checkpoints are kept: a folder, or any address that fsspec knows; the only part that touches it.

Invariant: what was written is durable before the next call, as far as the place can promise it; on a local disk a
manifest appears whole or not at all. Called by all that make or read checkpoints, in every process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from stockweave.errors import Fatal, Retriable
from stockweave.replay.checkpoint.manifest import MANIFEST
from stockweave.settings import Settings


class Place:
    """A folder of checkpoints, each in a folder of its own.

    Args:
        address: a path, or a URL such as `s3://bucket/stockweave`.

    Raises:
        Fatal: nobody knows how to reach it.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/") if "://" in address else str(Path(address).absolute())
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise Fatal(
                f"the checkpoints' address {self.address} cannot be used: {error}; install what fsspec needs for it, "
                "or name another one"
            ) from error
        self._root = self._root.rstrip("/")
        self.is_local = isinstance(self._fs, LocalFileSystem)

    def address_of(self, name: str) -> str:
        """The full address of something in it."""
        return f"{self.address}/{name}"

    def local_path(self, name: str) -> Path:
        """Where something is on this machine's disk; only of a local place."""
        return Path(self._root) / name

    def names(self) -> tuple[list[str], list[str]]:
        """The checkpoints, oldest first, and folders that have no manifest: being made, or left by one that died."""
        with self._said("listed", ""):
            self._fs.invalidate_cache()
            if not self._fs.exists(self._root):
                return [], []
            found = [e["name"].rstrip("/") for e in self._fs.ls(self._root, detail=True) if e["type"] == "directory"]
            names = sorted(path.rpartition("/")[2] for path in found)
            whole = [name for name in names if self._fs.exists(f"{self._root}/{name}/{MANIFEST}")]
        return whole, sorted(set(names) - set(whole))

    def make_folder(self, name: str) -> None:
        """Make the folder of a checkpoint.

        Raises:
            Fatal: it is there already.
        """
        with self._said("made", name):
            if self._fs.exists(f"{self._root}/{name}"):
                raise FileExistsError("it is there already")
            self._fs.makedirs(f"{self._root}/{name}", exist_ok=True)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A new file, durable at the end of the block."""
        with self._said("written", name), self._fs.open(f"{self._root}/{name}", "wb") as file:
            yield cast("IO[bytes]", file)
            if self.is_local:
                file.flush()
                os.fsync(file.fileno())

    def put(self, name: str, value: bytes) -> None:
        """A small file, whole or not at all."""
        if not self.is_local:
            with self._said("written", name):
                self._fs.pipe_file(f"{self._root}/{name}", value)
            return
        path = self.local_path(name)
        with self.writing(name + ".partial") as file:
            file.write(value)
        with self._said("written", name):
            path.with_name(path.name + ".partial").replace(path)
            for folder in (path.parent, path.parent.parent):
                _fsync(folder)

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """A file to be read in any place."""
        with self._said("read", name), self._fs.open(f"{self._root}/{name}", "rb") as file:
            yield cast("IO[bytes]", file)

    def open(self, name: str) -> IO[bytes]:
        """The same, the caller's to close."""
        with self._said("read", name):
            return cast("IO[bytes]", self._fs.open(f"{self._root}/{name}", "rb"))

    def get(self, name: str) -> bytes:
        """All of a small file."""
        with self._said("read", name):
            value: bytes = self._fs.cat_file(f"{self._root}/{name}")
            return value

    def size(self, name: str) -> int:
        """Bytes of a file, as the place has them now."""
        with self._said("found", name):
            self._fs.invalidate_cache()
            size: int = self._fs.size(f"{self._root}/{name}")
            return size

    def delete(self, name: str) -> None:
        """Delete a folder, if it is there."""
        with self._said("deleted", name):
            if self._fs.exists(f"{self._root}/{name}"):
                self._fs.rm(f"{self._root}/{name}", recursive=True)

    @contextmanager
    def _said(self, done: str, name: str) -> Iterator[None]:
        where = self.address_of(name) if name else self.address
        try:
            yield
        except FileNotFoundError as error:
            raise Fatal(f"{where} is not there; `stockweave checkpoint list` tells what is") from error
        except (ConnectionError, TimeoutError) as error:
            raise Retriable(f"{where} cannot be {done}: {error}; is the place reachable?") from error
        except OSError as error:
            why: Any = error.strerror or error
            raise Fatal(f"{where} cannot be {done}: {why}; see to the right to do so, and to the room there") from error


def default_address(settings: Settings) -> str:
    """Where checkpoints are unless something else is said."""
    return settings.checkpoints or str(settings.data_dir.absolute() / "checkpoints")


def address_of(settings: Settings, named: str) -> str:
    """The full address of a checkpoint that is named by that, by a path, or by its name in the default place."""
    if "://" in named:
        return named.rstrip("/")
    if "/" in named:
        return str(Path(named).absolute())
    return Place(default_address(settings)).address_of(named)


def _fsync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
