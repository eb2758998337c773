"""`stockweave verify`: folds all facts again, up to the positions of the live rows, and compares row by row.

Invariant: what is compared stands for one and the same prefix of the log, partition by partition, whatever workers do
meanwhile; nothing of the deployment is written. Each partition is read, folded, compared and forgotten on its own, so
memory and scratch space are those of as many partitions as there are jobs.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from inventory.stock import Limits
from schemas.admin import topics_in_use
from schemas.codec import Codec
from schemas.registry import open_registry
from schemas.rows import OUTCOMES, Position
from schemas.topics import COMMANDS, STOCK, UPDATES
from state.database import Resources
from state.store import PartitionStore
from stockweave.errors import Fatal
from stockweave.meter import Meter
from stockweave.replay.checkpoint.load import Checkpoint, load_partition
from stockweave.replay.checkpoint.lookup import Found, begin_with
from stockweave.replay.ends import log_ends
from stockweave.replay.facts import Facts
from stockweave.replay.live import read_live
from stockweave.replay.rebuild.positions import offsets, positions
from stockweave.replay.refold import refold
from stockweave.replay.reservations import Applied, apply_facts
from stockweave.replay.scratch import scratch_folder
from stockweave.replay.session import kafka
from stockweave.replay.skim import skim
from stockweave.replay.spread import Counted, Progress, Ticks, over_partitions
from stockweave.replay.verify import report
from stockweave.replay.verify.compare import Compared, ComparedHolds, compare, compare_holds, same_but_for_reserved
from stockweave.replay.verify.divergence import Log, Parting, find_parting
from stockweave.settings import Settings
from streams.batch import Folder

SCRATCH = "scratch"  # the generation of a scratch store: of no topic

Seed = Callable[[int, PartitionStore], Position]
"""Fills an empty store with a partition's rows at some position, and returns that; it travels to other processes."""


@dataclass(frozen=True)
class PartitionVerdict:
    """Of one partition.

    `start`, `end`: the offsets of updates that were folded again; `events`: how many; `stock_end`: the offset of the
    compacted topic at which the live rows were taken; `tallies`: what is wrong with the position's outcome tallies;
    `facts`: of reservations, applied again; `holds`: what lies beside the rows; `reservations`: what is wrong with the
    log of facts, or with the position's figures of it.
    """

    partition: int
    compared: Compared
    start: int
    end: int
    events: int
    stock_end: int
    tallies: list[str]
    facts: int
    holds: ComparedHolds
    reservations: list[str]

    @property
    def is_right(self) -> bool:
        """Whether rows, holds and position are what the facts say."""
        wrong = self.compared.differ or self.holds.differ or self.holds.disagree
        return not (wrong or self.tallies or self.reservations)


@dataclass(frozen=True)
class Verdict:
    """Of all partitions; topics by their deployed names."""

    updates: str
    stock: str
    partitions: list[PartitionVerdict]

    @property
    def rows(self) -> int:
        """Rows that either side has."""
        return sum(p.compared.rows for p in self.partitions)

    @property
    def events(self) -> int:
        """Updates that were folded again."""
        return sum(p.events for p in self.partitions)

    @property
    def differ(self) -> int:
        """Rows that differ."""
        return sum(p.compared.differ for p in self.partitions)

    @property
    def tallies(self) -> list[str]:
        """What is wrong with the tallies of any position."""
        return [problem for p in self.partitions for problem in p.tallies]

    @property
    def holds(self) -> int:
        """Holds that either side has."""
        return sum(p.holds.holds for p in self.partitions)

    @property
    def holds_differ(self) -> int:
        """Holds that differ, and records of their orders."""
        return sum(p.holds.differ for p in self.partitions)

    @property
    def facts(self) -> int:
        """Facts of reservations that were applied again."""
        return sum(p.facts for p in self.partitions)

    @property
    def is_right(self) -> bool:
        """Whether rows, holds and positions are what the facts say."""
        return all(p.is_right for p in self.partitions)

    @property
    def first(self) -> PartitionVerdict | None:
        """The lowest partition with a row that differs."""
        return next((p for p in self.partitions if p.compared.first is not None), None)


def run(
    settings: Settings, jobs: int, *, thorough: bool, verbose: bool, json: bool, checkpoint: str | None = None
) -> bool:
    """The command: verify, and say on stdout what was found; progress goes to stderr.

    `checkpoint`: to begin with, by its name or address; None: the first update, or where the log begins later the
    newest that covers it.

    Returns:
        Whether rows, holds and positions are what the facts say.
    """
    notes, out = (
        Console(stderr=True, highlight=False),
        Console(highlight=False, soft_wrap=True, markup=False, emoji=False),
    )
    with kafka(settings, notes) as connected, scratch_folder(settings.data_dir) as folder:
        began_s = time.monotonic()
        begin = beginning(connected, checkpoint)
        if begin is not None:
            notes.print(f"beginning with the checkpoint {begin.address}", markup=False)
        seed = None if begin is None else partial(load_partition, begin.address)
        with Meter(notes, "verifying", 0, "records") as meter:
            verdict = verify(connected, folder, jobs, meter, seed, thorough=thorough)
        seconds = time.monotonic() - began_s
        parting = parting_of(connected, verdict, begin)
    if json:
        about = {"seconds": round(seconds, 3), "from": None if begin is None else begin.address}
        out.print_json(data=report.as_json(verdict, parting) | about, indent=None)
        return verdict.is_right
    if verbose:
        for line in report.partition_lines(verdict):
            out.print(line)
        out.print(f"{verdict.events:,} updates in {seconds:.1f} s: {verdict.events / seconds:,.0f}/s")
    if verdict.first is not None:
        for line in report.difference(verdict, verdict.first, parting):
            out.print(line)
    for problem in verdict.tallies:
        out.print(problem)
    for line in report.reservation_lines(verdict):
        out.print(line)
    out.print(report.summary(verdict))
    return verdict.is_right


def beginning(settings: Settings, checkpoint: str | None) -> Checkpoint | None:
    """The checkpoint to begin with; see `run`."""
    bootstrap = settings.bootstrap_servers or ""
    topics = topics_in_use(settings, bootstrap)
    partitions = range(topics[STOCK.name].partitions)
    until = offsets(positions(bootstrap, topics[STOCK.name].name, partitions), partitions)
    return begin_with(settings, topics, checkpoint, partitions, until)


def parting_of(settings: Settings, verdict: Verdict, begin: Checkpoint | None = None) -> Parting | None:
    """Where the first row that differs parts from its replay, which began with a checkpoint.

    None when none does, or when it is not by an update: what differs is what is reserved.
    """
    found = verdict.first
    if found is None or found.compared.first is None or settings.bootstrap_servers is None:
        return None
    if same_but_for_reserved(found.compared.first.live, found.compared.first.replayed):
        return None
    log = Log(
        settings.bootstrap_servers,
        verdict.updates,
        verdict.stock,
        found.partition,
        found.start,
        found.end,
        found.stock_end,
    )
    first, folder, codec = found.compared.first, folder_of(settings, len(verdict.partitions)), codec_of(settings)
    if begin is None:
        return find_parting(log, folder, codec, first.key, first.live)
    with Found(begin, found.partition) as rows_before:
        return find_parting(log, folder, codec, first.key, first.live, rows_before.find(first.key))


def verify(
    settings: Settings,
    folder: Path,
    jobs: int,
    progress: Progress,
    seed: Seed | None = None,
    *,
    thorough: bool = False,
) -> Verdict:
    """Verify every partition of the live generation.

    Args:
        settings: `bootstrap_servers` answers.
        folder: scratch space, empty.
        jobs: processes.
        progress: told in records, live rows and updates alike.
        seed: begins from a checkpoint; None from the first update.
        thorough: fold every update, and hold the outcomes of each supplier against the facts; else what cannot show in
            a row is left out, and outcomes only have to add up.

    Raises:
        Fatal: the log lacks updates that the rows stand for, or a row cannot be read.
        Retriable: Kafka or the registry does not answer.
    """
    bootstrap = settings.bootstrap_servers
    if bootstrap is None:
        raise Fatal("no Kafka is named: set STOCKWEAVE_BOOTSTRAP_SERVERS=host:port, or --data-dir")
    topics = topics_in_use(settings, bootstrap)
    updates, stock = topics[UPDATES.name], topics[STOCK.name]
    partitions = range(stock.partitions)
    expected = dict.fromkeys(partitions, 0)
    for topic in (updates, stock):
        for number, (low, high) in log_ends(bootstrap, topic.name, partitions).items():
            expected[number] += high - low
    check = PartitionCheck(settings, bootstrap, updates.name, stock.name, folder, seed, thorough, stock.partitions)
    found = over_partitions(check, partitions, jobs, progress, expected)
    return Verdict(updates.name, stock.name, [found[number] for number in partitions])


def folder_of(settings: Settings, partitions: int) -> Folder:
    """The workers' fold, by these settings; `partitions`: of inventory.updates."""
    return Folder(codec_of(settings), limits_of(settings), partitions)


def codec_of(settings: Settings) -> Codec:
    """Of updates."""
    return Codec("StockUpdate", open_registry(settings))


def limits_of(settings: Settings) -> Limits:
    """Of every source."""
    return Limits(settings.horizon_ms, settings.entries_max)


@dataclass(frozen=True)
class PartitionCheck:
    """The task of one partition; see `verify`. `updates` and `stock`: deployed names, of so many `partitions`."""

    settings: Settings
    bootstrap_servers: str
    updates: str
    stock: str
    folder: Path
    seed: Seed | None
    thorough: bool
    partitions: int

    def __call__(self, partition: int, ticks: Ticks) -> PartitionVerdict:
        """Read the live rows, fold their facts again, compare."""
        folder = self.folder / str(partition)
        live = self._open(folder / "live")
        read = Counted(ticks)
        stock_end = read_live(self.bootstrap_servers, self.stock, {partition: live}, read.advance)[partition]
        verdict = self.compared(partition, live, stock_end, read, thorough=self.thorough)
        if verdict.compared.differ and not self.thorough:
            # So that what is reported is what the workers' own fold says of every update.
            verdict = self.compared(partition, live, stock_end, read, thorough=True)
        live.close()
        shutil.rmtree(folder)
        return verdict

    def _open(self, path: Path) -> PartitionStore:
        resources = Resources(self.settings.block_cache_bytes, self.settings.write_buffer_bytes)
        return PartitionStore(path, resources, SCRATCH)

    def compared(
        self, partition: int, live: PartitionStore, stock_end: int, read: Counted, *, thorough: bool
    ) -> PartitionVerdict:
        """Compare live rows, which were taken at `stock_end`, with their facts, folded again."""
        replayed = self._open(self.folder / str(partition) / "replayed")
        position = live.position or Position({}, {})
        seeded = self.seed(partition, replayed) if self.seed is not None else Position({}, {})
        start, end = (p.offsets.get(UPDATES.name, 0) for p in (seeded, position))
        if start > end:
            raise Fatal(
                f"partition {partition}: the checkpoint stands at offset {start} of {self.updates}, and the live rows "
                f"at {end}: it is not of this deployment, or the rows are not whole; name another checkpoint"
            )
        if seeded.facts > position.facts:
            raise Fatal(
                f"partition {partition}: the checkpoint holds {seeded.facts:,} facts of reservations, and the live "
                f"rows {position.facts:,}: it is not of this deployment, or workers are still at it; try again, or "
                "name another checkpoint"
            )
        read.expect_more(end - start + position.facts - seeded.facts)
        facts, folded = Facts(self.bootstrap_servers, self.updates, partition, start, end), Counted(read)
        if thorough:
            result = refold(facts, folder_of(self.settings, self.partitions), replayed, seeded, folded.advance)
            problems = tally_problems(partition, position, result)
        else:
            codec, limits = codec_of(self.settings), limits_of(self.settings)
            result = skim(facts, codec, limits, replayed, seeded, folded.advance, self.partitions)
            problems = sum_problems(partition, position, seeded.events() + folded.count)
        applied = apply_facts(self.settings, partition, replayed, result, position.facts, read.advance)
        compared, holds = compare(live, replayed), compare_holds(live, replayed)
        replayed.close()
        shutil.rmtree(replayed.path)
        wrong = applied.problems + position_problems(partition, position, applied)
        return PartitionVerdict(
            partition, compared, start, end, folded.count, stock_end, problems, applied.count, holds, wrong
        )


def tally_problems(partition: int, live: Position, replayed: Position) -> list[str]:
    """What is wrong with the outcome tallies of the live position, against those of the replay."""
    return sum_problems(partition, live, replayed.events()) or [
        f"partition {partition}: outcomes of supplier {supplier!r} differ: live {_tally(live, supplier)}, "
        f"replayed {_tally(replayed, supplier)}"
        for supplier in sorted(live.outcomes.keys() | replayed.outcomes.keys())
        if live.outcomes.get(supplier) != replayed.outcomes.get(supplier)
    ]


def sum_problems(partition: int, live: Position, events: int) -> list[str]:
    """Whether the live position's outcomes add up to the updates that there are; every one has exactly one outcome."""
    if live.events() == events:
        return []
    said = f"the position's outcomes add up to {live.events():,}, and {events:,} updates were read"
    return [f"partition {partition}: {said}"]


def _tally(position: Position, supplier: str) -> str:
    counts = position.outcomes.get(supplier, [0] * len(OUTCOMES))
    return ", ".join(f"{count:,} {outcome}" for outcome, count in zip(OUTCOMES, counts, strict=True))


def position_problems(partition: int, live: Position, applied: Applied) -> list[str]:
    """Whether what the live position says of its facts is so."""
    problems = _fact_problems(live, applied) if applied.count else []
    if live.forgotten_to > live.decided_at:
        said = f"holds that ended by {live.forgotten_to} may be forgotten"
        problems.append(f"the position says that {said}, and its decision clock is {live.decided_at}")
    return [f"partition {partition}: {problem}" for problem in problems]


def _fact_problems(live: Position, applied: Applied) -> list[str]:
    due, problems = applied.position, []
    if applied.beyond is not None and live.facts_from > applied.beyond:
        said = f"the first fact that the rows do not have is at offset {applied.beyond:,}"
        problems.append(f"{said}, and the position says that none is below {live.facts_from:,}")
    if live.decided_at < due.decided_at:
        problems.append(f"the position's decision clock is {live.decided_at}, and a fact's is {due.decided_at}")
    commands, decided = (p.offsets.get(COMMANDS.name, 0) for p in (live, due))
    if commands < decided:
        problems.append(f"the position says that commands from offset {commands:,} on are open: {decided:,} is decided")
    return problems
