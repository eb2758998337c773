"""Fresh hostile input for as long as is asked: messages, schemas, the registry's files, requests to a served API.

`python -m tests.fuzz --seconds 600`, or `make fuzz SECONDS=600`. The same properties as in the tests, with new seeds;
whatever is found comes with the command that repeats it.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from stockweave.broker.kafka import EmbeddedKafka
from stockweave.ports import free_port
from tests.fuzz.one import child
from tests.fuzz.requests import hostile
from tests.fuzz.served import Served

CHILDREN = {"bodies": 60_000, "schemas": 60_000, "fold": 30_000, "registry": 500}  # cases of a child: some ten seconds
REQUESTS, EXAMPLES = 2_000, 15


@dataclass
class Tally:
    """Of one kind. `peak_bytes`: of memory, of the process that had to bear it."""

    cases: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, cases: int, seconds: float, peak_bytes: int) -> None:
        self.cases += cases
        self.seconds += seconds
        self.peak_bytes = max(self.peak_bytes, peak_bytes)


def run(seconds: float, drawn: random.Random, folder: Path) -> tuple[dict[str, Tally], Counter[int | None]]:
    """Every kind in turn, until the time is over; each once at least."""
    tallies = {kind: Tally() for kind in (*CHILDREN, "requests", "schemathesis")}
    answered: Counter[int | None] = Counter()
    with (
        EmbeddedKafka(folder / "kafka", free_port(), heap_mb=512) as kafka,
        Served(kafka.bootstrap_servers, folder) as served,
    ):
        end_s = time.monotonic() + seconds
        for kind in itertools.cycle(tallies):
            tally = tallies[kind]
            if time.monotonic() < end_s or not (tally.cases or tally.problems):
                one_turn(kind, drawn.randrange(2**32), tally, served, answered, folder)
            elif all(each.cases or each.problems for each in tallies.values()):
                break
    return tallies, answered


def one_turn(kind: str, seed: int, tally: Tally, served: Served, answered: Counter[int | None], folder: Path) -> None:
    """Some seconds of one kind."""
    try:
        if kind in CHILDREN:
            figures = child(kind, seed, CHILDREN[kind], 600.0)
            tally.add(figures.cases, figures.seconds, figures.peak_bytes)
            return
        began_s = time.monotonic()
        if kind == "requests":
            cases = hostile(served.port, lambda code: answered.update([code]))(random.Random(seed), REQUESTS)
        else:
            found = served.conform(seed, EXAMPLES, folder)
            cases = found.cases
            if found.failures:
                tally.problems.append(f"schemathesis, seed {seed}:\n{found.failures[:6_000]}")
        tally.add(cases, time.monotonic() - began_s, served.memory_bytes())
        if served.defects():
            tally.problems.append(f"{kind}, seed {seed}: {served.defects()[-1]}")
    except AssertionError as error:
        tally.problems.append(f"{kind}, seed {seed}: {str(error)[:4_000]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stockweave-fuzz-") as folder:
        tallies, answered = run(arguments.seconds, random.Random(arguments.seed), Path(folder))
    print(f"seed {arguments.seed}")
    print(f"{'kind':<14}{'cases':>12}{'cases/s':>10}{'problems':>10}{'peak memory':>14}")
    for kind, tally in tallies.items():
        rate = tally.cases / tally.seconds if tally.seconds else 0.0
        peak = f"{tally.peak_bytes >> 20} MiB"
        print(f"{kind:<14}{tally.cases:>12,}{rate:>10,.0f}{len(tally.problems):>10}{peak:>14}")
    told = ", ".join(f"{code or 'no answer'} {n:,}" for code, n in sorted(answered.items(), key=lambda a: a[0] or 0))
    print(f"requests were answered: {told or 'none was sent'}; 500: {answered[500]}")
    problems = [problem for tally in tallies.values() for problem in tally.problems]
    print("\n".join(problems) if problems else "no crash, no hang, no 500, no law broken")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
