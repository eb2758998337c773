"""Keeps child processes running: starts them in stages, restarts what dies, stops all in reverse order.

Invariant: when `run` returns or raises, no child is left; if this process is killed, the kernel ends them (see
`children`). One thread, one loop; every look at the world in it is bounded. Called by `stockweave up`.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from stockweave.children import describe_exit, last_lines, spawn
from stockweave.errors import Fatal, Retriable, StockweaveError

TICK_S = 0.1
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 10.0
SETTLED_S = 30.0  # up for this long, a child's former deaths are forgotten
FATAL_STARTS_MAX = 5
FIRST_START_S = 10.0  # a child that ends with EX_CONFIG so soon, and never lived longer, will not do better next time
LOG_BYTES_MAX = 10 << 20
_SHOWN_LINES = 5
_AS_ASKED = (0, -signal.SIGTERM, 128 + signal.SIGTERM)  # the last is how a JVM puts it
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class ChildSpec:
    """A process to keep running.

    Attributes:
        name: as shown, and of its log file.
        command: called before every start; what it raises at the first start ends all.
        log: what is shown of when it dies.
        output: where its stdout and stderr go; None for `log`.
        env: its environment; None for ours.
        is_ready: asked until it says yes, in half a second at most; None when to be started is all there is.
        ready_note: shown once it is ready, an address for instance.
        stop_s: how long it has between SIGTERM and SIGKILL.
        explain: names the reason of an exit from its code; a Fatal before it was ever ready ends all. By default the
            reason is the log's last line.
        on_exit: told the pid of every one that ended.
        once: it runs to its end and is not started again; what it prints is shown as it comes.
    """

    name: str
    command: Callable[[], Sequence[str]]
    log: Path
    output: Path | None = None
    env: Mapping[str, str] | None = None
    is_ready: Callable[[], bool] | None = None
    ready_note: str = ""
    stop_s: float = 20.0
    explain: Callable[[int], StockweaveError] | None = None
    on_exit: Callable[[int], None] | None = None
    once: bool = False


@dataclass(frozen=True)
class Stage:
    """Children that start together; the next stage starts when `gate` said yes and `then` is through.

    Attributes:
        children: may be empty, for a gate alone.
        gate: asked repeatedly, each time bounded by half a second.
        gate_s: how long it may say no before `run` raises.
        waiting_for: what the gate waits for, for people.
        then: done once after the gate; Retriable has it done again within `gate_s`.
    """

    children: Sequence[ChildSpec] = ()
    gate: Callable[[], bool] | None = None
    gate_s: float = 120.0
    waiting_for: str = ""
    then: Callable[[], None] | None = None


@dataclass
class _Child:
    spec: ChildSpec
    backoff_s: float
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    log_start_bytes: int = 0
    ready: bool = False
    fatal_starts: int = 0
    launched: bool = False
    answered: bool = False
    lived_longest_s: float = 0.0


class Supervisor:
    """Runs stages until a signal asks it to stop.

    Args:
        stages: in starting order; stopped in reverse.
        console: where states are shown, a line each.
        on_up: called once when every child with an `is_ready` said yes for the first time.
        backoff_first_s: before the first restart; it doubles with every further death, up to 10 s.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        console: Console,
        on_up: Callable[[], None] | None = None,
        backoff_first_s: float = BACKOFF_FIRST_S,
    ) -> None:
        self._stages = list(stages)
        self._console = console
        self._on_up = on_up
        self._backoff_first_s = backoff_first_s
        self._started: list[list[_Child]] = []
        self._stop_signals = 0

    def run(self) -> None:
        """Start all and keep it running; returns once SIGINT, SIGTERM or SIGHUP has stopped it.

        Raises:
            Fatal: a child cannot start, and says that trying again is no use.
            Retriable: a gate stayed shut for too long.
        """
        with self._signals():
            try:
                for stage in self._stages:
                    self._start_stage(stage)
                while not self._stop_signals:
                    self._tick()
                    if self._on_up and all(child.ready for child in self._children()):
                        self._on_up()
                        self._on_up = None
                    time.sleep(TICK_S)
            finally:
                self._stop_all()

    def _start_stage(self, stage: Stage) -> None:
        if self._stop_signals:
            return
        self._started.append([])
        for spec in stage.children:
            child = _Child(spec, self._backoff_first_s)
            self._started[-1].append(child)
            _keep_small(spec.log)
            self._start(child)
        gate, deadline, told = stage.gate, time.monotonic() + stage.gate_s, False
        while not self._stop_signals:
            self._tick()
            late = time.monotonic() > deadline
            if gate is None or gate():
                try:
                    if stage.then is not None:
                        stage.then()
                    return
                except Retriable as error:
                    if late:
                        raise
                    self._say("", f"{error}; trying again", "yellow")
            elif late:
                raise Retriable(f"{stage.waiting_for} did not answer within {stage.gate_s:g} s; is it running?")
            elif not told and not stage.children:
                told = True
                self._say("", f"waiting for {stage.waiting_for}")
            time.sleep(TICK_S)

    def _tick(self) -> None:
        now = time.monotonic()
        for child in self._children():
            process = child.process
            if process is None:
                if now >= child.restart_at:
                    self._start(child)
            elif (returncode := process.poll()) is not None:
                self._bury(child, process.pid, returncode)
            elif not child.ready and (child.spec.is_ready is None or child.spec.is_ready()):
                child.ready = True
                if child.spec.is_ready is not None:
                    child.answered = True
                    note = f" {child.spec.ready_note}" if child.spec.ready_note else ""
                    self._say(child.spec.name, f"ready{note} ({now - child.started_at:.1f} s)", "green")

    def _start(self, child: _Child) -> None:
        child.log_start_bytes = child.spec.log.stat().st_size if child.spec.log.exists() else 0
        try:
            command = child.spec.command()
        except StockweaveError as error:
            if not child.launched:
                raise
            if isinstance(error, Retriable):
                self._restart_later(child, f"cannot start: {error}")
            else:
                self._failed_start(child, error)
            return
        child.process = spawn(command, None if child.spec.once else child.spec.output or child.spec.log, child.spec.env)
        child.started_at = time.monotonic()
        child.launched = True
        self._say(child.spec.name, f"starting (pid {child.process.pid})")

    def _bury(self, child: _Child, pid: int, returncode: int) -> None:
        lived_s = time.monotonic() - child.started_at
        child.process, child.ready = None, False
        child.lived_longest_s = max(child.lived_longest_s, lived_s)
        if child.spec.once:
            child.ready, child.restart_at = True, math.inf
            self._say(child.spec.name, "done" if returncode == 0 else f"failed: {describe_exit(returncode)}")
        if lived_s >= SETTLED_S:
            child.backoff_s = self._backoff_first_s
        if child.spec.on_exit is not None:
            child.spec.on_exit(pid)
        if child.spec.once:
            return
        reason = self._reason(child, returncode)
        hopeless = child.spec.explain is not None and isinstance(reason, Fatal) and returncode > 0
        if hopeless and not child.answered:
            raise reason
        if returncode == os.EX_CONFIG and child.lived_longest_s < FIRST_START_S:
            self._failed_start(child, reason)
        else:
            self._restart_later(child, f"died after {lived_s:.1f} s: {describe_exit(returncode)}")

    def _reason(self, child: _Child, returncode: int) -> StockweaveError:
        if child.spec.explain is not None:
            return child.spec.explain(returncode)
        lines = last_lines(child.spec.log, 1, child.log_start_bytes)
        return Fatal(f"{child.spec.name} stopped with {describe_exit(returncode)}: {lines[0] if lines else 'no word'}")

    def _failed_start(self, child: _Child, reason: StockweaveError) -> None:
        child.fatal_starts += 1
        if child.fatal_starts >= FATAL_STARTS_MAX:
            raise Fatal(f"{reason} (tried {child.fatal_starts} times; whole log: {child.spec.log})") from reason
        self._restart_later(child, f"cannot start: {reason}")

    def _restart_later(self, child: _Child, what: str) -> None:
        self._say(child.spec.name, f"{what}; restarting in {child.backoff_s:g} s", "red")
        for line in last_lines(child.spec.log, _SHOWN_LINES, child.log_start_bytes):
            self._say(child.spec.name, f"| {line}", "dim")
        child.restart_at = time.monotonic() + child.backoff_s
        child.backoff_s = min(child.backoff_s * 2, BACKOFF_MAX_S)

    def _stop_all(self) -> None:
        """Reverse order, each stage at once; a second signal cuts the waiting short."""
        for children in reversed(self._started):
            living = [child for child in children if child.process is not None]
            for child in living:
                self._say(child.spec.name, "stopping")
                _process(child).terminate()
            asked_at = time.monotonic()
            for child in living:
                self._await_end(child, asked_at + child.spec.stop_s)

    def _await_end(self, child: _Child, deadline: float) -> None:
        process = _process(child)
        while process.poll() is None and time.monotonic() < deadline and self._stop_signals < 2:
            time.sleep(TICK_S / 4)
        if process.poll() is None:
            why = "at a second signal" if self._stop_signals > 1 else f"after {child.spec.stop_s:.0f} s"
            self._say(child.spec.name, f"did not stop in time and is killed {why}", "red")
            process.kill()
        returncode = process.wait()
        if child.spec.on_exit is not None:
            child.spec.on_exit(process.pid)
        self._say(child.spec.name, "stopped" if returncode in _AS_ASKED else f"stopped ({describe_exit(returncode)})")
        child.process = None

    def _children(self) -> Iterator[_Child]:
        for children in self._started:
            yield from children

    def _say(self, name: str, what: str, style: str = "") -> None:
        label = f"{name:<12}" if name else ""
        text = f"{escape(label)}{escape(what)}"
        self._console.print(f"[{style}]{text}[/{style}]" if style else text, highlight=False, soft_wrap=True)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def count(_signal: int, _frame: FrameType | None) -> None:
            self._stop_signals += 1

        former = {number: signal.signal(number, count) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def _process(child: _Child) -> subprocess.Popen[bytes]:
    assert child.process is not None  # noqa: S101 - only asked of the living
    return child.process


def _keep_small(log: Path) -> None:
    """Once per run of the supervisor, so that appended logs don't grow for ever."""
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_name(log.name + ".1"))
