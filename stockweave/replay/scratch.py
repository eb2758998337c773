"""A folder for what a command needs while it runs, in the data folder, so that it lies on the same disk.

Invariant: nothing in it outlives the command, but for a kill; what a killed one left is deleted by the next.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stockweave.errors import Fatal

_LOCK = "in-use"


@contextmanager
def scratch_folder(data_dir: Path) -> Iterator[Path]:
    """An empty folder in `<data_dir>/scratch`, deleted at the end; the leftovers of dead processes are deleted first.

    Raises:
        Fatal: the folder cannot be written.
    """
    root = data_dir.absolute() / "scratch"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (root / "lock").open("ab") as lock:  # so that nobody takes a folder that is just being made for a leftover
            fcntl.flock(lock, fcntl.LOCK_EX)
            _delete_leftovers(root)
            folder = Path(tempfile.mkdtemp(dir=root))
            in_use = (folder / _LOCK).open("ab")
            fcntl.flock(in_use, fcntl.LOCK_EX)
    except OSError as error:
        raise Fatal(f"cannot write in {root}: {error.strerror}; choose another folder with --data-dir") from error
    try:
        yield folder
    finally:
        in_use.close()
        shutil.rmtree(folder, ignore_errors=True)  # another that starts now may be deleting it as well


def _delete_leftovers(root: Path) -> None:
    for folder in root.iterdir():
        if folder.is_dir():
            with (folder / _LOCK).open("ab") as lock:
                if _is_free(lock):
                    shutil.rmtree(folder)


def _is_free(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
