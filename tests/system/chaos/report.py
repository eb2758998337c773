"""What a run did and found, for people: faults by kind, how long it took to recover, and the last line."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field

from tests.system.chaos.check import Verdict

SHOWN_MAX = 20
TAKEOVER_S_MAX = 15.0  # of a worker that was killed while nothing else was wrong


@dataclass
class Report:
    """`faults`: by kind; `recovered_s`: by kind, from a fault's end until all that was there is folded; `notes`: what
    became of single faults, by kind; `missed`: faults that were tried and did not come about; `problems`: beside the
    verdict."""

    seed: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    notes: dict[str, Counter[str]] = field(default_factory=dict)
    recovered_s: dict[str, list[float]] = field(default_factory=dict)
    takeovers_s: list[float] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    took_s: float = 0.0

    def note(self, kind: str, what: str) -> None:
        """Something to be counted of a kind of fault."""
        self.notes.setdefault(kind, Counter())[what] += 1

    @property
    def clean(self) -> bool:
        """Whether nothing at all was wrong."""
        return not (self.problems or list(self.verdict.lines()))

    def of_faults(self) -> list[str]:
        """A line a kind, and more where there is more to tell."""
        width = max(map(len, self.faults), default=0)
        lines = []
        for kind, count in sorted(self.faults.items()):
            told = [_spread(self.recovered_s[kind])] if kind in self.recovered_s else []
            told += [f"{what}: {n}" for what, n in sorted(self.notes.get(kind, Counter()).items())]
            lines.append(f"  {kind:<{width}} {count:>3}  {'; '.join(told)}")
        return lines + [f"  tried, and did not come about: {kind} {n}" for kind, n in sorted(self.missed.items())]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, {self.took_s:.0f} s; faults by kind:", *self.of_faults()]
        if self.takeovers_s:
            lines.append(f"partitions of a killed worker, nothing else being wrong: {_spread(self.takeovers_s)}")
        lines.append(", ".join(f"{n} {what}" for what, n in self.numbers.items()))
        lines += shortened([*self.problems, *self.verdict.lines()])
        verdict = self.verdict
        lines.append(
            f"{self.faults.total()} faults, {len(verdict.lost)} lost, {len(verdict.doubled)} doubled, "
            f"{len(verdict.oversold)} oversold"
        )
        return "\n".join(lines)


def shortened(found: list[str]) -> list[str]:
    """The first of them, and how many more there are."""
    return found[:SHOWN_MAX] + ([f"and {len(found) - SHOWN_MAX} more"] if len(found) > SHOWN_MAX else [])


def _spread(seconds: list[float]) -> str:
    return f"served again after {statistics.median(seconds):.1f} s (median), {max(seconds):.1f} s (worst)"
