"""The whole system as a user runs it: `stockweave up` in a process of its own, and its children by name."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from stockweave.ports import free_port

STARTING = re.compile(r"^(\S+)\s+starting \(pid (\d+)\)")
READY = re.compile(r"^(\S+)\s+ready")
ENDED = re.compile(r"^(\S+)\s+(died after|cannot start)")


class Supervised:
    """A program of ours that keeps child processes running, and says of each when it starts and is ready.

    A context manager that stops it.

    Args:
        command: to run.
        first: the child that is waited for at the start.
        environment: on top of ours, from which our settings are left out.
    """

    def __init__(self, command: Sequence[str], first: str, environment: dict[str, str]) -> None:
        self._command = command
        self._first = first
        self._environment = environment
        self.lines: list[str] = []
        self.pids: dict[str, int] = {}
        self._ready: dict[str, int] = {}
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, timeout_s: float = 120.0) -> None:
        """Start, and wait until the first child is ready: of `stockweave up` the API, once it has caught up."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STOCKWEAVE_")} | self._environment
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.await_ready(self._first, timeout_s)
        except AssertionError:
            self.stop()
            raise

    def stop(self, timeout_s: float = 60.0) -> int:
        """Ask it to stop; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def kill(self, name: str) -> None:
        """SIGKILL one child; the supervisor starts it again."""
        pid = self.pids[name]
        self.signal(name, signal.SIGKILL)
        self.await_restart(name, pid)

    def signal(self, name: str, number: signal.Signals) -> bool:
        """Send a signal to one child; False when it is dead already."""
        with self._changed:
            pid = self.pids[name]
            if number is signal.SIGKILL:
                self._ready.pop(name, None)
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def await_restart(self, name: str, pid: int, timeout_s: float = 30.0) -> None:
        """Wait until a child is another process than `pid`."""
        self._await(lambda: self.pids[name] != pid, timeout_s, f"{name} was not started again")

    def await_ready(self, name: str, timeout_s: float = 60.0) -> None:
        """Wait until the present process of a child said that it is ready."""
        self._await(lambda: self._ready.get(name) == self.pids.get(name, -1), timeout_s, f"{name} is not ready")

    def await_line(self, text: str, timeout_s: float = 60.0) -> None:
        """Wait until a line with `text` was printed."""
        self._await(lambda: any(text in line for line in self.lines), timeout_s, f"{text!r} was not printed")

    def _await(self, done: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        with self._changed:
            deadline = time.monotonic() + timeout_s
            while not done():
                left = deadline - time.monotonic()
                running = self.process.poll() is None
                assert running and left > 0, "\n".join([otherwise, *self.lines[-40:]])  # noqa: PT018 - one message
                self._changed.wait(min(left, 1.0))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip())
                if match := STARTING.match(line):
                    self.pids[match[1]] = int(match[2])
                elif match := READY.match(line):
                    self._ready[match[1]] = self.pids[match[1]]
                elif match := ENDED.match(line):
                    self._ready.pop(match[1], None)
                self._changed.notify_all()
        self.process.stdout.close()


class Stack(Supervised):
    """`stockweave up` on free ports.

    Args:
        data_dir: kept, so that a second Stack may go on from it.
        workers: worker processes.
        arguments: of `stockweave up`, after those.
        wrapper: a command that runs it.
        environment: settings; with STOCKWEAVE_BOOTSTRAP_SERVERS it starts no broker.
    """

    def __init__(
        self,
        data_dir: Path,
        workers: int = 2,
        arguments: Sequence[str] = (),
        wrapper: Sequence[str] = (),
        **environment: str,
    ) -> None:
        self.data_dir = data_dir
        self.workers = workers
        self.api_port, self.broker_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.api_port}"
        self.bootstrap_servers = environment.get("STOCKWEAVE_BOOTSTRAP_SERVERS", f"127.0.0.1:{self.broker_port}")
        command = [
            *(*wrapper, sys.executable, "-m", "stockweave", "up", "--data-dir", str(self.data_dir)),
            *("--api-port", str(self.api_port), "--broker-port", str(self.broker_port), "--workers", str(self.workers)),
            *arguments,
        ]
        super().__init__(command, "api", environment)
