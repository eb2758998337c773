"""Many seeds over several processes, a chunk at a time."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

from stockweave.die_with_parent import die_with
from tests.simulation.report import Report
from tests.simulation.run import quietly, try_seed

CHUNK = 50
GC_OBJECTS = 20_000  # a young collection after so many new ones: most of a run lives until its end


def processes(jobs: int) -> ProcessPoolExecutor:
    """To run `some` in, each chunk in a process of its own.

    A run is a heap of cycles, and to collect it takes a sixth of the time; a process that ends gives all back at once.
    Each is copied from one that has nothing but the modules in memory: what else the present one has may not bear it.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.simulation.run"])
    return ProcessPoolExecutor(jobs, server, initializer=_die_with_server, max_tasks_per_child=1)


def _die_with_server() -> None:
    """The server itself ends with the process that began it."""
    die_with(os.getppid())


def some(first: int, end: int) -> Report:
    """A chunk of seeds, from `first` on."""
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, *gc.get_threshold()[1:])
    report, began_s = Report(), time.process_time()
    with quietly():
        for seed in range(first, min(first + CHUNK, end)):
            report.add(try_seed(seed))
    report.cpu_s = time.process_time() - began_s
    return report
