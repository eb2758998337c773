"""Starts child processes that can't outlive their parent; used by the embedded broker and the supervisor.

Each child is the head of its own process group, so a terminal's Ctrl-C reaches the parent alone, which then stops its
children in order. On Linux the kernel kills a child whose parent died; it watches the *thread* that called `spawn`, so
that has to be one that lives as long as the process: the main thread.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO

_DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")


def spawn(command: Sequence[str], output: Path | None, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start `command`; what it prints is appended to the file `output`, or goes where ours goes when that is None."""
    with _sink(output) as sink:
        return subprocess.Popen(
            [*_tied_to_us(), *command],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=None if sink is None else subprocess.STDOUT,
            env=None if env is None else dict(env),
            process_group=0,
        )


def _sink(output: Path | None) -> AbstractContextManager[IO[bytes] | None]:
    if output is None:
        return nullcontext()
    output.parent.mkdir(parents=True, exist_ok=True)
    return output.open("ab")


def describe_exit(returncode: int) -> str:
    """How a child ended, for people: `exit code 78` or `SIGKILL`."""
    return f"exit code {returncode}" if returncode >= 0 else signal.Signals(-returncode).name


def last_lines(path: Path, count: int, start_bytes: int = 0) -> list[str]:
    """Up to `count` non-empty lines from the end of a log, none from before `start_bytes`."""
    if not path.exists():
        return []
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        begin = max(start_bytes if start_bytes <= size else 0, size - 64 * 1024)
        stream.seek(begin)
        text = stream.read().decode("utf-8", "replace")
    return [line for line in text.splitlines() if line.strip()][-count:]


def _tied_to_us() -> list[str]:
    if not sys.platform.startswith("linux"):
        return []
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children are started from the main thread: the kernel ties their life to the thread's")
    return [sys.executable, "-I", "-S", str(_DIE_WITH_PARENT), str(os.getpid())]
