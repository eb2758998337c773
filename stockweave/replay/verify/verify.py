"""`stockweave verify`: folds all facts again, up to the positions of the live rows, and compares row by row.

Invariant: what is compared stands for one and the same prefix of the log, partition by partition, whatever workers do
meanwhile; nothing of the deployment is written. Each partition is read, folded, compared and forgotten on its own, so
memory and scratch space are those of as many partitions as there are jobs.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from rich.console import Console

from inventory.digest import PartitionDigest, meaning
from inventory.stock import Limits
from schemas import rows
from schemas.admin import topics_in_use
from schemas.codec import Codec
from schemas.registry import open_registry
from schemas.rows import OUTCOMES, Position
from schemas.topics import STOCK, UPDATES
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
from stockweave.replay.scratch import scratch_folder
from stockweave.replay.session import kafka
from stockweave.replay.skim import skim
from stockweave.replay.spread import Counted, Progress, Ticks, over_partitions
from stockweave.replay.verify import report
from stockweave.replay.verify.divergence import Log, Parting, find_parting
from stockweave.settings import Settings
from streams.batch import Folder

SCRATCH = "scratch"  # the generation of a scratch store: of no topic

Seed = Callable[[int, PartitionStore], Position]
"""Fills an empty store with a partition's rows at some position, and returns that; it travels to other processes."""


@dataclass(frozen=True)
class Differing:
    """A row that is not what the replay says; None on the side that has none."""

    key: bytes
    live: bytes | None
    replayed: bytes | None


@dataclass(frozen=True)
class Compared:
    """What became of comparing two stores. `first`: the differing row with the lowest key; digests in hexadecimal."""

    rows: int
    differ: int
    first: Differing | None
    live_digest: str
    replayed_digest: str


@dataclass(frozen=True)
class PartitionVerdict:
    """Of one partition.

    `start`, `end`: the offsets of updates that were folded again; `events`: how many; `stock_end`: the offset of the
    compacted topic at which the live rows were taken; `tallies`: what is wrong with the position's outcome tallies.
    """

    partition: int
    compared: Compared
    start: int
    end: int
    events: int
    stock_end: int
    tallies: list[str]


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
    def holds(self) -> bool:
        """Whether rows and tallies are what the facts say."""
        return self.differ == 0 and not self.tallies

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
        Whether rows and tallies are what the facts say.
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
        return verdict.holds
    if verbose:
        for line in report.partition_lines(verdict):
            out.print(line)
        out.print(f"{verdict.events:,} updates in {seconds:.1f} s: {verdict.events / seconds:,.0f}/s")
    if parting is not None and verdict.first is not None:
        for line in report.difference(verdict, verdict.first, parting):
            out.print(line)
    for problem in verdict.tallies:
        out.print(problem)
    out.print(report.summary(verdict))
    return verdict.holds


def beginning(settings: Settings, checkpoint: str | None) -> Checkpoint | None:
    """The checkpoint to begin with; see `run`."""
    bootstrap = settings.bootstrap_servers or ""
    topics = topics_in_use(settings, bootstrap)
    partitions = range(topics[STOCK.name].partitions)
    until = offsets(positions(bootstrap, topics[STOCK.name].name, partitions), partitions)
    return begin_with(settings, topics, checkpoint, partitions, until)


def parting_of(settings: Settings, verdict: Verdict, begin: Checkpoint | None = None) -> Parting | None:
    """Where the first row that differs parts from its replay, which began with a checkpoint; None when none does."""
    found = verdict.first
    if found is None or found.compared.first is None or settings.bootstrap_servers is None:
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
        read.expect_more(end - start)
        facts, folded = Facts(self.bootstrap_servers, self.updates, partition, start, end), Counted(read)
        if thorough:
            result = refold(facts, folder_of(self.settings, self.partitions), replayed, seeded, folded.advance)
            problems = tally_problems(partition, position, result)
        else:
            codec, limits = codec_of(self.settings), limits_of(self.settings)
            skim(facts, codec, limits, replayed, seeded, folded.advance, self.partitions)
            problems = sum_problems(partition, position, seeded.events() + folded.count)
        compared = compare(live, replayed)
        replayed.close()
        shutil.rmtree(replayed.path)
        return PartitionVerdict(partition, compared, start, end, folded.count, stock_end, problems)


def compare(live: PartitionStore, replayed: PartitionStore) -> Compared:
    """Compare two stores row by row, in the order of the keys.

    Raises:
        Fatal: a live row is not a row.
    """
    count = differ = 0
    first: Differing | None = None
    digest = PartitionDigest()
    for key, left, right in pairs(live.rows(), replayed.rows()):
        count += 1
        try:
            if left is not None:
                digest.add(key, left)
            same = left is not None and right is not None and same_meaning(left, right)
        except msgspec.DecodeError as error:
            raise Fatal(
                f"the live row under {key!r} is no row ({error}); `stockweave rebuild` makes all anew"
            ) from error
        if not same:
            differ += 1
            first = first or Differing(key, left, right)
    live_digest = digest.hexdigest()
    return Compared(count, differ, first, live_digest, digest_of(replayed) if differ else live_digest)


def digest_of(store: PartitionStore) -> str:
    """The digest of all rows of a store."""
    digest = PartitionDigest()
    for key, row in store.rows():
        digest.add(key, row)
    return digest.hexdigest()


def same_meaning(left: bytes, right: bytes) -> bool:
    """Whether two encoded rows mean the same; most rows show it without decoding their sources."""
    a, b = rows.decode_packed_row(left), rows.decode_packed_row(right)
    if a.sku == b.sku and a.on_hand == b.on_hand and a.sources == b.sources:
        return True
    return meaning(left) == meaning(right)


def pairs(
    left: Iterator[tuple[bytes, bytes]], right: Iterator[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Both sides joined by key; each in its order."""
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[0] < b[0]):
            assert a is not None  # noqa: S101 - by the loop's condition
            yield a[0], a[1], None
            a = next(left, None)
        elif a is None or b[0] < a[0]:
            yield b[0], None, b[1]
            b = next(right, None)
        else:
            yield a[0], a[1], b[1]
            a, b = next(left, None), next(right, None)


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
