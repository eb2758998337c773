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
    """To run `some` in; each begins anew, for what else the present one has in memory may not bear to be copied."""
    spawned = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, spawned, initializer=die_with, initargs=(os.getpid(),))


def some(first: int, end: int) -> Report:
    """A chunk of seeds, from `first` on."""
    gc.set_threshold(GC_OBJECTS, *gc.get_threshold()[1:])
    report, began_s = Report(), time.process_time()
    with quietly():
        for seed in range(first, min(first + CHUNK, end)):
            report.add(try_seed(seed))
    gc.collect()  # each run is a heap of cycles
    report.cpu_s = time.process_time() - began_s
    return report
