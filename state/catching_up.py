"""Whether a reader of a compacted topic has it whole, so that its rows and its position are of one moment.

Compaction takes a record away once a later one of its key is there. Who reads on meanwhile may have met neither: the
earlier one is gone when he comes by, and the later one is still to come, while the positions between them say that it
is in. But a topic spares what is younger than its `min.compaction.lag.ms`: so all that was taken away until now was
replaced by something older than that; and who comes, within that time, to what was the end, has met it all. So has who
stands at the last stable offset, for nothing beyond it is compacted.
"""

from __future__ import annotations

import math

from schemas.topics import COMPACTION_LAG_MS

PASS_S = COMPACTION_LAG_MS / 1_000 / 2  # half of it, for clocks


class CatchingUp:
    """Of one partition; `heard` and `look` may be called by two threads.

    Args:
        pass_s: less than the lag of the topic's compaction.

    Attributes:
        target: the end that is to be reached; None until the next one is heard.
    """

    def __init__(self, pass_s: float = PASS_S) -> None:
        self.target: int | None = None
        self._pass_s = pass_s
        self._target_at_s = self._whole_at_s = -math.inf

    def heard(self, end: int, now_s: float) -> None:
        """Where the topic ends, when it was asked at `now_s`."""
        if self.target is None:
            self._target_at_s = now_s  # first: who sees the target sees its time
            self.target = end

    def look(self, read_to: int, ended_at: int, now_s: float) -> bool | None:
        """Whether all below `read_to` is whole; None: as it was before. `ended_at`: where the last end was told."""
        if read_to == ended_at:
            self._whole_at_s = now_s
        target = self.target
        if target is None:
            return None
        too_old = False if now_s - self._whole_at_s > self._pass_s else None
        if read_to < target:
            return too_old
        self.target = None
        if now_s - self._target_at_s > self._pass_s and read_to != ended_at:
            return too_old
        self._whole_at_s = max(self._whole_at_s, self._target_at_s)
        return True
