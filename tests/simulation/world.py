"""One run: a deployment of simulated processes, to which a schedule's actions happen while it is looked at."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from schemas.keys import partition_of
from schemas.topics import ALERTS, COMMANDS, STOCK, UPDATES
from streams.batch import Batch
from tests.simulation import checks, waiting
from tests.simulation.asking import Asked, asked
from tests.simulation.auditor import Auditor
from tests.simulation.crossings import Crossings
from tests.simulation.decisions import Decisions
from tests.simulation.kafka.cluster import Cluster, State
from tests.simulation.process import Clock
from tests.simulation.scenario import DAY_MS, LONG_MS, Scenario
from tests.simulation.schedule import Action
from tests.simulation.worker import GROUP, SimulatedView, SimulatedWorker, topics
from tests.simulation.workload import Told, told

ROUNDS_MAX = 300
STUCK_ROUNDS = 30
TURN_STEPS = 120
RESTARTS_LATE = 0.6  # the share of them
AT_WORK = 0.8  # the share of faults that befall a worker that serves partitions, if it gets any
READY_TURNS, READY_STEPS = 12, 12
AGAIN = 12  # commands of before
COMPACTION_LAG_MS = 2_000  # much shorter than the real one, so that it comes to compaction
LAST_POLICIES = 3  # changes at the end of a run
MARKERS_SOON = 0.6  # the chance that Kafka writes one, and another one, between two actions


class Finding(AssertionError):
    """Something that must hold does not."""


@dataclass
class Tally:
    """What was injected and met.

    `pooled`: runs with pools; `held_of_pools`: holds that one gave, where the ledger looks at each.
    """

    faults: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    events: int = 0
    commands: int = 0
    alerts: int = 0
    pooled: int = 0
    held_of_pools: int = 0

    def add(self, other: Tally) -> None:
        """Of another run."""
        self.faults += other.faults
        self.reached += other.reached
        self.ends += other.ends
        self.events += other.events
        self.commands += other.commands
        self.alerts += other.alerts
        self.pooled += other.pooled
        self.held_of_pools += other.held_of_pools


class Simulation:
    """The deployment of one seed.

    Args:
        seed: of everything.
        scenario: its sizes.
    """

    def __init__(self, seed: int, scenario: Scenario) -> None:
        self.scenario = scenario
        self.clock = Clock()
        self.cluster = Cluster(random.Random(f"{seed} cluster"))
        self.topics = topics(scenario.partitions)
        for name in self.topics:
            self.cluster.create(name, scenario.partitions)
        self.auditor = Auditor(scenario.partitions, scenario.horizon_ms, scenario.entries_max)
        self.tally = Tally()
        self.watch = checks.Watch(self)
        rng = random.Random(f"{seed} workload")
        self._unsent = told(scenario.events, scenario.skus, self.clock.now_ms(), rng)[::-1]
        self.decisions = Decisions(self)
        self.crossings = Crossings(
            self, scenario.skus, random.Random(f"{seed} policies"), random.Random(f"{seed} scores")
        )
        self._unasked = asked(scenario.commands, scenario.skus, self.clock.now_ms(), rng)[::-1]
        self.workers = [
            SimulatedWorker(self, f"worker-{n}", random.Random(f"{seed} worker-{n}")) for n in range(scenario.workers)
        ]
        self.view = SimulatedView(self, "api", random.Random(f"{seed} api"))
        everybody: list[SimulatedWorker | SimulatedView] = [*self.workers, self.view]
        self._by_name = {each.process.name: each for each in everybody}
        self._rng = random.Random(f"{seed} world")
        self.trimmed = False
        for each in self._by_name.values():
            each.process.start()

    # -- what happens

    def act(self, action: Action) -> None:
        """Let one thing happen; what makes no sense now is passed over."""
        match action.what:
            case "feed":
                self._feed(action.number)
            case "run":
                self._run(action.who, action.number)
            case "fault":
                self._fault(action)
            case "marker":
                self._write_marker(action.number)
            case "policy":
                self.crossings.change_policy()
            case _:
                self._befall(action)
        while self._rng.random() < MARKERS_SOON:
            self._write_marker(self._rng.randrange(8))
        self.watch.look()
        self.decisions.look()
        self.crossings.look()

    def _befall(self, action: Action) -> None:
        """One of `schedule.WORLD_FAULTS`."""
        match action.what:
            case "session_expired":
                self._expire_session(action.who)
            case "worker_stopped":
                self._stop(action.who)
            case "killed_anywhere":
                self._kill(action.who, action.number % 50)
            case "transaction_timed_out":
                self._time_out(action.number)
            case "markers_lost":
                self._lose_markers(action.number)
            case "compacted":
                self._compact(action.number)
            case "updates_trimmed":
                self._trim()
            case "away_for_a_day":
                self._leave_for_a_day(action.who)
            case "disk_wiped":
                self._wipe(action.who)

    def _feed(self, number: int) -> None:
        for _ in range(min(number, len(self._unsent))):
            self._send(self._unsent.pop())
            if self._unasked and self._rng.random() < self.scenario.commands / self.scenario.events:
                self._ask(self._unasked.pop())
        if self._rng.random() < 0.2:  # a connector's transaction leaves a marker, which is no event
            log = self._rng.choice(self.cluster.topics[UPDATES.name])
            log.mark(-1, commit=True)

    def _send(self, message: Told) -> None:
        number = partition_of(message.key, self.scenario.partitions)
        log = self.cluster.log(UPDATES.name, number)
        offset = log.append(message.key, message.value, [("sent", b"by simulation")], self.clock.now_ms())
        self.auditor.accepted(number, offset, message)
        self.tally.events += 1

    def _ask(self, message: Asked) -> None:
        number = partition_of(message.key, self.scenario.partitions)
        log = self.cluster.log(COMMANDS.name, number)
        offset = log.append(message.key, message.value, [("sent", b"by simulation")], self.clock.now_ms())
        self.decisions.asked[number][offset] = message
        self.tally.commands += 1

    def _run(self, who: str, steps: int) -> None:
        self._started(who).process.turn(steps)

    def _fault(self, action: Action) -> None:
        each = self._started(action.who)
        if isinstance(each, SimulatedWorker) and not each.ready() and self._rng.random() < AT_WORK:
            self._get_ready(each)
        fault = "timeout" if action.fault == "tear" and not self.scenario.tears else action.fault
        each.process.turn(TURN_STEPS, (action.call, action.number, fault))
        if each.process.hit is not None:
            self._count(f"{action.call}: {fault}")

    def _get_ready(self, worker: SimulatedWorker) -> None:
        """Else most faults would meet a worker at its start, which makes the same calls as a commit does."""
        for _ in range(READY_TURNS):
            worker.process.turn(READY_STEPS)
            if worker.ready():
                break
        self._feed(self._rng.randint(1, 6))  # something to do

    def _started(self, who: str) -> SimulatedWorker | SimulatedView:
        each = self._by_name[who]
        if not each.process.alive:
            if self._rng.random() < RESTARTS_LATE:  # when the session of the former self is over
                self._drop_dead_members()
            each.process.start()
        return each

    def _write_marker(self, at: int) -> None:
        ending = [known for known in self.cluster.transactions.values() if known.ending]
        if ending:
            known = ending[at % len(ending)]
            if known.places or known.groups:
                self.cluster.write_marker(known, at)
            else:
                self.cluster.finish(known)

    def _kill(self, who: str, steps: int) -> None:
        self._run(who, steps)
        process = self._by_name[who].process
        if process.alive:
            process.kill()
            self._count("killed_anywhere")

    def _stop(self, who: str) -> None:
        """In order, as by SIGTERM."""
        each = self._by_name[who]
        if each.process.alive:
            each.stopping = True
            if not each.process.turn(TURN_STEPS):
                self._count("worker_stopped")

    def _expire_session(self, who: str) -> None:
        each = self._by_name[who]
        if isinstance(each, SimulatedWorker) and each.member_id in self.cluster.group(GROUP).members:
            self.cluster.group(GROUP).leave(each.member_id)
            self._count("session_expired")

    def _time_out(self, at: int) -> None:
        ongoing = [known for known in self.cluster.transactions.values() if known.state is State.ONGOING]
        if ongoing:
            self.cluster.expire(ongoing[at % len(ongoing)])
            self._count("transaction_timed_out")

    def _lose_markers(self, at: int) -> None:
        ending = [known for known in self.cluster.transactions.values() if known.ending]
        if ending and self.scenario.tears and self.cluster.lose_markers(ending[at % len(ending)]):
            self._count("markers_lost")

    def _compact(self, at: int) -> None:
        log = self._rng.choice(self.cluster.topics[STOCK.name])
        if log.compact(log.start + at % (log.end - log.start + 1), self.clock.now_ms() - COMPACTION_LAG_MS):
            self._count("compacted")

    def _trim(self) -> None:
        """As `checkpoint trim` does: not beyond what is folded."""
        for number in range(self.scenario.partitions if self.scenario.trims else 0):
            folded = checks.visible(self, number).next_update
            log = self.cluster.log(UPDATES.name, number)
            if folded > log.start:
                log.trim(folded)
                self.trimmed = True
                self._count("updates_trimmed")

    def _leave_for_a_day(self, who: str) -> None:
        process = self._by_name[who].process
        if process.alive:
            process.kill()
            self._drop_dead_members()
            self.clock.pass_ms(DAY_MS + 3_600_000)
            self._count("away_for_a_day")

    def _wipe(self, who: str) -> None:
        each = self._by_name[who]
        if each.process.alive:
            each.process.kill()
            each.disk.wipe()
            self._count("disk_wiped")

    def _count(self, fault: str) -> None:
        self.tally.faults[fault] += 1

    # -- what processes tell

    def committed(self, worker: SimulatedWorker, batch: Batch) -> None:
        """A worker's commit came back, and its disk has been written."""
        self.watch.committed(worker.process.name, batch.parts[-1])

    def ended(self, who: str, why: str, *, lawful: bool) -> None:
        """A process ended with an error."""
        self.tally.ends[why.split(":")[0][:60]] += 1
        if not lawful:
            raise Finding(f"{who} ended: {why}")

    # -- the end

    def finish(self) -> None:
        """No more faults: everything is sent, started, folded and followed, and is then looked at as a whole."""
        self._feed(len(self._unsent))
        while self._unasked:
            self._ask(self._unasked.pop())
        self._change_policies()
        self._settle()
        self.decisions.look()
        self.crossings.look()
        for each in self._by_name.values():
            self.tally.reached += each.process.reached
        checks.at_rest(self)
        self._outlive_holds()
        self.tally.alerts = sum(len(log.records) for log in self.cluster.topics[ALERTS.name])
        self.tally.pooled = int(bool(self.scenario.pools.declared))
        self.tally.held_of_pools = sum(self.decisions.held_of_pools)
        if self.cluster.torn:
            for worker in self.workers:
                worker.process.kill()
            self._settle()
            checks.nothing_hangs(self)

    def _change_policies(self) -> None:
        """The last changes come while rows are looked through by the ones before."""
        for _ in range(LAST_POLICIES):
            self.crossings.change_policy()
            for worker in self.workers:
                self._started(worker.process.name).process.turn(self._rng.randint(20, 80))
                self.crossings.look()

    def _outlive_holds(self) -> None:
        """What is over is forgotten once its time has come, and nothing else is; then it is asked for again."""
        asked = [one for of_partition in self.decisions.asked for one in of_partition.values()]
        if self.scenario.retention_ms >= LONG_MS or not asked:
            return
        self.clock.pass_ms(self.scenario.retention_ms + waiting.LATE_MS)
        for again in ([], self._rng.sample(asked, min(AGAIN, len(asked)))):
            for one in again:
                self._ask(one)
            self._settle()
            self.decisions.look()
            self.crossings.look()
            checks.at_rest(self)

    def close(self) -> None:
        """End every process, so that nothing of the run is left."""
        for each in self._by_name.values():
            each.process.kill()

    def _settle(self) -> None:
        for n in range(ROUNDS_MAX):
            self._drop_dead_members()
            if n == STUCK_ROUNDS and not waiting.what_waits(self).startswith(waiting.CROSSED):
                # somebody reads the log, and follows its advice
                for worker in self.workers:
                    worker.process.kill()
            for each in self._by_name.values():
                each.stopping = False
                self._run(each.process.name, TURN_STEPS)
            for known in self.cluster.transactions.values():
                self.cluster.finish(known)
            if waiting.all_folded(self):
                return
        raise Finding("not everything is folded and followed: " + waiting.what_waits(self))

    def _drop_dead_members(self) -> None:
        alive = {worker.member_id for worker in self.workers if worker.process.alive}
        group = self.cluster.group(GROUP)
        for member_id in [member for member in group.members if member not in alive]:
            group.leave(member_id)
