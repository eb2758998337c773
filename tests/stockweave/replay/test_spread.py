"""Tasks over processes: every partition once, errors as they were raised, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from stockweave.errors import Fatal, Retriable
from stockweave.replay.spread import Ticks, over_partitions

ROOT = Path(__file__).parents[3]


@dataclass
class Shown:
    done: int = 0
    totals: list[int] = field(default_factory=list)

    def advance(self, count: int) -> None:
        self.done += count

    def expect(self, total: int) -> None:
        self.totals.append(total)


def square(partition: int, ticks: Ticks) -> tuple[int, int]:
    ticks.expect(10 * partition)
    ticks.advance(10 * partition)
    return partition * partition, os.getpid()


def away(partition: int, ticks: Ticks) -> None:
    if partition == 1:
        raise Retriable("Kafka is away")
    time.sleep(60)


def broken(partition: int, ticks: Ticks) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleeping(partition: int, ticks: Ticks) -> None:
    os.write(1, f"child {os.getpid()}\n".encode())  # in one piece: they share it
    time.sleep(60)


@pytest.mark.parametrize("jobs", [1, 2, 9])
def test_every_partition_is_done_once_and_told_of(jobs: int) -> None:
    shown = Shown()
    done = over_partitions(square, [4, 1, 3], jobs, shown, {1: 7, 3: 7, 4: 7})
    assert {partition: result for partition, (result, _) in done.items()} == {1: 1, 3: 9, 4: 16}
    assert list(done) == [4, 1, 3]
    assert (shown.done, shown.totals[0], shown.totals[-1]) == (80, 21, 80)
    processes = {pid for _, pid in done.values()}
    assert len(processes) <= jobs
    assert (os.getpid() in processes) == (jobs == 1)


def test_what_a_task_raises_is_raised_and_ends_the_others() -> None:
    began_s = time.monotonic()
    with pytest.raises(Retriable, match="Kafka is away"):
        over_partitions(away, [0, 1], 2, Shown(), {})
    assert time.monotonic() - began_s < 30
    assert not [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def test_a_process_that_dies_is_named_by_its_signal() -> None:
    with pytest.raises(Fatal, match=r"partition [01] ended by SIGKILL; when memory is short, try --jobs 1"):
        over_partitions(broken, [0, 1], 2, Shown(), {})


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_children_die_with_their_parent(how: signal.Signals) -> None:
    code = (
        "from tests.stockweave.replay.test_spread import *\n"
        "if __name__ == '__main__': over_partitions(sleeping, [0, 1], 2, Shown(), {})"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with parent:
        assert parent.stdout is not None
        children = [int(parent.stdout.readline().split()[1]) for _ in range(2)]
        parent.send_signal(how)
        parent.wait(10)
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in children):
        assert time.monotonic() < deadline, f"{children} outlived their parent"
        time.sleep(0.05)
