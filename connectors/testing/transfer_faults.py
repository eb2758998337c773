"""What goes wrong when files are fetched, in an order that a seed repeats. Used by `sftp_server` and `ftp_server`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from random import Random


class TransferFaults:
    """Each fault comes once, and then there are no more.

    Args:
        cuts: the connection is lost after so many bytes of a file; one for each download that gets so far.
        refused_logins: so many logins are refused first, right as they may be.
        slow_s: seconds before each block.
        says_whole: after a cut, the server says that this was the whole file (FTP).
    """

    def __init__(
        self, cuts: Iterable[int] = (), refused_logins: int = 0, slow_s: float = 0.0, *, says_whole: bool = False
    ) -> None:
        self._cuts = deque(cuts)
        self._refused_logins = refused_logins
        self.slow_s = slow_s
        self.says_whole = says_whole

    @classmethod
    def seeded(cls, seed: int, size: int, count: int = 3) -> TransferFaults:
        """Some faults for a file of `size` bytes; the same for the same seed."""
        rng = Random(seed)  # noqa: S311 - nothing secret
        return cls([rng.randrange(size) for _ in range(count)], rng.randrange(2))

    @property
    def are_left(self) -> bool:
        """Whether there are more to come."""
        return bool(self._cuts or self._refused_logins)

    def refuses_login(self) -> bool:
        """Whether this login is one to be refused."""
        if self._refused_logins:
            self._refused_logins -= 1
            return True
        return False

    def cut_before(self, end: int) -> int | None:
        """The byte to cut at, if a download is about to pass it on its way to the byte `end`."""
        return self._cuts.popleft() if self._cuts and end > self._cuts[0] else None
