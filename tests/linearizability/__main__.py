"""The command: `python -m tests.linearizability`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from pathlib import Path

from stockweave.clients import CLIENT_LOGGER
from tests.go_program import CannotBuild
from tests.linearizability import porcupine
from tests.linearizability.run import Options, judge, run
from tests.system.chaos import plan

KINDS = tuple(kind for kind in plan.KINDS if not kind.startswith("disk-"))
OUT = Path("build/linearizability")


def main() -> int:
    """1 when anything is not as promised, or was not judged."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.linearizability",
        description="Asks for reservations while things go wrong, and judges every answer.",
    )
    parser.add_argument("--faults", type=int, default=20, help="how many; 20 unless given")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {', '.join(KINDS)}; all unless given")
    parser.add_argument("--calls", type=int, default=0, help="at least so many; the faults say how long, unless given")
    parser.add_argument("--window", type=int, default=2_000, help="calls on one SKU; 2000 unless given")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="draws faults and calls")
    parser.add_argument("--rate", type=int, default=200, help="updates a second that come besides; 200 unless given")
    parser.add_argument("--data-dir", type=Path, help="kept, with its logs; unset: a temporary one")
    parser.add_argument("--out", type=Path, default=OUT, help=f"for history and drawings; {OUT} unless given")
    given = parser.parse_args()
    kinds = given.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"there are no kinds {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    CLIENT_LOGGER.setLevel(logging.CRITICAL)  # the watchers' own clients complain of every broker that is killed
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"history-{given.seed}.ndjson"
    print(f"seed {given.seed}; the history goes to {path}", flush=True)
    try:
        checker = porcupine.build(given.out)
    except CannotBuild as why:
        parser.error(str(why))
    options = Options(plan.Options(given.faults, given.seed, kinds, rate=given.rate), given.calls, given.window)
    with tempfile.TemporaryDirectory(prefix="stockweave-linearizability-") as folder:
        report = asyncio.run(run(given.data_dir or Path(folder), path, options))
    judge(report, checker, path, given.out)
    print(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
