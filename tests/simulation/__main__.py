"""`make simulate`: runs seeds until told to stop, or those that are asked for, and says what they met and found.

Exit code 1 if any law was broken.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from functools import partial

from tests.simulation.report import Report
from tests.simulation.run import Failure, play, quietly, scheduled, try_seed
from tests.simulation.spread import CHUNK, processes, some

TELL_EVERY_S = 10.0


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="repeat this one")
    parser.add_argument("--seeds", type=_positive, help="how many; until told to stop unless given")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=_positive, default=1, help="processes")
    parser.add_argument("--verbose", action="store_true", help="with --seed: the product's own log as well")
    parser.add_argument("--until-found", action="store_true", help="end with the first finding, as one line of JSON")
    wanted = parser.parse_args()
    if wanted.seed is not None:
        return _one(wanted.seed, verbose=wanted.verbose)
    if wanted.until_found:
        return _until_found(wanted.start, wanted.seeds or 1_000)
    return _many(wanted.start, wanted.seeds, wanted.jobs)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is given; 1 is the least")
    return number


def _one(seed: int, *, verbose: bool) -> int:
    if verbose:
        play(seed, *scheduled(seed))
    began_s = time.monotonic()
    report = some(seed, seed + 1)
    report.seconds = time.monotonic() - began_s
    print(report)
    return 1 if report.failures else 0


def _until_found(start: int, seeds: int) -> int:
    with quietly():
        for n in range(seeds):
            outcome = try_seed(start + n, shorten=False)
            if isinstance(outcome, Failure):
                print(json.dumps({"seeds": n + 1, "why": outcome.why}))
                return 1
    print(json.dumps({"seeds": seeds, "why": None}))
    return 0


def _many(start: int, seeds: int | None, jobs: int) -> int:
    report = Report()
    began_s = told_s = time.monotonic()
    end = sys.maxsize if seeds is None else start + seeds
    firsts = iter(range(start, end, CHUNK))
    try:
        with processes(jobs) as pool:
            while under_way := list(itertools.islice(firsts, jobs)):
                for of_chunk in pool.map(partial(some, end=end), under_way):
                    report.join(of_chunk)
                report.seconds = time.monotonic() - began_s
                if time.monotonic() - told_s > TELL_EVERY_S:
                    told_s = time.monotonic()
                    print(report.line(), file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    report.seconds = time.monotonic() - began_s
    print(report)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
