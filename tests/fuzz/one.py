"""One kind of hostile input from one seed, in a process of its own, so that a crash or a hang ends that one alone.

`python -m tests.fuzz.one bodies 7 20000` repeats a run exactly. Memory and processor time have hard limits, and what
was used is printed as JSON.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import avro, registry

ADDRESS_SPACE_BYTES = 4 << 30  # most of it is reserved by allocators, and never used
GROWTH_BYTES_MAX = 300 << 20  # of memory in use, from the first case to the last
CASE_S_MAX = 0.1  # of processor time, on average, and 30 s more
WARM = 50  # cases before memory is first looked at

Run = Callable[[random.Random, int], int]


class Figures(NamedTuple):
    """What a run took. `peak_bytes`: of the whole process; `growth_bytes`: from the first cases on."""

    cases: int
    seconds: float
    peak_bytes: int
    growth_bytes: int


def kinds(folder: Path) -> dict[str, Run]:
    """Every kind, with a folder for what it has to write."""
    return {
        "bodies": avro.bodies,
        "schemas": avro.schemas,
        "fold": avro.fold(folder),
        "registry": registry.files(folder),
    }


def child(kind: str, seed: int, cases: int, timeout_s: float = 110.0) -> Figures:
    """Run in a child.

    Raises:
        AssertionError: it crashed, hung, or a law does not hold; with what repeats it.
    """
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.one", kind, str(seed), str(cases)]
    again = f"again: python -m tests.fuzz.one {kind} {seed} {cases}"
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, cwd=Path(__file__).parents[2], check=False
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{kind} hangs; {again}") from error
    if ended.returncode:
        raise AssertionError(f"{kind} ended with {ended.returncode}; {again}\n{ended.stderr[-4_000:]}")
    return Figures(**json.loads(ended.stdout))


def main(kind: str, seed: int, cases: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    cpu_s = int(30 + CASE_S_MAX * cases)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    with tempfile.TemporaryDirectory(prefix="stockweave-fuzz-") as folder:
        run = kinds(Path(folder))[kind]
        run(random.Random(seed), WARM)
        warm_bytes, began_s = _peak_bytes(), time.perf_counter()
        done = run(random.Random(seed), cases)
        seconds = time.perf_counter() - began_s
    growth_bytes = _peak_bytes() - warm_bytes
    assert growth_bytes < GROWTH_BYTES_MAX, f"{growth_bytes >> 20} MiB more memory after {done} cases"
    json.dump(Figures(done, seconds, _peak_bytes(), growth_bytes)._asdict(), sys.stdout)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
