"""A disk that forgets what was not written when its process dies; satisfies `stockweave.world.Disk`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from schemas import keys
from stockweave.errors import Fatal
from tests.simulation.process import Clock, Process

FAULTS: dict[str, tuple[str, ...]] = {"write_batch": (), "flush_disk": (), "delete_folder": (), "open_folder": ()}
"""The calls at which a process can be killed, before or after; the disk itself does not fail."""

Content = dict[bytes, bytes]


class _Folder:
    """What outlives a process: `safe` for sure, and of the writes since then the first ones, however many."""

    def __init__(self) -> None:
        self.safe: Content = {}
        self.since: list[Mapping[bytes, bytes | None]] = []

    def forget(self, kept: int) -> None:
        """The process died: only so many of the writes had reached the disk."""
        for changed in self.since[:kept]:
            _apply(self.safe, changed)
        self.since = []


class SimulatedDisk:
    """The disk of one process, over all its lives.

    Args:
        row_cache_bytes: of each store.
        rng: how much a death leaves.
    """

    def __init__(self, clock: Clock, process: Process | None, row_cache_bytes: int, rng: random.Random) -> None:
        self.row_cache_bytes = row_cache_bytes
        self.clock = clock
        self.process = process
        self.in_use: set[Path] = set()
        self._rng = rng
        self._folders: dict[Path, _Folder] = {}

    def open(self, path: Path) -> SimulatedDatabase:
        """The database in a folder."""
        fault = self.reach("open_folder")
        if path in self.in_use:
            raise Fatal(f"the store {path} cannot be opened: it is in use")
        self.in_use.add(path)
        database = SimulatedDatabase(self, path, self._folders.setdefault(path, _Folder()))
        self.reached_end(fault)
        return database

    def die(self) -> None:
        """The process died."""
        self.in_use.clear()
        for folder in self._folders.values():
            folder.forget(self._rng.randint(0, len(folder.since)))

    def wipe(self) -> None:
        """Somebody deleted it all; no process runs on it."""
        self._folders.clear()

    def reach(self, call: str) -> str | None:
        """As `Process.reach`."""
        return None if self.process is None else self.process.reach(call)

    def reached_end(self, fault: str | None) -> None:
        """As `Process.reached_end`."""
        if self.process is not None:
            self.process.reached_end(fault)


class SimulatedDatabase:
    """Satisfies `stockweave.world.Database`."""

    def __init__(self, disk: SimulatedDisk, path: Path, folder: _Folder) -> None:
        self.broken: Fatal | None = None
        self._disk = disk
        self._path = path
        self._folder = folder
        for changed in folder.since:
            _apply(folder.safe, changed)
        folder.since = []
        self._content = dict(folder.safe)

    def get(self, key: bytes) -> bytes | None:
        """One value."""
        return self._content.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Many values."""
        return [self._content.get(key) for key in keys]

    def write(self, changed: Mapping[bytes, bytes | None], local: bytes) -> None:
        """All of it or nothing."""
        fault = self._disk.reach("write_batch")
        whole = {**changed, keys.LOCAL: local}
        _apply(self._content, whole)
        self._folder.since.append(whole)
        self._disk.reached_end(fault)

    def items(self, first: bytes) -> Iterator[tuple[bytes, bytes]]:
        """In order."""
        for key in sorted(self._content):
            if key >= first:
                yield key, self._content[key]

    def rows_estimate(self) -> int:
        """The number of keys."""
        return len(self._content)

    def flush(self, *, wait: bool) -> None:
        """What is not waited for may never come to the disk."""
        fault = self._disk.reach("flush_disk")
        if wait:
            self._folder.forget(len(self._folder.since))
        self._disk.reached_end(fault)

    def reset(self) -> None:
        """Delete it all."""
        fault = self._disk.reach("delete_folder")
        self._folder.safe, self._folder.since = {}, []
        self._content = {}
        self._disk.reached_end(fault)

    def close(self) -> None:
        """Another may open it."""
        self._disk.in_use.discard(self._path)


def _apply(content: Content, changed: Mapping[bytes, bytes | None]) -> None:
    for key, value in changed.items():
        if value is None:
            content.pop(key, None)
        else:
            content[key] = value
