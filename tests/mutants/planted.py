"""The planted defects: each a patch that begins with the law which it breaks."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATCHES = Path(__file__).parent / "patches"
COPIED = ("schemas", "inventory", "state", "connectors", "streams", "api", "stockweave", "tests", "pyproject.toml")
CHECKED_BY = "Checked by: "


@dataclass(frozen=True)
class Mutant:
    """`law`: what it breaks; `tests`: those that see it where the simulation cannot, as arguments of pytest."""

    name: str
    law: str
    patch: Path
    tests: tuple[str, ...]


def mutants() -> list[Mutant]:
    """All, by name."""
    found = []
    for patch in sorted(PATCHES.glob("*.patch")):
        law, *more = patch.read_text().partition("\ndiff ")[0].splitlines()
        tests = [line.removeprefix(CHECKED_BY) for line in more if line.startswith(CHECKED_BY)]
        found.append(Mutant(patch.stem, law, patch, tuple(" ".join(tests).split())))
    return found


def plant(mutant: Mutant, folder: Path) -> None:
    """A copy of the project in an empty folder, with the defect.

    Raises:
        subprocess.CalledProcessError: the patch does not fit the code.
    """
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    apply(mutant, folder)


def apply(mutant: Mutant, folder: Path, *options: str) -> None:
    """Apply a patch to the project in a folder; raises as `plant`."""
    command = ["git", "apply", *options, str(mutant.patch)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
