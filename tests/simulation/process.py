"""Processes that take turns on one thread, and die at any step.

A simulated client or disk asks `Process.reach` before each effect: there a process can be stopped for as long as the
schedule likes, be told to fail, or be killed, before the effect or after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from greenlet import GreenletExit, getcurrent, greenlet

WAITS_MAX = 3
QUESTIONS = ("consume", "committed")  # of which nothing may come


class Killed(GreenletExit):
    """Ends a process at once; nothing that it catches on its way out has any effect."""


class Clock:
    """Time of the whole world, which passes when somebody waits."""

    def __init__(self) -> None:
        self._ms = 1_700_000_000_000.0

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self._ms)

    def monotonic_s(self) -> float:
        """Seconds."""
        return self._ms / 1_000

    def pass_ms(self, ms: float) -> None:
        """Let time pass."""
        self._ms += ms


class Process:
    """One worker or API process, which a supervisor starts again.

    Args:
        name: its own.
        main: runs until it is told to stop; it is called anew for each start.
        on_death: what the world forgets of a process that did not end by itself.
    """

    def __init__(self, name: str, main: Callable[[], None], on_death: Callable[[], None]) -> None:
        self.name = name
        self.reached: Counter[str] = Counter()
        self._main = main
        self._on_death = on_death
        self._thread: greenlet | None = None
        self._dying = False
        self._steps = 0
        self._waits = 0
        self._target: tuple[str, int, str] | None = None
        self.hit: str | None = None  # the fault of the last turn, where it was met

    @property
    def alive(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._thread is not None and not self._thread.dead

    def start(self) -> None:
        """Start it; it runs when it is given a turn."""
        self._dying = False
        self._thread = greenlet(self._main)

    def turn(self, steps: int, target: tuple[str, int, str] | None = None) -> bool:
        """Let it run for so many steps, or until a call is reached where something is to happen; whether it lives on.

        Args:
            steps: at the most.
            target: a call, how often it is to be reached, and the fault to meet there; `stop` holds it up there.
        """
        if not self.alive:
            return False
        self._steps, self._target, self.hit, self._waits = steps, target, None, 0
        assert self._thread is not None
        self._thread.switch()
        self._target = None
        if self._thread.dead and self._dying:
            self._on_death()
        return not self._thread.dead

    def kill(self) -> None:
        """End it where it stands."""
        if not self.alive:
            return
        assert self._thread is not None
        self._dying = True
        self._thread.throw(Killed)
        self._on_death()

    def wait(self) -> None:
        """Nothing came of a step that waits; after some of these its turn is over, for it has nothing to do."""
        self._waits += 1
        if self._waits >= WAITS_MAX:
            self._steps = 0

    def crash(self) -> None:
        """From within: it ends as if killed, and the schedule goes on."""
        self._dying = True
        raise Killed

    def reach(self, call: str) -> str | None:
        """A step; the fault that its caller is to make, or None.

        Raises:
            Killed: here it ends.
        """
        if getcurrent() is not self._thread:
            return None  # the world itself looks at what is a process's
        if self._dying:
            raise Killed
        if self._steps <= 0:
            self._yield()
        self.reached[call] += 1
        self._steps -= 1
        if call not in QUESTIONS:
            self._waits = 0
        if self._target is None or self._target[0] != call:
            return None
        _, times, kind = self._target
        if times > 1:
            self._target = (call, times - 1, kind)
            return None
        self._target, self.hit = None, kind
        self._steps = 0  # whatever happens next may happen right after this
        if kind == "kill_before":
            self.crash()
        if kind == "stop":
            self._yield()
            return None
        return kind

    def reached_end(self, fault: str | None) -> None:
        """The effect of a step is done: here `kill_after` ends the process."""
        if fault == "kill_after":
            self.crash()

    def _yield(self) -> None:
        assert self._thread is not None
        parent = self._thread.parent
        assert parent is not None
        parent.switch()
        if self._dying:
            raise Killed
