"""The faults by kind: each is begun, lasts, ends, and says what became of it.

A fault that did not come about is not counted. What a process has to say of it, when it ends or is fenced, is looked
for in its log, and what is missing is a problem of the report.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.chaos.broker import NAME, Broker
from tests.system.chaos.disk import SmallDisks
from tests.system.chaos.frames import END_TXN, IN_A_TRANSACTION, INSIDE_A_COMMIT
from tests.system.chaos.proxy import Kind, Proxy, Trap, Trouble, Way
from tests.system.chaos.report import Report
from tests.system.chaos.watch import Watch
from tests.system.stack import Stack, Supervised

API = "api"
LOOK_EVERY_S = 0.05
COMES_ABOUT_S = 45.0  # a request of a commit, while updates come all the time: a fault before may hold it up
SERVED_AGAIN_S = 120.0  # after a fault, other faults being on the way as well
SETTLES_S = 30.0  # until then a fault may hold up what comes after it
NOTICES_S = 20.0  # a zombie, that it is one
BY_ITSELF_S = 12.0  # until a process needs its full disk; then it is killed, and meets it at its start
REFUSES_S = 40.0
GOES_ON_S = 90.0
NO_SPACE = "No space left on device"
REMEDY = re.compile(r"free|see to the disk")
FENCED = ("partitions_lost", "batch_dropped", "batch_aborted", "failed for good")


@dataclass
class World:
    """What faults work on.

    `disks`: by process, None where the system gives no small ones. `others`: API processes beside the stack's own, by
    name, each with the program that keeps it running.
    """

    stack: Stack
    broker: Broker
    proxy: Proxy
    disks: SmallDisks | None
    watch: Watch
    rng: random.Random
    report: Report
    half_open_s: tuple[float, float]
    workers: list[str] = field(default_factory=list)
    others: dict[str, Supervised] = field(default_factory=dict)

    def log_of(self, name: str) -> Path:
        return self.stack.data_dir / "logs" / f"{name}.log"


class Faults:
    """Injects them; `recoveries` are measured in the background, and are to be awaited in the end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill-worker": self._kill_worker,
            "kill-api": self._kill_api,
            "kill-broker": self._kill_broker,
            "kill-in-commit": self._kill_in_commit,
            "delay": self._delay,
            "cut": self._cut,
            "half-open": self._half_open,
            "late": self._late,
            "zombie": self._zombie,
            "freeze-broker": self._freeze_broker,
            "disk-worker": self._disk_worker,
            "disk-api": self._disk_api,
        }
        self.recoveries: list[asyncio.Task[float]] = []
        self._under_way = 0
        self._last_end_s = -SETTLES_S
        self._alone = True  # whether nothing but deaths of workers and API went before the present fault

    async def inject(self, kind: str) -> None:
        """One fault, to its end."""
        self._alone = self._under_way == 0 and time.monotonic() - self._last_end_s > SETTLES_S
        self._under_way += 1
        try:
            await self.kinds[kind]()
        finally:
            self._under_way -= 1
            if kind not in ("kill-worker", "kill-api"):
                self._last_end_s = time.monotonic()

    def _count(self, kind: str, what: str) -> None:
        self.world.report.faults[kind] += 1
        print(f"{self.world.report.faults.total():>3} {kind}: {what}", flush=True)

    def _missed(self, kind: str, why: str) -> None:
        self.world.report.missed[kind] += 1
        print(f"    {kind} did not come about: {why}", flush=True)

    # -- processes that die

    async def _kill_worker(self) -> None:
        world, name = self.world, self.world.rng.choice(self.world.workers)
        alone = self._alone
        before = await asyncio.to_thread(world.watch.ends)
        killed_s = time.monotonic()
        await asyncio.to_thread(world.stack.kill, name)
        self._count("kill-worker", name)
        took_s = await self._served_again("kill-worker", killed_s, before)
        if alone and before is not None:
            world.report.takeovers_s.append(took_s)

    async def _kill_api(self) -> None:
        name = self.world.rng.choice([API, *self.world.others])
        program = self.world.others.get(name, self.world.stack)
        killed_s = time.monotonic()
        await asyncio.to_thread(program.kill, name)
        self._count("kill-api", name)
        self._measure_api(program, name, killed_s)

    async def _kill_broker(self) -> None:
        await asyncio.to_thread(self.world.broker.kill, NAME)
        self._count("kill-broker", NAME)
        await self._measure("kill-broker")

    async def _kill_in_commit(self) -> None:
        """The broker, as a worker's request that belongs to a commit reaches the proxy; its answer is withheld."""
        world, rng = self.world, self.world.rng
        kind = rng.choice([*INSIDE_A_COMMIT, END_TXN])
        forward_s = rng.choice([None, rng.uniform(0.0, 0.02)])
        pid = world.broker.pids[NAME]
        trap = Trap(frozenset({kind}), lambda: world.broker.signal(NAME, signal.SIGKILL), forward_s=forward_s)
        if not await self._caught(trap):
            return self._missed("kill-in-commit", f"no {INSIDE_A_COMMIT[kind]} within {COMES_ABOUT_S:.0f} s")
        await asyncio.to_thread(world.broker.await_restart, NAME, pid)
        how = "before it was forwarded" if forward_s is None else f"{forward_s * 1_000:.0f} ms after it was forwarded"
        self._count("kill-in-commit", f"at {INSIDE_A_COMMIT[kind]}, {how}" + ", answered unheard" * trap.answered)
        world.report.note("kill-in-commit", f"at {INSIDE_A_COMMIT[kind]}")
        world.report.note("kill-in-commit", "not forwarded" if forward_s is None else "forwarded")
        if trap.answered:
            world.report.note("kill-in-commit", "answered unheard")
        await self._measure("kill-in-commit")
        return None

    async def _caught(self, trap: Trap) -> bool:
        self.world.proxy.trap = trap
        try:
            await asyncio.wait_for(trap.sprung.wait(), COMES_ABOUT_S)
        except TimeoutError:
            self.world.proxy.trap = None
            if trap.caught is None:
                return False
            await trap.sprung.wait()  # it was on its way
        return True

    # -- the network

    async def _delay(self) -> None:
        rng = self.world.rng
        most_s = rng.uniform(0.03, 0.4)
        trouble = Trouble(Kind.DELAY, self._whom(), self._ways(), (most_s / 4, most_s))
        await self._trouble("delay", trouble, rng.uniform(3, 8), f", {most_s * 1_000:.0f} ms at most")

    async def _cut(self) -> None:
        await self._trouble("cut", Trouble(Kind.CUT, self._whom()), self.world.rng.uniform(1, 6))

    async def _half_open(self) -> None:
        await self._trouble("half-open", Trouble(Kind.SWALLOW, self._whom(), self._ways()), self._half_open_s())

    async def _late(self) -> None:
        await self._trouble("late", Trouble(Kind.HOLD, self._whom(), self._ways()), self._half_open_s())

    def _half_open_s(self) -> float:
        return self.world.rng.uniform(*self.world.half_open_s)

    def _whom(self) -> str | None:
        return self.world.rng.choice([None, API, *self.world.others, *self.world.workers])

    def _ways(self) -> frozenset[Way]:
        return self.world.rng.choice([frozenset(Way), frozenset(Way), *(frozenset({way}) for way in Way)])

    async def _trouble(self, kind: str, trouble: Trouble, lasts_s: float, more: str = "") -> None:
        async with self.world.proxy.trouble(trouble):
            await asyncio.sleep(lasts_s)
        whom = trouble.whom or "all"
        if not trouble.touched:
            return self._missed(kind, f"nothing of {whom} came by in {lasts_s:.1f} s")
        more += "" if len(trouble.ways) > 1 else f", {next(iter(trouble.ways)).name.replace('_', ' ').lower()} alone"
        what = "connections" if trouble.kind is Kind.CUT else "pieces"
        self._count(kind, f"{whom}, {lasts_s:.1f} s{more}, {trouble.touched} {what}")
        self.world.report.note(kind, whom)
        await self._measure(kind)
        return None

    # -- processes that stand still

    async def _zombie(self) -> None:
        """A worker stands still until others serve its partitions, and then goes on as if nothing had been.

        It is stopped with a request of its transaction on its way, which the broker gets before, or only with it.
        """
        world, rng = self.world, self.world.rng
        name, kind = rng.choice(world.workers), rng.choice([*IN_A_TRANSACTION])
        forwarded = rng.random() < 0.5
        pid = world.stack.pids[name]
        trap = Trap(
            frozenset({kind}),
            lambda: world.stack.signal(name, signal.SIGSTOP),
            whom=name,
            forward_s=0.0 if forwarded else None,
            holds=True,
        )
        if not await self._caught(trap):
            return self._missed("zombie", f"no {IN_A_TRANSACTION[kind]} of {name} within {COMES_ABOUT_S:.0f} s")
        stopped_s = time.monotonic()
        try:
            taken_s = await self._served_again("zombie", stopped_s, None)  # what comes once it stands still
            await asyncio.sleep(rng.uniform(0.0, 3.0))
        finally:
            woken_at_byte = world.log_of(name).stat().st_size
            world.stack.signal(name, signal.SIGCONT)
            trap.released.set()
        where = f"{IN_A_TRANSACTION[kind]} {'arrived' if forwarded else 'on its way'}"
        lasted_s = time.monotonic() - stopped_s
        self._count("zombie", f"{name}, {where}, stopped for {lasted_s:.1f} s, taken over in {taken_s:.1f} s")

        def fenced() -> bool:
            return world.stack.pids[name] != pid or bool(self._said(name, woken_at_byte, FENCED))

        if await self._until(fenced, NOTICES_S):
            by_kafka = self._said(name, woken_at_byte, FENCED)
            world.report.note("zombie", "fenced by Kafka" if by_kafka else "ended by its own watchdog")
        else:
            world.report.problems.append(f"{name} stood still for longer than its session and did not notice")
        return None

    async def _freeze_broker(self) -> None:
        world = self.world
        lasts_s = world.rng.uniform(2, 12)
        world.broker.signal(NAME, signal.SIGSTOP)
        try:
            self._count("freeze-broker", f"{lasts_s:.1f} s")
            await asyncio.sleep(lasts_s)
        finally:
            world.broker.signal(NAME, signal.SIGCONT)
        await self._measure("freeze-broker")

    # -- disks

    async def _disk_worker(self) -> None:
        await self._fill_disk("disk-worker", self.world.rng.choice(self.world.workers))

    async def _disk_api(self) -> None:
        await self._fill_disk("disk-api", API)

    async def _fill_disk(self, kind: str, name: str) -> None:
        """The process has to end with a Fatal that names the disk and the remedy, and to go on once there is room."""
        world, disks, folder = self.world, self.world.disks, self.world.stack.data_dir / name
        assert disks is not None, "left out of the plan without small disks"
        from_byte = world.log_of(name).stat().st_size

        def refuses() -> bool:
            disks.fill(folder)
            return any(NO_SPACE in line for line in self._last_words(name, from_byte))

        free = disks.fill(folder)
        try:
            by_itself = await self._until(refuses, BY_ITSELF_S)
            if not by_itself:
                world.stack.signal(name, signal.SIGKILL)
            refused = by_itself or await self._until(refuses, REFUSES_S)
            self._count(kind, f"{name}, {free >> 20} MiB were free, met {'at work' if by_itself else 'at its start'}")
            await self._until(lambda: disks.fill(folder) < 0, world.rng.uniform(1, 4))  # it stays full
        finally:
            freed_s, freed_at_byte = time.monotonic(), world.log_of(name).stat().st_size
            disks.free(folder)
        world.report.note(kind, "at work" if by_itself else "at its start")
        self._judge_last_words(name, folder, self._last_words(name, from_byte), refused=refused)
        if name == API:
            await asyncio.to_thread(world.stack.await_ready, API, GOES_ON_S)
        elif not await self._until(lambda: bool(self._said(name, freed_at_byte, ("partition_ready",))), GOES_ON_S):
            world.report.problems.append(f"{name} did not go on when its disk had room again")
        world.report.recovered_s.setdefault(kind, []).append(time.monotonic() - freed_s)

    def _judge_last_words(self, name: str, folder: Path, words: list[str], *, refused: bool) -> None:
        problems = self.world.report.problems
        if not refused:
            problems.append(f"{name} did not say that its disk is full; its last words: {words[-1:]}")
        for line in dict.fromkeys(words):
            if line.startswith("Traceback"):
                problems.append(f"{name} ended with a traceback on a full disk; see {self.world.log_of(name)}")
            elif NO_SPACE in line and not (str(folder) in line and REMEDY.search(line)):
                problems.append(f"{name} names no folder or no remedy: {line}")

    # -- what they have in common

    def _said(self, name: str, from_byte: int, words: tuple[str, ...]) -> list[str]:
        with self.world.log_of(name).open("rb") as log:
            log.seek(from_byte)
            text = log.read().decode("utf-8", "replace")
        return [line for line in text.splitlines() if any(word in line for word in words)]

    def _last_words(self, name: str, from_byte: int) -> list[str]:
        """What is no event of the log: the one line of an error of ours, or the first of a traceback."""
        return [line for line in self._said(name, from_byte, ("stockweave: ", "Traceback")) if not line.startswith("{")]

    async def _until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK_EVERY_S)
        return True

    async def _served_again(self, kind: str, since_s: float, before: list[int] | None) -> float:
        """How long it took from then until something that came to every partition after `before` was folded."""
        watch = self.world.watch
        after: list[int] | None = None
        while time.monotonic() < since_s + SERVED_AGAIN_S:
            if after is None:
                ends = await asyncio.to_thread(watch.ends)
                if before is None:
                    before = ends
                elif ends is not None and all(now > then for now, then in zip(ends, before, strict=True)):
                    after = ends
            elif (took_s := watch.folded_after_s(since_s, after)) is not None:
                self.world.report.recovered_s.setdefault(kind, []).append(took_s)
                return took_s
            await asyncio.sleep(LOOK_EVERY_S)
        self.world.report.problems.append(f"{SERVED_AGAIN_S:.0f} s after {kind} not all partitions were served again")
        return SERVED_AGAIN_S

    async def _measure(self, kind: str) -> None:
        """From now on, while other faults go on."""
        since_s, before = time.monotonic(), await asyncio.to_thread(self.world.watch.ends)
        self.recoveries.append(asyncio.create_task(self._served_again(kind, since_s, before)))

    def _measure_api(self, program: Supervised, name: str, killed_s: float) -> None:
        async def ready() -> float:
            await asyncio.to_thread(program.await_ready, name, GOES_ON_S)
            took_s = time.monotonic() - killed_s
            self.world.report.recovered_s.setdefault("kill-api", []).append(took_s)
            return took_s

        self.recoveries.append(asyncio.create_task(ready()))
