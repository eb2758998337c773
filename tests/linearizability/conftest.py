from __future__ import annotations

from pathlib import Path

import pytest

from tests.go_program import CannotBuild
from tests.linearizability import porcupine


@pytest.fixture(scope="session")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program; without Go, or where its module cannot be fetched, what needs it is skipped."""
    try:
        return porcupine.build(tmp_path_factory.mktemp("checker"))
    except CannotBuild as why:
        pytest.skip(str(why))
