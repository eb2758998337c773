"""Reads a Dockerfile and runs the steps of its build stages in a folder, without Docker.

Absolute paths of the image are put below the folder, and `python` and `pip` are those of a fresh environment. What is
proven is that the steps fit together, and that the locks hold all that they need; not the base image.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

_ABSOLUTE = re.compile(r"(?<![\w./])(?=/(?:src|opt|tmp|var)\b)")


@dataclass
class Stage:
    """One `FROM` and what follows it; `steps`: instruction and the rest of its line."""

    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)


def stages(text: str) -> list[Stage]:
    """The stages in their order; the last may have no name."""
    found: list[Stage] = []
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            found.append(Stage(rest.partition(" AS ")[2]))
        else:
            found[-1].steps.append((instruction, " ".join(rest.split())))
    return found


class Builder:
    """Runs stages one after the other; each has its own root below `folder`, with `context` to copy from."""

    def __init__(self, context: Path, folder: Path) -> None:
        self.context = context
        self.folder = folder

    def root(self, stage: str) -> Path:
        """The stage's `/`."""
        return self.folder / stage

    def run(self, stage: Stage) -> None:
        """Every COPY and RUN of the stage; raises CalledProcessError with the output of one that fails."""
        root = self.root(stage.name)
        python = root / "usr"
        subprocess.run([sys.executable, "-m", "venv", python], check=True)
        workdir = root
        for instruction, rest in stage.steps:
            if instruction == "WORKDIR":
                workdir = root / rest.lstrip("/")
                workdir.mkdir(parents=True)
            elif instruction == "COPY":
                self._copy(rest.split(), root, workdir)
            elif instruction == "RUN":
                self._shell(_ABSOLUTE.sub(str(root), rest), workdir, python / "bin")

    def _copy(self, words: list[str], root: Path, workdir: Path) -> None:
        origin = self.context
        if words[0].startswith("--from="):
            origin = self.root(words.pop(0).removeprefix("--from="))
        *sources, target = words
        to = workdir / target if not target.startswith("/") else root / target.lstrip("/")
        for source in sources:
            path = origin / source.lstrip("/")
            if path.is_dir():
                shutil.copytree(path, to, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
            else:
                file = to / path.name if target.endswith("/") else to
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, file)

    def _shell(self, command: str, workdir: Path, first_on_path: Path) -> None:
        passed = {k: v for k, v in os.environ.items() if not k.startswith(("VIRTUAL_ENV", "PYTHON"))}
        env = passed | {"PATH": f"{first_on_path}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-ec", command], cwd=workdir, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{command}\n{done.stdout}{done.stderr}")
