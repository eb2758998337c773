"""The command: `python -m tests.system.chaos`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from pathlib import Path

from stockweave.clients import CLIENT_LOGGER
from tests.system.chaos.plan import KINDS, Options
from tests.system.chaos.run import run


def main() -> int:
    """1 when anything is lost, doubled, oversold, or wrong otherwise."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.chaos",
        description="Does harm to a running system while updates and reads go on, and compares every number.",
    )
    parser.add_argument("--faults", type=int, default=24, help="how many; 24 unless given")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {', '.join(KINDS)}; all unless given")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="draws kinds, victims and times")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no fault is begun after them")
    parser.add_argument("--rate", type=int, default=1_000, help="updates a second; 1000 unless given")
    parser.add_argument("--data-dir", type=Path, help="kept, with its logs; unset: a temporary one")
    given = parser.parse_args()
    kinds = given.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"there are no kinds {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    CLIENT_LOGGER.setLevel(logging.CRITICAL)  # the watchers' own clients complain of every broker that is killed
    print(f"seed {given.seed}", flush=True)
    options = Options(given.faults, given.seed, kinds, given.minutes * 60, given.rate)
    with tempfile.TemporaryDirectory(prefix="stockweave-chaos-") as folder:
        report, _ = asyncio.run(run(given.data_dir or Path(folder), options))
    print(report)
    return 0 if report.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
