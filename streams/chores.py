"""What a worker does by itself, beside what it is told: forget holds, look for crossings, cover what sources lack.

All of it is looked for a little at a time and decided in batches like any other. Used by the processor, on its thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stockweave.world import Clock
from streams.alerts import Alerts
from streams.batch import FoldedPart, Part
from streams.forgetting import Forgetting
from streams.passes import Passes
from streams.restore import Assigned
from streams.sweep import Past


class Chores:
    """Of the partitions of one worker.

    Args:
        alerts: of the worker.
        clock: of the pace.
        retention_ms: how long a hold is kept after its end.
    """

    def __init__(self, alerts: Alerts, clock: Clock, retention_ms: int) -> None:
        self.forgetting = Forgetting(retention_ms, clock)
        self.passes = Passes(alerts, clock)
        self._alerts = alerts
        self.are_under_way = False  # and go on with the next look, at once
        self._crossed: dict[int, list[bytes]] = {}
        self._past: dict[int, Past] = {}

    def look(self, ready: Mapping[int, Assigned], *, idle: bool) -> set[int]:
        """Look a little further; the partitions in which there is something to do.

        Args:
            ready: those that are served.
            idle: whether there was nothing else to do of late.
        """
        self._crossed = self.passes.found(ready)
        self._past = self.forgetting.look(ready, idle=idle)
        to_cover = set()
        for number, assigned in ready.items():
            if assigned.rows_pass.short:
                assigned.covering.note(assigned.rows_pass.short)
                assigned.rows_pass.short = []
            if assigned.covering.is_searching and assigned.may_decide:
                assigned.covering.step(assigned.store, self._alerts, assigned.position)
            if assigned.covering.found and assigned.may_decide:
                to_cover.add(number)
        self.are_under_way = any(a.covering.is_searching for a in ready.values() if a.may_decide)
        return {*self._crossed, *self._past, *to_cover}

    def with_found(self, part: Part, assigned: Assigned) -> Part:
        """A part with what was found in its partition."""
        number = part.partition
        return replace(
            part,
            past=self._past.get(number),
            crossed=self._crossed.get(number, ()),
            to_cover=assigned.covering.found if assigned.may_decide else (),
        )

    def settled(self, assigned: Assigned, folded: FoldedPart) -> None:
        """A transaction has dealt with what was found."""
        self.forgetting.settled(assigned, folded.part.past)
        assigned.rows_pass.committed(folded.part.crossed, timed=folded.timed)
        if folded.part.to_cover:
            assigned.covering.settled()
        assigned.covering.note(folded.short)
