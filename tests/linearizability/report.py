"""What a run did and found, for people: how much was asked and judged, what went wrong meanwhile, and the last line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.linearizability import conservation, porcupine, reads
from tests.linearizability.history import Attempt, Record
from tests.linearizability.porcupine import ILLEGAL, OK, Verdict
from tests.system.chaos.report import Report as OfFaults
from tests.system.chaos.report import shortened


@dataclass
class Report:
    """What there is to tell.

    `faults`: what went wrong; `conserved`, `read`: of two of the checks; `verdicts`: of the third, on each window,
    which took `checked_s`; `took_s`: the run. `asked`: calls, by action; `unknown`: attempts without an outcome, by
    reason; `unheard`: calls without one.
    """

    faults: OfFaults
    verdicts: list[Verdict] = field(default_factory=list)
    conserved: conservation.Findings = field(default_factory=conservation.Findings)
    read: reads.Findings = field(default_factory=reads.Findings)
    took_s: float = 0.0
    checked_s: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    unheard: int = 0

    def count(self, records: Iterable[Record]) -> None:
        """What was asked, by what it was and by what came of it."""
        answered: dict[int, bool] = {}
        for one in records:
            if not isinstance(one, Attempt):
                continue
            self.attempts += 1
            if one.call not in answered:
                self.asked[one.action] += 1
            answered[one.call] = bool(one.status)
            if not one.status:
                self.unknown[one.why] += 1
        self.unheard = sum(not is_so for is_so in answered.values())

    @property
    def violations(self) -> list[str]:
        """All that is wrong, a line each."""
        found = [*self.faults.problems, *self.read.problems, *self.conserved.problems]
        for verdict in self.verdicts:
            if verdict.result != OK:
                what = (
                    "is not linearizable" if verdict.result == ILLEGAL else f"was not judged in {verdict.seconds:.0f} s"
                )
                found.append(f"{verdict.sku} ({verdict.calls} calls) {what}: {'; '.join(verdict.why)}")
        return found

    def __str__(self) -> str:
        calls = ", ".join(f"{n:,} {action}" for action, n in self.asked.most_common())
        why = ", ".join(f"{n:,} {why}" for why, n in self.unknown.most_common())
        read, kept = self.read, self.conserved
        lines = [
            f"seed {self.faults.seed}, {self.took_s:.0f} s; faults by kind:",
            *self.faults.of_faults(),
            f"{self.asked.total():,} calls ({calls})",
            f"{self.unknown.total():,} of {self.attempts:,} attempts of unknown outcome ({why or 'none'})",
            f"{self.unheard:,} calls given up without an outcome",
            *self._of_the_search(),
            f"reads: {read.reads:,} held against what their process had told, {read.behind:,} behind another process",
            f"conservation: {kept.units:,} units, {kept.reservations:,} reservations, {kept.facts:,} facts of the log",
            *shortened(self.violations),
            f"{self.faults.faults.total()} faults, {len(self.violations)} violations",
        ]
        return "\n".join(lines)

    def _of_the_search(self) -> Iterator[str]:
        if not self.verdicts:
            return
        sizes = [verdict.calls for verdict in self.verdicts]
        fine = sum(verdict.result == OK for verdict in self.verdicts)
        longest = max(verdict.seconds for verdict in self.verdicts)
        operations = sum(verdict.operations for verdict in self.verdicts)
        yield (
            f"Porcupine {porcupine.version()}: {fine} of {len(sizes)} windows linearizable, of up to {max(sizes):,} "
            f"calls, {operations:,} operations in all, in {self.checked_s:.1f} s, the longest in {longest:.1f} s"
        )
        searched = sum(verdict.searched for verdict in self.verdicts)
        yield f"in the order of the log {len(sizes) - searched}, by a search without it {searched}"
