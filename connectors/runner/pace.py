"""When a feed is read next: sooner while it changes or runs low, later while it does not, and after failures.

Pure: time and chance are given. Used by `feed`.
"""

from __future__ import annotations

from random import Random

from connectors.configuration.models import Poll

FASTER, SLOWER = 0.5, 1.5
PAUSE_S, PAUSE_S_MAX = 1.0, 300.0  # after the first failure, and after many; half of it is drawn


class Pace:
    """Of one feed.

    Args:
        poll: its rhythm.
        rng: draws the jitter, so that feeds that failed together do not come back together.
    """

    def __init__(self, poll: Poll, rng: Random) -> None:
        self._poll = poll
        self._rng = rng
        self._every_s = poll.every_s
        self.failures = 0
        """In a row."""

    def polled(self, *, changed: bool, lowest: int | None) -> float:
        """Seconds from the beginning of this poll, which went well, to that of the next.

        Args:
            changed: whether it brought anything.
            lowest: of the counts that it brought, in units.
        """
        self.failures = 0
        is_low = lowest is not None and lowest <= self._poll.low_units
        factor = FASTER if changed or is_low else SLOWER
        fastest_s, slowest_s = self._poll.fastest_s or self._poll.every_s, self._poll.slowest_s or self._poll.every_s
        self._every_s = min(max(self._every_s * factor, fastest_s), slowest_s)
        return self._every_s

    def failed(self, at_least_s: float) -> float:
        """Seconds from now to the next attempt, after one that failed. `at_least_s`: as the supplier wants it."""
        self.failures += 1
        pause_s: float = min(PAUSE_S * 2 ** min(self.failures - 1, 30), PAUSE_S_MAX)
        return max(at_least_s, pause_s * self._rng.uniform(0.5, 1.0))
