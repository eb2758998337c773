"""Runs seeds, and shortens what fails to the few actions that it takes."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from tests.simulation.scenario import Scenario
from tests.simulation.schedule import Action, drawn
from tests.simulation.world import Simulation, Tally

LENGTH = 110  # actions of a schedule
FAULTS_MIN = 5
TRIES_MAX = 600  # of shortening


@dataclass(frozen=True)
class Failure:
    """What a seed showed: the law that was broken, and a schedule that shows it."""

    seed: int
    why: str
    actions: list[Action]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.why}", f"the shortest schedule found ({len(self.actions)} actions):"]
        lines += [f"  {n:3} {action}" for n, action in enumerate(self.actions, 1)]
        return "\n".join([*lines, f"again: make simulate SEED={self.seed}"])


def scheduled(seed: int) -> tuple[Scenario, list[Action]]:
    """What a seed stands for."""
    rng = random.Random(seed)
    scenario = Scenario.drawn(rng)
    workers = [f"worker-{n}" for n in range(scenario.workers)]
    actions = drawn(rng, workers, ["api"], LENGTH, tears=scenario.tears)
    return scenario.with_retention(rng).with_pools(rng), actions


def play(seed: int, scenario: Scenario, actions: list[Action], faults_min: int = 0) -> Tally:
    """One run; raises what it finds. Where it has met fewer faults than `faults_min`, kills are added to `actions`."""
    simulation = Simulation(seed, scenario)
    try:
        for action in actions:
            simulation.act(action)
        while simulation.tally.faults.total() < faults_min:
            more = [Action("run", "worker-0", 9), Action("killed_anywhere", "worker-0", len(actions) % 50)]
            actions += more
            for action in more:
                simulation.act(action)
        simulation.finish()
        return simulation.tally
    finally:
        simulation.close()


def try_seed(seed: int, *, shorten: bool = True) -> Tally | Failure:
    """Run a seed; its failure comes with a schedule that was shortened, unless that is not wanted."""
    scenario, actions = scheduled(seed)
    shown = _Shown()
    with shown:
        return play(seed, scenario, actions, FAULTS_MIN)
    if shorten:
        actions = shortest(actions, lambda fewer: _fails(seed, scenario, fewer, shown.kind))
    return Failure(seed, f"{shown.kind}: {shown.error}", actions)


class _Shown:
    """Keeps what a run raises, whatever it is: it is to be told with its seed."""

    error: BaseException | None = None

    @property
    def kind(self) -> str:
        return type(self.error).__name__

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self.error = error
        return isinstance(error, Exception)


def _fails(seed: int, scenario: Scenario, actions: list[Action], kind: str) -> bool:
    shown = _Shown()
    with shown:
        play(seed, scenario, actions)
    return shown.error is not None and shown.kind == kind


def shortest(actions: list[Action], fails: Callable[[list[Action]], bool]) -> list[Action]:
    """Leave out what it does not take, in halves, quarters and so on, down to single actions."""
    tries, size = 0, len(actions) // 2
    while size:
        at = 0
        while at < len(actions) and tries < TRIES_MAX:
            fewer = actions[:at] + actions[at + size :]
            tries += 1
            if fails(fewer):
                actions = fewer
            else:
                at += size
        size //= 2
    return actions


@contextmanager
def quietly() -> Iterator[None]:
    """Without the product's logs: they take more time than what they tell of."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
