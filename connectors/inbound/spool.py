"""Files on their way into a folder: written beside it, and there at once and whole.

Invariant: a file that is in the folder is on the disk, with its name. Used by `uploads`, in threads.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

DRAFTS = ".drafts"  # in the folder itself, so that a rename is all that is left to do
DRAFT_S_MAX = 86_400  # one that has not grown for so long was left by a process that died
NAME_CHARACTERS_MAX = 50
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")


class Stored(NamedTuple):
    """A file in the folder."""

    name: str
    size: int
    sha256: str


class Draft:
    """A file that is being written.

    Args:
        folder: that it is for; made where there is none.
        given: its name at the supplier, empty if it has none.
        now_ms: stands first in its name, so that they sort as they came.
    """

    def __init__(self, folder: Path, given: str, now_ms: int) -> None:
        make(folder)
        self._folder = folder
        self._name = f"{now_ms:014}-{secrets.token_hex(4)}{_clean(given)}"
        self._path = folder / DRAFTS / self._name
        self._digest = sha256()
        self._size = 0
        self._file = self._path.open("xb")

    def write(self, block: bytes) -> None:
        """What comes next."""
        self._file.write(block)
        self._digest.update(block)
        self._size += len(block)

    def finish(self) -> Stored:
        """Put it into the folder."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._path.rename(self._folder / self._name)
        _sync(self._folder)
        return Stored(self._name, self._size, self._digest.hexdigest())

    def discard(self) -> None:
        """It will not be whole; nothing of a finished one."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def make(folder: Path) -> None:
    """The folder, and the one for what is on its way."""
    (folder / DRAFTS).mkdir(parents=True, exist_ok=True)


def tidy(folder: Path) -> None:
    """Delete what processes left that died."""
    for path in (folder / DRAFTS).iterdir():
        if path.stat().st_mtime < time.time() - DRAFT_S_MAX:
            path.unlink(missing_ok=True)


def _clean(given: str) -> str:
    """A name that no shell and no path reads anything into, after a hyphen; of a long one, its end."""
    name = _OTHER.sub("_", given.replace("\\", "/").rpartition("/")[2])[-NAME_CHARACTERS_MAX:]
    return f"-{name}" if name else ""


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
