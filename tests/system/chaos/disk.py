"""Small disks for the data folders of single processes, to be filled up while they work, and freed again.

Each is a tmpfs that is mounted in a mount namespace of `stockweave up` alone: it is gone with the last process of it,
whatever ends them. Without the right to mount, a user namespace gives it, where the system allows those.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

SIZE_MIB = 48  # of one disk: eight times what the stores of a short run need
_MOUNT = (
    'while [ "$1" != -- ]; do mkdir -p "$1"; mount -t tmpfs -o size=' + str(SIZE_MIB) + 'm stockweave-test "$1"; shift;'
    ' done; shift; exec "$@"'
)
WAYS = {
    "a tmpfs, in a mount namespace": ["unshare", "--mount"],
    "a tmpfs, in a user and mount namespace": ["unshare", "--user", "--map-root-user", "--mount"],
}


class NoSmallDisk(Exception):
    """Nothing of what this knows works here."""


class SmallDisks:
    """A small disk for each folder, for what runs behind `wrapper`.

    Raises:
        NoSmallDisk: this system allows none.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._pid = 0
        refusals = []
        for self.way, namespace in WAYS.items():
            if shutil.which(namespace[0]) is None:
                refusals.append(f"{self.way}: there is no {namespace[0]}")
                continue
            with tempfile.TemporaryDirectory() as folder:
                tried = subprocess.run(
                    [*_wrapper(namespace, [folder]), "true"], capture_output=True, text=True, check=False
                )
            if tried.returncode == 0:
                self.wrapper = _wrapper(namespace, [str(folder) for folder in folders])
                return
            refusals.append(f"{self.way}: {tried.stderr.strip()}")
        raise NoSmallDisk("; ".join(refusals))

    def belong_to(self, pid: int) -> None:
        """The process that the wrapper became, through which the disks are reached."""
        self._pid = pid

    def fill(self, folder: Path) -> int:
        """Leave no byte free; what was freed since is taken too. Returns how much was free."""
        taken = 0
        with self._ballast(folder).open("ab", buffering=0) as ballast:
            for piece in (1 << 20, 1 << 12):
                try:
                    while True:
                        taken += ballast.write(bytes(piece))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
        return taken

    def free(self, folder: Path) -> None:
        """Give all of it back."""
        self._ballast(folder).unlink(missing_ok=True)

    def free_bytes(self, folder: Path) -> int:
        """As the system says."""
        stat = os.statvfs(self._ballast(folder).parent)
        return stat.f_bavail * stat.f_bsize

    def _ballast(self, folder: Path) -> Path:
        return Path(f"/proc/{self._pid}/root") / folder.absolute().relative_to("/") / "ballast"


def _wrapper(namespace: Sequence[str], folders: Sequence[str]) -> list[str]:
    return [*namespace, "sh", "-euc", _MOUNT, "sh", *folders, "--"]
