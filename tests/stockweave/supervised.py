"""A supervisor in a process of its own, for the tests to signal and kill: `python -m tests.stockweave.supervised`.

Its argument is JSON: `{"dir": …, "stages": [[{"name": …, "code": …, "stop_s": …}]], "gate": false}`. Each child is a
Python program given by its source; the starts named in `refused` are refused with a Retriable.
"""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console

from stockweave.errors import Retriable, StockweaveError
from stockweave.supervisor import ChildSpec, Stage, Supervisor


def _spec(child: dict[str, Any], folder: Path) -> ChildSpec:
    ready = folder / f"{child['name']}.ready"
    starts = count(1)

    def command() -> list[str]:
        if next(starts) in child.get("refused", ()):
            raise Retriable("its port is taken; stop what listens there")
        return [sys.executable, "-c", child["code"]]

    return ChildSpec(
        name=child["name"],
        command=command,
        log=folder / f"{child['name']}.log",
        is_ready=ready.exists if child.get("says_ready") else None,
        stop_s=child.get("stop_s", 5.0),
        once=child.get("once", False),
    )


def main() -> None:
    plan = json.loads(sys.argv[1])
    folder = Path(plan["dir"])
    stages = [Stage([_spec(child, folder) for child in stage]) for stage in plan["stages"]]
    if plan.get("gate") is False:
        stages.insert(0, Stage(gate=lambda: False, gate_s=0.5, waiting_for="the gate"))
    try:
        Supervisor(stages, Console(), on_up=lambda: print("all up", flush=True), backoff_first_s=0.05).run()
    except StockweaveError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.exit(3)


if __name__ == "__main__":
    main()
