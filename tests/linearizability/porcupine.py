"""The checker: a Go program around Porcupine, built from `checker/` with the modules that its go.sum names."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec
from msgspec import Struct

SOURCE = Path(__file__).with_name("checker")
BUILD_S, DOWNLOAD_S = 300, 60
WINDOW_S = 60.0
OK, ILLEGAL = "Ok", "Illegal"
_ENVIRONMENT = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}


class NoChecker(Exception):
    """It cannot be built here: there is no Go, or its modules cannot be fetched."""


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
    """The program, built into a folder.

    Raises:
        NoChecker: with the reason and the remedy.
    """
    go = shutil.which("go")
    if go is None:
        raise NoChecker("there is no `go` on the PATH, and the checker is a Go program: install Go 1.21 or newer")
    environment = os.environ | _ENVIRONMENT
    fetched = _go([go, "mod", "download"], environment, DOWNLOAD_S)
    if fetched.returncode != 0:
        said = (fetched.stderr.strip().splitlines() or ["no word"])[-1]
        raise NoChecker(f"`go mod download` fails ({said}): Porcupine is fetched once, by GOPROXY; or Go is too old")
    program = folder / "checker"
    built = _go([go, "build", "-o", str(program.absolute()), "."], environment, BUILD_S)
    assert built.returncode == 0, built.stderr
    return program


def _go(command: list[str], environment: dict[str, str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=SOURCE, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def judge(program: Path, history: Path, *, window_s: float = WINDOW_S, drawings: Path | None = None) -> list[Verdict]:
    """What the program says of each SKU of a history. `drawings`: a folder, for those that are refused."""
    command = [str(program), "-timeout", f"{window_s:.0f}s"]
    if drawings is not None:
        drawings.mkdir(parents=True, exist_ok=True)
        command += ["-drawings", str(drawings)]
    done = subprocess.run([*command, str(history)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [_decode(line) for line in done.stdout.splitlines()]
