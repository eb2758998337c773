"""A thousand runs: nothing lost, doubled or out of its place, whatever fails, and everything that can fail did."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.simulation.report import Report
from tests.simulation.run import shortest
from tests.simulation.schedule import Action
from tests.simulation.spread import CHUNK, processes, some

SEEDS = 1_000
ROOT = Path(__file__).parents[2]


def test_a_thousand_seeds_break_no_law_and_meet_every_fault_and_crash_point() -> None:
    report = Report()
    with processes(os.cpu_count() or 1) as pool:
        for of_chunk in pool.map(partial(some, end=SEEDS), range(0, SEEDS, CHUNK)):
            report.join(of_chunk)
    assert not report.failures, str(report)
    assert report.missed == []
    assert report.seeds == SEEDS
    assert report.events_min >= 200
    assert report.faults_min >= 5


@pytest.mark.parametrize("seed", [3, 871])
def test_a_seed_is_the_same_run_wherever_it_is_run(seed: int) -> None:
    program = f"""
from tests.simulation.run import quietly, scheduled
from tests.simulation.world import Simulation
with quietly():
    scenario, actions = scheduled({seed})
    simulation = Simulation({seed}, scenario)
    for action in actions:
        simulation.act(action)
    simulation.finish()
    print(simulation.clock.now_ms(), sorted(simulation.tally.reached.items()), sorted(simulation.tally.faults.items()))
    for name, logs in sorted(simulation.cluster.topics.items()):
        for log in logs:
            print(name, log.end, [(r.offset, r.key, r.committed, r.timestamp) for r in log.records])
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert "inventory.stock" in runs[0]


def test_a_schedule_is_shortened_to_what_it_takes() -> None:
    actions = [Action("run", f"worker-{n % 3}", n) for n in range(50)]
    needed = {actions[7], actions[31]}
    assert set(shortest(actions, lambda fewer: needed <= set(fewer))) == needed
