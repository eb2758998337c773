"""Runs a task for each partition, spread over processes: one core folds one partition at a time.

Invariant: no process is left behind, however this one ends. Called by verify and rebuild; with one job the task runs in
this very process.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing as mp
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol, TypeVar, cast

from stockweave.children import describe_exit
from stockweave.die_with_parent import die_with
from stockweave.errors import Fatal, Retriable
from stockweave.logs import configure_logs

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_END_S = 5.0


class Ticks(Protocol):
    """How a task tells what it has done of how much."""

    def advance(self, count: int) -> None:
        """So many more are done."""

    def expect(self, total: int) -> None:
        """So many there are in this partition."""


class Task(Protocol[R_co]):
    """What is done for each partition; it and its result travel between processes, so both can be pickled."""

    def __call__(self, partition: int, ticks: Ticks) -> R_co:
        """Do it."""


class Progress(Protocol):
    """Where all that the tasks tell is shown."""

    def advance(self, count: int) -> None:
        """So many more are done."""

    def expect(self, total: int) -> None:
        """So many there are in all."""


class Counted:
    """Ticks that are counted on their way."""

    def __init__(self, ticks: Ticks) -> None:
        self._ticks = ticks
        self.count = 0

    def advance(self, count: int) -> None:
        """So many more are done."""
        self.count += count
        self._ticks.advance(count)

    def expect(self, total: int) -> None:
        """So many there are in this partition."""
        self._ticks.expect(total)

    def expect_more(self, count: int) -> None:
        """So many are still to come."""
        self._ticks.expect(self.count + count)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def over_partitions(
    task: Task[R], partitions: Sequence[int], jobs: int, progress: Progress, expected: dict[int, int]
) -> dict[int, R]:
    """The task's result by partition.

    Args:
        task: done once for each partition.
        partitions: their numbers.
        jobs: how many processes; at most one a partition is started.
        progress: told of all of them.
        expected: how much there is to do in each, as far as is known.

    Raises:
        StockweaveError: the first that a task raised; the others are ended.
    """
    total = _Total(progress, dict(expected))
    if min(jobs, len(partitions)) <= 1:
        return {partition: task(partition, total.of(partition)) for partition in partitions}
    todo = sorted(partitions, key=lambda number: expected.get(number, 0))  # the longest last: it is taken first
    done: dict[int, R] = {}
    workers = [_Worker(task, f"replay-{i}") for i in range(min(jobs, len(partitions)))]
    try:
        busy = {worker.pipe: worker for worker in workers}
        for worker in workers:
            worker.give(todo.pop())
        while busy:
            for pipe in wait(list(busy)):
                worker = busy[cast("Connection", pipe)]  # what `wait` was given
                partition, what, said = worker.hear()
                if what == "done":
                    done[partition] = said
                    if todo:
                        worker.give(todo.pop())
                    else:
                        del busy[worker.pipe]
                else:
                    getattr(total.of(partition), what)(said)
    finally:
        for worker in workers:
            worker.end()
    return {partition: done[partition] for partition in partitions}


class _Total:
    """Sums over partitions what is done and what there is, for one progress."""

    def __init__(self, progress: Progress, expected: dict[int, int]) -> None:
        self._progress = progress
        self._expected = expected
        progress.expect(sum(expected.values()))

    def of(self, partition: int) -> Ticks:
        return _OfPartition(self, partition)

    def advance(self, count: int) -> None:
        self._progress.advance(count)

    def expect(self, partition: int, total: int) -> None:
        self._expected[partition] = total
        self._progress.expect(sum(self._expected.values()))


class _OfPartition:
    """The ticks of a task, heard here."""

    def __init__(self, total: _Total, partition: int) -> None:
        self._total = total
        self._partition = partition

    def advance(self, count: int) -> None:
        self._total.advance(count)

    def expect(self, total: int) -> None:
        self._total.expect(self._partition, total)


class _Worker:
    """A process, as its parent sees it."""

    def __init__(self, task: Task[Any], name: str) -> None:
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        level = logging.getLogger().getEffectiveLevel()
        self._process: SpawnProcess = context.Process(target=_serve, args=(theirs, task, level), name=name, daemon=True)
        # Blocked, and so in the child from its first moment: Ctrl-C reaches the whole group, and we end our children.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()  # so that its end is heard as the end of the pipe
        self._partition = -1

    def give(self, partition: int) -> None:
        self._partition = partition
        try:
            self.pipe.send(partition)
        except ConnectionError as error:
            raise self._dead() from error

    def hear(self) -> tuple[int, str, Any]:
        """Partition, what is told, and the figure or the result.

        Raises:
            StockweaveError: what the task raised; Fatal when its process is dead.
        """
        try:
            what, said = self.pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise self._dead() from error
        if what == "raised":
            raise said
        return self._partition, what, said

    def _dead(self) -> Fatal:
        self._process.join(_END_S)
        how = describe_exit(self._process.exitcode or 0)
        return Fatal(
            f"the process that worked on partition {self._partition} ended by {how}; when memory is short, try --jobs 1"
        )

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


class _Told:
    """The ticks of a task, on its side of the pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def advance(self, count: int) -> None:
        self._pipe.send(("advance", count))

    def expect(self, total: int) -> None:
        self._pipe.send(("expect", total))


def _serve(pipe: Connection, task: Task[Any], log_level: int) -> None:
    """What a worker's process runs until it is killed."""
    parent = mp.parent_process()
    if parent is not None and parent.pid is not None:
        die_with(parent.pid)
    configure_logs(mp.current_process().name, level=log_level)
    gc.disable()  # a replay makes no cycles to speak of, and the search for them takes long among millions of objects
    while True:
        gc.collect()
        try:
            partition = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(("done", task(partition, _Told(pipe))))
        except (Fatal, Retriable) as error:
            pipe.send(("raised", type(error)(str(error))))
