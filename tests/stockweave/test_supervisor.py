"""What the supervisor promises about its children, with real processes, real signals and real deaths."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SLEEPS = "import time\nwhile True: time.sleep(0.1)"


def _notes_its_end(name: str, folder: Path, takes_s: float = 0.0) -> str:
    """A child that appends its name to a file on SIGTERM, after `takes_s`."""
    return f"""
import signal, sys, time
def end(*_):
    time.sleep({takes_s})
    open({str(folder / "ends")!r}, "a").write({name!r} + " ")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open({str(folder / (name + ".ready"))!r}, "w").close()
while True: time.sleep(0.05)
"""


class Run:
    """A supervisor process and what it printed so far."""

    def __init__(self, folder: Path, stages: list[list[dict[str, Any]]], **more: object) -> None:
        self.out = folder / "supervisor.out"
        plan = json.dumps({"dir": str(folder), "stages": stages, **more})
        with self.out.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.stockweave.supervised", plan],
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )

    def printed(self) -> str:
        return self.out.read_text()

    def until(self, condition: Callable[[], bool], timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.printed()
            time.sleep(0.02)

    def until_printed(self, text: str, timeout_s: float = 20) -> None:
        self.until(lambda: text in self.printed(), timeout_s)

    def pid(self, name: str) -> int:
        """Of the last start."""
        lines = [line for line in self.printed().splitlines() if line.startswith(name) and "starting (pid " in line]
        return int(lines[-1].split("(pid ")[1].rstrip(")"))

    def starts(self, name: str) -> int:
        return sum(line.startswith(name) and "starting (pid" in line for line in self.printed().splitlines())


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(stages: list[list[dict[str, Any]]], **more: object) -> Run:
        runs.append(Run(tmp_path, stages, **more))
        return runs[-1]

    yield start
    for one in runs:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_killed_child_is_started_again_and_its_death_is_told_with_its_last_words(run: Callable[..., Run]) -> None:
    one = run([[{"name": "child", "code": f"print('last words', flush=True)\n{SLEEPS}"}]])
    one.until_printed("all up")
    first = one.pid("child")
    log = one.out.parent / "child.log"
    one.until(lambda: log.exists() and "last words" in log.read_text())
    os.kill(first, signal.SIGKILL)
    one.until(lambda: one.starts("child") == 2)
    assert "SIGKILL; restarting in 0.05 s" in one.printed()
    assert "| last words" in one.printed()
    assert one.pid("child") != first


@pytest.mark.parametrize(("code", "said"), [(0, "done"), (3, "failed: exit code 3")])
def test_a_child_that_runs_once_shows_its_words_and_is_not_started_again(
    run: Callable[..., Run], code: int, said: str
) -> None:
    other = {"name": "other", "code": SLEEPS}
    one = run(
        [[other], [{"name": "task", "code": f"print('its words', flush=True)\nraise SystemExit({code})", "once": True}]]
    )
    one.until(lambda: any(line.startswith("task") and line.endswith(said) for line in one.printed().splitlines()))
    assert "its words" in one.printed()
    os.kill(one.pid("other"), signal.SIGKILL)
    one.until(lambda: one.starts("other") == 2)  # it goes on watching the rest
    assert one.starts("task") == 1
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(10) == 0


def test_the_wait_before_a_restart_doubles(run: Callable[..., Run]) -> None:
    one = run([[{"name": "child", "code": "raise SystemExit(9)"}]])
    one.until(lambda: one.starts("child") >= 4)
    printed = one.printed()
    for wait in ("0.05 s", "0.1 s", "0.2 s"):
        assert f"exit code 9; restarting in {wait}" in printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_all_in_reverse_order(run: Callable[..., Run], tmp_path: Path, number: signal.Signals) -> None:
    names = ("broker", "worker", "api")
    # The first to start is the quickest to end: only waiting for the others gives this order.
    ends = {"broker": 0.0, "worker": 0.3, "api": 0.6}
    one = run([[{"name": n, "code": _notes_its_end(n, tmp_path, ends[n]), "says_ready": True}] for n in names])
    one.until_printed("all up")
    pids = [one.pid(n) for n in names]
    one.process.send_signal(number)
    assert one.process.wait(20) == 0
    assert (tmp_path / "ends").read_text().split() == ["api", "worker", "broker"]
    assert all(_is_gone(pid) for pid in pids)


def test_a_child_that_ignores_the_stop_is_killed_after_its_time_and_that_is_said(run: Callable[..., Run]) -> None:
    deaf = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\n{SLEEPS}"
    one = run([[{"name": "child", "code": deaf, "stop_s": 0.5}]])
    log = one.out.parent / "child.log"
    one.until(lambda: log.exists() and "deaf" in log.read_text())
    pid = one.pid("child")
    one.process.terminate()
    assert one.process.wait(20) == 0
    assert "did not stop in time and is killed" in one.printed()
    assert _is_gone(pid)


def test_a_second_signal_ends_the_waiting(run: Callable[..., Run]) -> None:
    deaf = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\n{SLEEPS}"
    one = run([[{"name": "child", "code": deaf, "stop_s": 60.0}]])
    log = one.out.parent / "child.log"
    one.until(lambda: log.exists() and "deaf" in log.read_text())
    one.process.terminate()
    one.until_printed("stopping")
    one.process.terminate()
    assert one.process.wait(10) == 0
    assert "at a second signal" in one.printed()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's help is Linux's own")
def test_no_child_outlives_a_killed_supervisor(run: Callable[..., Run]) -> None:
    one = run([[{"name": "first", "code": SLEEPS}], [{"name": "second", "code": SLEEPS}]])
    one.until_printed("all up")
    pids = [one.pid("first"), one.pid("second")]
    assert not any(_is_gone(pid) for pid in pids)
    one.process.kill()
    one.until(lambda: all(_is_gone(pid) for pid in pids), timeout_s=5)


def test_a_child_that_never_gets_past_a_fatal_start_ends_all_with_its_last_line(run: Callable[..., Run]) -> None:
    fatal = "import os, sys\nsys.stderr.write('stockweave: the disk is gone\\n')\nsys.exit(os.EX_CONFIG)"
    one = run([[{"name": "steady", "code": SLEEPS}], [{"name": "broken", "code": fatal}]])
    assert one.process.wait(20) == 3
    printed = one.printed()
    assert one.starts("broken") == 5
    assert "Fatal: broken stopped with exit code 78: stockweave: the disk is gone (tried 5 times" in printed
    assert _is_gone(one.pid("steady"))


def test_a_start_that_may_work_later_ends_all_in_one_line_at_first_and_is_tried_again_afterwards(
    run: Callable[..., Run],
) -> None:
    never = run([[{"name": "one", "code": SLEEPS, "refused": [1]}]])
    assert never.process.wait(10) == 3
    assert never.printed() == "Retriable: its port is taken; stop what listens there\n"
    dies = "import os, time, sys\nif not os.path.exists(sys.argv[0] + 'x'): sys.exit(1)"
    later = run([[{"name": "one", "code": dies, "refused": [2, 3, 4, 5, 6, 7]}]])
    later.until(lambda: later.printed().count("starting (pid") == 2)
    assert later.printed().count("cannot start: its port is taken; stop what listens there; restarting") == 6
    assert "Traceback" not in later.printed()


def test_an_exit_for_another_reason_is_retried_for_ever(run: Callable[..., Run]) -> None:
    one = run([[{"name": "child", "code": "raise SystemExit(75)"}]])
    one.until(lambda: one.starts("child") >= 7)
    assert one.process.poll() is None


def test_a_gate_that_stays_shut_ends_with_what_was_waited_for(run: Callable[..., Run]) -> None:
    one = run([[{"name": "child", "code": SLEEPS}]], gate=False)
    assert one.process.wait(20) == 3
    assert "Retriable: the gate did not answer within 0.5 s" in one.printed()
    assert one.starts("child") == 0


def test_a_terminals_ctrl_c_reaches_the_supervisor_alone(run: Callable[..., Run]) -> None:
    one = run([[{"name": "child", "code": SLEEPS}]])
    one.until_printed("all up")
    assert os.getpgid(one.pid("child")) == one.pid("child") != os.getpgid(one.process.pid)
