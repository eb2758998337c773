"""The checker: a Go program around Porcupine, built from `checker/` with the modules that its go.sum names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
from msgspec import Struct

from tests import go_program

SOURCE = Path(__file__).with_name("checker")
WINDOW_S = 60.0
OK, ILLEGAL = "Ok", "Illegal"


class Verdict(Struct):
    """On one window.

    `calls`: of clients; `operations`: what they are to the checker; `doubtful`: calls of which some attempt has no
    known outcome; `result`: Ok, Illegal, or Unknown where `seconds` were too few; `searched`: whether the order of the
    log was of no use; `why`: if not Ok.
    """

    sku: str
    calls: int
    operations: int
    doubtful: int
    result: str
    searched: bool
    seconds: float
    why: list[str]


_decode = msgspec.json.Decoder(Verdict).decode


def version() -> str:
    """Of Porcupine, as it is pinned."""
    [line] = [line for line in (SOURCE / "go.mod").read_text().splitlines() if "porcupine " in line]
    return line.rpartition(" ")[2]


def build(folder: Path) -> Path:
    """The program, built into a folder; raises CannotBuild."""
    return go_program.build(SOURCE, folder / "checker")


def judge(program: Path, history: Path, *, window_s: float = WINDOW_S, drawings: Path | None = None) -> list[Verdict]:
    """What the program says of each SKU of a history. `drawings`: a folder, for those that are refused."""
    command = [str(program), "-timeout", f"{window_s:.0f}s"]
    if drawings is not None:
        drawings.mkdir(parents=True, exist_ok=True)
        command += ["-drawings", str(drawings)]
    done = subprocess.run([*command, str(history)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [_decode(line) for line in done.stdout.splitlines()]
