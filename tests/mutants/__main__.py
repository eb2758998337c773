"""`make mutants`: plants each defect in a copy, and prints what saw it: the simulation after so many seeds, or a test.

Exit code 1 if any was not seen.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutants.planted import Mutant, mutants, plant

SEEDS = 1_000
SEEDS_BEFORE_TESTS = 100  # where a test is named, since the simulation is not expected to see it
WHY_CHARACTERS = 100


@dataclass(frozen=True)
class Seen:
    """What became of one. `check`: what saw it, None if nothing did; `seeds`: how many were run."""

    mutant: Mutant
    check: str | None
    seeds: int
    why: str
    seconds: float


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="of the patches; all unless given")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of the simulation, for each")
    wanted = parser.parse_args()
    known = mutants()
    if strangers := set(wanted.names) - {mutant.name for mutant in known}:
        parser.error(f"no such defect: {', '.join(sorted(strangers))}; there are {', '.join(m.name for m in known)}")
    chosen = [mutant for mutant in known if not wanted.names or mutant.name in wanted.names]
    began_s = time.monotonic()
    seen: list[Seen] = []
    with ThreadPoolExecutor(wanted.jobs) as pool:
        for one in pool.map(partial(look, seeds=wanted.seeds), chosen):
            seen.append(one)
            print(f"{one.mutant.name}: {one.check or 'NOT SEEN'} ({one.seconds:.0f} s)", file=sys.stderr, flush=True)
    Console(width=200).print(table(seen))
    missed = [one.mutant.name for one in seen if one.check is None]
    print(f"{len(seen)} planted, {len(seen) - len(missed)} seen, in {time.monotonic() - began_s:.0f} s")
    return 1 if missed or not seen else 0


def look(mutant: Mutant, seeds: int) -> Seen:
    """Plant it, run the seeds, then the tests that it names."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stockweave-mutant-") as name:
        folder = Path(name)
        plant(mutant, folder)
        run, why = _simulated(folder, min(seeds, SEEDS_BEFORE_TESTS) if mutant.tests else seeds)
        check = None if why is None else "simulation"
        for test in mutant.tests if check is None else ():
            why = _tested(folder, test)
            if why is not None:
                check = test
                break
    return Seen(mutant, check, run, why or "", time.monotonic() - began_s)


def _simulated(folder: Path, seeds: int) -> tuple[int, str | None]:
    """How many seeds were run, and what the last of them showed."""
    command = [sys.executable, "-m", "tests.simulation", "--until-found", "--seeds", str(seeds)]
    done = subprocess.run(command, cwd=folder, env=_environment(folder), capture_output=True, text=True)
    if not done.stdout:  # it does not even start
        return 0, done.stderr.strip().splitlines()[-1]
    told = json.loads(done.stdout)
    return told["seeds"], told["why"]


def _tested(folder: Path, test: str) -> str | None:
    """The first test that fails, None if none does."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=folder, env=_environment(folder), capture_output=True, text=True)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return failed[0].removeprefix("FAILED ") if done.returncode == 1 and failed else None


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"}


def table(seen: list[Seen]) -> Table:
    """One line each."""
    drawn = Table("planted", "the law that it breaks", "seen by", "seeds", "what was said")
    for one in seen:
        why = one.why.replace("\n", " ")[:WHY_CHARACTERS]
        drawn.add_row(one.mutant.name, one.mutant.law, one.check or "NOTHING", f"{one.seeds:,}", why)
    return drawn


if __name__ == "__main__":
    sys.exit(main())
