"""Programs in Go that tests need, built with the modules that their go.sum names."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

BUILD_S = 900
_ENVIRONMENT = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}


class CannotBuild(Exception):
    """There is no Go here, or the modules cannot be fetched."""


def build(source: Path, program: Path, *flags: str) -> Path:
    """The program, at the path that is given.

    Args:
        source: its folder.
        program: where to.
        flags: of `go build`.

    Raises:
        CannotBuild: with the reason and the remedy.
    """
    go = shutil.which("go")
    if go is None:
        raise CannotBuild(f"there is no `go` on the PATH, and {source.name} is a Go program: install Go 1.21 or newer")
    fetched = _go([go, "list", "-deps", "."], source)  # without what only their own tests need
    if fetched.returncode != 0:
        said = (fetched.stderr.strip().splitlines() or ["no word"])[-1]
        raise CannotBuild(f"the modules of {source.name} cannot be fetched, by GOPROXY ({said}); or Go is too old")
    built = _go([go, "build", *flags, "-o", str(program.absolute()), "."], source)
    assert built.returncode == 0, built.stderr
    return program


def _go(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | _ENVIRONMENT
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
