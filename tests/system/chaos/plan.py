"""Which fault comes when: every kind once before any comes again, then at random, some while the network is wrong."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.system.chaos.faults import Faults
from tests.system.chaos.report import Report

KINDS = (
    *("kill-worker", "kill-api", "kill-broker", "kill-in-commit", "delay", "cut", "half-open", "late", "zombie"),
    *("freeze-broker", "disk-worker", "disk-api"),
)
NETWORK = ("delay", "cut", "half-open", "late")
BESIDES = ("delay", "cut", "kill-worker", "kill-api", "kill-broker")  # what may happen while the network is wrong
HARDEST = ("kill-in-commit", "zombie")  # these come twice as often
TRIES_MAX = 4  # of a kind that does not come about, since a fault before it holds everything up


@dataclass(frozen=True)
class Options:
    """What a run is to be.

    `faults`: how many; `seconds`: no fault is begun after them; `rate`: updates a second; `gap_s`: between two faults;
    `half_open_s`: how long nothing comes through; `transaction_timeout_ms`: the workers' setting.
    """

    faults: int
    seed: int
    kinds: Sequence[str] = KINDS
    seconds: float = float("inf")
    rate: int = 1_000
    gap_s: tuple[float, float] = (0.5, 4.0)
    half_open_s: tuple[float, float] = (11.0, 18.0)  # longer than a write may take, and than a transaction
    transaction_timeout_ms: int = 10_000


class Plan:
    """Injects one fault after the other.

    Args:
        faults: to inject with.
        kinds: that are possible here.
        options: of the run.
        rng: draws.
        report: knows which came about.
    """

    def __init__(
        self, faults: Faults, kinds: Sequence[str], options: Options, rng: random.Random, report: Report
    ) -> None:
        self._faults = faults
        self._kinds = kinds
        self._weighted = [*kinds, *(kind for kind in kinds if kind in HARDEST)]
        self._options = options
        self._rng = rng
        self._report = report
        self._tries: Counter[str] = Counter()

    async def carry_out(self) -> None:
        """All faults, and what they need to be recovered from."""
        options, ends_s = self._options, time.monotonic() + self._options.seconds
        besides: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            while True:
                if besides is not None and (besides.done() or self._report.faults.total() + 1 >= options.faults):
                    await besides  # whether it came about is known now
                    besides = None
                if self._is_over(ends_s):
                    break
                kind = self._next()
                await asyncio.sleep(self._rng.uniform(*options.gap_s))
                if besides is not None and kind not in BESIDES:
                    await besides
                    besides = None
                self._tries[kind] += 1
                if kind in NETWORK and besides is None and self._rng.random() < 0.5:
                    besides = group.create_task(self._faults.inject(kind))
                else:
                    await self._faults.inject(kind)
        await asyncio.gather(*self._faults.recoveries)
        if time.monotonic() < ends_s:
            never = [kind for kind in self._kinds if not self._report.faults[kind]]
            self._report.problems += [f"{kind} never came about" for kind in never[: options.faults]]

    def _is_over(self, ends_s: float) -> bool:
        enough = self._report.faults.total() >= self._options.faults
        return enough or self._tries.total() >= TRIES_MAX * self._options.faults or time.monotonic() > ends_s

    def _next(self) -> str:
        missing = [k for k in self._kinds if not self._report.faults[k] and self._tries[k] < TRIES_MAX]
        if missing:
            return min(missing, key=lambda kind: self._tries[kind])  # the first of those tried least
        return self._rng.choice(self._weighted)
