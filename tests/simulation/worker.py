"""A worker and an API's view as processes of the simulation: the product's own classes, on simulated clients and disks.

The loop around the processor is `streams.pump`'s, without its threads and without the agent between poll and commit.
"""

from __future__ import annotations

import random
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from api.ends import Ends
from api.generation import GenerationView
from api.partition import ViewPartition
from inventory.policies import Policies
from inventory.stock import Limits
from schemas.admin import Deployed
from schemas.policies import Policy
from schemas.topics import ALERTS, COMMANDS, DEAD_LETTERS, RESERVATION_STEPS, RESERVATIONS, STOCK, UPDATES
from state.store import PartitionStore
from stockweave.errors import Fatal, Retriable
from streams.alerts import Alerts
from streams.batch import Folder
from streams.decider import Decider
from streams.processor import Processor
from streams.restore import Stage
from streams.world import World
from tests.simulation.asking import COMMANDS as COMMANDS_CODEC
from tests.simulation.crossings import ALERT
from tests.simulation.disk import SimulatedDisk
from tests.simulation.kafka.consumer import SimulatedConsumer
from tests.simulation.kafka.producer import SimulatedProducer
from tests.simulation.pools import SLOW, Pools
from tests.simulation.process import Process
from tests.simulation.workload import CODEC, FACTS

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

GROUP = "stockweave"
CHORES_EVERY = 8  # turns of the loop
PASS_S = 1.0  # half of the lag of compaction there
ROWS_MAX = 2  # looked at for alerts at a time, so that a pass takes some looks
LAWFUL_ENDS = re.compile(
    r"failed for good: (_FENCED|_STATE)"
    r"|Kafka lost the end of"
    r"|aborted 20 times in a row"
    r"|can neither be committed nor aborted"
)
"""What a worker may end with under these faults, to be started again; anything else is a finding."""


class Endings:
    """Satisfies `CallWatchdog`: the simulated producer itself ends the process whose call hangs."""

    def begin(self, call: str) -> None: ...
    def end(self) -> None: ...
    def hurry(self) -> None: ...
    def stop(self) -> None: ...


class SimulatedWorker:
    """One worker, over all its lives. `processor`: of the present life, None before it has one."""

    def __init__(self, simulation: Simulation, name: str, rng: random.Random) -> None:
        self._simulation = simulation
        self._rng = rng
        self.process = Process(name, self._main, self._died)
        self.disk = SimulatedDisk(simulation.clock, self.process, simulation.scenario.row_cache_bytes, rng)
        self.processor: Processor | None = None
        self.stopping = False
        self.member_id = ""
        self._life = 0

    def _main(self) -> None:
        try:
            self._live()
        except Fatal as why:
            self._simulation.ended(self.process.name, str(why), lawful=LAWFUL_ENDS.search(str(why)) is not None)
            self.process.crash()  # the supervisor starts it again

    def _live(self) -> None:
        self._life += 1
        self.member_id = f"{self.process.name}-{self._life}"
        simulation, scenario = self._simulation, self._simulation.scenario
        heard = [simulation.crossings.policies()]
        alerts = Alerts(ALERT, lambda: heard[-1], simulation.clock.now_ms)
        processor = self._processor(alerts)
        policies = decided_by(scenario.pools)
        decider = Decider(COMMANDS_CODEC, FACTS, lambda: policies)
        limits = Limits(scenario.horizon_ms, scenario.entries_max)
        folder = Folder(CODEC, limits, scenario.partitions, decider, alerts)
        while True:
            try:
                processor.start()
            except Retriable:
                continue
            break
        self.processor = processor
        turns = 0
        while True:
            batch = processor.poll()
            if batch is not None:
                try:
                    folded = folder.fold(batch)
                    for part in folded:
                        simulation.crossings.evaluated(part, alerts.revision)
                    if processor.commit(batch, folded):
                        simulation.committed(self, batch)
                except Retriable:  # told to stop, and Kafka does not answer
                    break
            if any(stage is not Stage.READY for stage in processor.stages().values()):
                processor.restore(batch is None)
            turns += 1
            if turns % CHORES_EVERY == 0:
                processor.lag()
                heard.append(simulation.crossings.policies())
                if batch is None:
                    processor.settle()
            if self.stopping and batch is None:
                break
        processor.close()
        self.processor, self.stopping = None, False

    def _processor(self, alerts: Alerts) -> Processor:
        simulation = self._simulation
        clients = partial(SimulatedConsumer, simulation.cluster, simulation.clock, self.process, self._rng)
        producer = SimulatedProducer(simulation.cluster, simulation.clock, self.process, self.process.name)
        world = World(
            consumer=clients(group=GROUP, member_id=self.member_id),
            commands=clients(),
            facts=clients(ends=True),
            follower=clients(ends=True),
            ends=clients(committed=False),
            producer=producer,
            watchdog=Endings(),
            clock=simulation.clock,
            open_store=lambda number: PartitionStore(Path(str(number)), self.disk, "g0"),
        )
        scenario = simulation.scenario
        sizes = scenario.batch_events_max, scenario.retention_ms
        processor = Processor(world, simulation.topics, FACTS, alerts, *sizes)
        processor._chores.passes.rows_max = ROWS_MAX
        return processor

    def _died(self) -> None:
        self.disk.die()
        self.processor, self.stopping = None, False

    def ready(self) -> dict[int, PartitionStore]:
        """The stores of the partitions that it serves."""
        if self.processor is None:
            return {}
        stages = self.processor.stages()
        return {n: a.store for n, a in self.processor._assigned.items() if stages[n] is Stage.READY}

    def is_covering(self, number: int) -> bool:
        """Whether it looks for holds of a partition that need another source, or for rows that say so."""
        assigned = None if self.processor is None else self.processor._assigned.get(number)
        if self.processor is None or assigned is None:
            return False
        rows, revision = assigned.rows_pass, self.processor._chores.passes._alerts.revision
        under_way = rows._next is not None or rows._revision != revision or bool(rows.short)
        return under_way or assigned.covering.is_searching or bool(assigned.covering.found)


class SimulatedView:
    """One API process: the view of the rows that it answers from. `view`: of the present life."""

    def __init__(self, simulation: Simulation, name: str, rng: random.Random) -> None:
        self._simulation = simulation
        self._rng = rng
        self.process = Process(name, self._main, self._died)
        self.disk = SimulatedDisk(simulation.clock, self.process, 0, rng)
        self.view: GenerationView | None = None
        self.stopping = False
        self._life = 0

    def _main(self) -> None:
        try:
            self._live()
        except Fatal as why:
            self._simulation.ended(self.process.name, str(why), lawful=False)
            self.process.crash()

    def _live(self) -> None:
        self._life += 1
        simulation = self._simulation
        stock = simulation.topics[STOCK.name]
        partitions = [
            ViewPartition(number, Path(str(number)), self.disk, "g0", PASS_S) for number in range(stock.partitions)
        ]
        consumer = SimulatedConsumer(simulation.cluster, simulation.clock, self.process, self._rng, ends=True)
        view = GenerationView(stock, partitions, consumer, cast("Ends", None), simulation.clock)
        view.begin()
        self.view = view
        while not self.stopping:
            for partition in partitions:  # what `GenerationView.ask` is told by Kafka
                end = simulation.cluster.log(stock.name, partition.number).end
                partition.catching_up.heard(end, simulation.clock.monotonic_s())
            view.follow(0.1)
        view.close()
        self.view, self.stopping = None, False

    def _died(self) -> None:
        self.disk.die()
        self.view, self.stopping = None, False


def decided_by(pools: Pools) -> Policies:
    """The policies by which reservations are decided."""
    by_scope = {scope: Policy(scope, 1, pool=name) for scope, name in pools.declared.items()}
    for scope, slow_ms in ((f"supplier:{name}", ms) for name, ms in SLOW.items()):
        by_scope[scope] = replace(by_scope.get(scope, Policy(scope, 1)), netting_delay_ms=slow_ms)
    return Policies(by_scope, 1)


def topics(partitions: int) -> dict[str, Deployed]:
    """As deployed."""
    every = (UPDATES, COMMANDS, RESERVATIONS, RESERVATION_STEPS, STOCK, ALERTS, DEAD_LETTERS)
    return {t.name: Deployed(t.name, partitions, "g0") for t in every}
