"""A file with a refresh token that its supplier replaces at each use (RFC 6749, section 6); the newest alone holds.

Invariant: the file has a whole token at any time, readable by its owner alone; who asks for a new one holds the lock
beside it from the reading of the old one to the writing of the new one. What a process that dies meanwhile was told,
nobody knows: there is room for the new token before the old one is spent, so that this is a moment. Used by `oauth2`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from stockweave.errors import Retriable

LOCK_TRY_S = 0.05
LOCK_S_MAX = 60.0  # longer than an exchange takes
ROOM_BYTES = 16_384  # longer than tokens are
OWNER_ALONE = 0o600


class TokenFile:
    """Held by `held`. Args: path: of the file itself, and not of a link to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(path.name + ".new")

    def read(self) -> str:
        """The token.

        Raises:
            Retriable: there is none.
        """
        try:
            token = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise self._failed("read", error) from None
        if not token:
            raise Retriable(f"the refresh token's file {self._path} is empty; put the one that was granted there")
        return token

    def prepare(self) -> None:
        """Make room for a new one: after this, nothing but a failing disk keeps it from being written.

        Raises:
            Retriable: there is no room, or no right to write.
        """
        try:
            self._draft.unlink(missing_ok=True)
            with self._opened(os.O_CREAT | os.O_EXCL) as file:
                file.write(b" " * ROOM_BYTES)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._failed("replaced", error) from None

    def replace(self, token: str) -> None:
        """By the new one, for good.

        Raises:
            Retriable: the disk fails, and the new one is lost.
        """
        try:
            with self._opened(0) as file:
                file.write(token.encode())
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
            self._draft.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._failed("replaced", error) from None

    def leave(self) -> None:
        """As it is."""
        self._draft.unlink(missing_ok=True)

    def _opened(self, flags: int) -> BinaryIO:
        return os.fdopen(os.open(self._draft, os.O_WRONLY | os.O_NOFOLLOW | flags, OWNER_ALONE), "wb")

    def _failed(self, what: str, error: Exception) -> Retriable:
        return Retriable(
            f"the refresh token's file {self._path} cannot be {what} ({type(error).__name__}); mend the file, or the"
            " rights to it and its folder"
        )


@asynccontextmanager
async def held(path: Path) -> AsyncIterator[TokenFile]:
    """Nobody else on this file system has it meanwhile; a holder that dies lets go of it.

    Raises:
        Retriable: there is no lock to be had.
    """
    path = await asyncio.to_thread(path.resolve)  # a link stays one
    beside = path.with_name(path.name + ".lock")
    try:
        lock = os.open(beside, os.O_CREAT | os.O_RDWR, OWNER_ALONE)
    except OSError as error:
        raise Retriable(
            f"the lock {beside} cannot be made ({type(error).__name__}); let this process write in its folder"
        ) from None
    try:
        for _ in range(int(LOCK_S_MAX / LOCK_TRY_S)):
            if _has_locked(lock):
                break
            await asyncio.sleep(LOCK_TRY_S)  # nobody tells when another process lets go
        else:
            raise Retriable(f"another process holds {beside} for longer than {LOCK_S_MAX:.0f} s; is it stuck? Stop it")
        yield TokenFile(path)
    finally:
        os.close(lock)


def _has_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
