"""A lock on a folder that its holder's death releases, however it dies; keeps two deployments out of one folder."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from stockweave.errors import Fatal


def lock_folder(folder: Path, user: str) -> IO[bytes]:
    """Make the folder if need be and lock it; closing what is returned gives it up.

    Args:
        folder: holds the file `lock`, which stays.
        user: who is in the folder, for the message.

    Raises:
        Fatal: another process holds the lock, or the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("ab")
    except OSError as error:
        raise Fatal(f"cannot write in {folder}: {error.strerror}; choose another with --data-dir") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise Fatal(
            f"{folder} is in use by another {user}: stop that one, or choose another with --data-dir"
        ) from error
    return lock
