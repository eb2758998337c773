"""What a number of seeds showed, in a form to read: rate, faults by kind, crash points, findings."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulation.run import Failure
from tests.simulation.schedule import CALLS, HOLD, WORLD_FAULTS
from tests.simulation.world import Tally

EXPECTED = frozenset(f"{call}: {kind}" for call, kinds in CALLS.items() for kind in kinds) | frozenset(WORLD_FAULTS)
"""Every kind of fault, and every point at which a process can be killed: before and after each call."""

MANY = 100  # seeds: fewer cannot meet everything
NAMED_MAX = 8  # seeds of findings, while more are run


@dataclass
class Report:
    """Of all seeds so far. `faults_min`, `events_min`: of any one seed."""

    seeds: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    tally: Tally = field(default_factory=Tally)
    faults_min: int = 1 << 30
    events_min: int = 1 << 30
    failures: list[Failure] = field(default_factory=list)

    def add(self, outcome: Tally | Failure) -> None:
        """One seed more."""
        self.seeds += 1
        if isinstance(outcome, Failure):
            self.failures.append(outcome)
            return
        self.tally.add(outcome)
        self.faults_min = min(self.faults_min, outcome.faults.total())
        self.events_min = min(self.events_min, outcome.events)

    def join(self, other: Report) -> None:
        """What another process has run."""
        self.seeds += other.seeds
        self.cpu_s += other.cpu_s
        self.tally.add(other.tally)
        self.faults_min = min(self.faults_min, other.faults_min)
        self.events_min = min(self.events_min, other.events_min)
        self.failures += other.failures

    @property
    def missed(self) -> list[str]:
        """Kinds of faults and crash points that no seed has met."""
        return sorted(EXPECTED - self.tally.faults.keys())

    def line(self) -> str:
        """Progress."""
        rate, per_core = (60 * self.seeds / s if s else 0.0 for s in (self.seconds, self.cpu_s))
        faults = self.tally.faults.total()
        speed = f"{rate:,.0f} a minute ({per_core:,.0f} a minute of a core)"
        seeds = "".join(f", seed {failure.seed}" for failure in self.failures[:NAMED_MAX])
        return f"{self.seeds:,} seeds, {speed}, {faults:,} faults, {len(self.failures)} findings{seeds}"

    def __str__(self) -> str:
        tally = self.tally
        crashes = sum(n for kind, n in tally.faults.items() if kind.endswith(("kill_before", "kill_after")))
        lines = [f"  {n:9,}  {kind}" for kind, n in sorted(tally.faults.items()) if not kind.endswith(HOLD)]
        held = sum(n for kind, n in tally.faults.items() if kind.endswith(HOLD))
        lines += [f"  {held:9,}  held up in the midst of a call"]
        lines += [f"  {n:9,}  worker ended: {why}" for why, n in sorted(tally.ends.items())]
        met = f"{len(EXPECTED) - len(self.missed)} of {len(EXPECTED)} kinds of faults and crash points were met"
        if self.missed and self.seeds >= MANY:
            met += f"; not {', '.join(self.missed)}"
        least = f"at least {self.events_min} updates and {self.faults_min} faults a seed"
        commits = tally.reached["commit_transaction"]
        work = (
            f"{tally.events:,} updates, {tally.commands:,} commands, {tally.alerts:,} alerts, {commits:,} commits, "
            f"{crashes:,} crashes; {tally.pooled:,} seeds with pools, {tally.held_of_pools:,} holds of them"
        )
        return "\n".join([*lines, met, f"{work}; {least}", self.line(), *map(str, self.failures)])
