"""`stockweave rebuild --dry-run`: folds all facts into scratch space alone, and says which live rows would change.

Invariant: nothing of the deployment is written. As in `verify`, what is compared stands for one prefix of the log,
partition by partition, while workers go on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console

from schemas import rows
from schemas.admin import topics_in_use
from schemas.generation_log import read
from schemas.generations import FACTS
from schemas.rows import Position
from schemas.topics import UPDATES
from state.database import Resources
from state.store import PartitionStore
from stockweave.meter import Meter
from stockweave.replay.checkpoint.load import load_partition
from stockweave.replay.checkpoint.lookup import begin_with
from stockweave.replay.ends import log_ends
from stockweave.replay.facts import Facts
from stockweave.replay.live import read_live
from stockweave.replay.rebuild.plan import Wanted, check_partitions
from stockweave.replay.rebuild.rebuild import live_generation
from stockweave.replay.refold import refold
from stockweave.replay.reservations import apply_facts
from stockweave.replay.scratch import scratch_folder
from stockweave.replay.session import kafka
from stockweave.replay.spread import Counted, Progress, Ticks, over_partitions
from stockweave.replay.verify.compare import compare_others, pairs, same_meaning
from stockweave.replay.verify.verify import SCRATCH, folder_of
from stockweave.settings import Settings

SHOWN_MAX = 5  # rows, of a partition


@dataclass(frozen=True)
class Change:
    """A row that would change; on hand, None where there is no row, or none that can be read."""

    sku: str
    old: int | None
    new: int | None

    def __str__(self) -> str:
        old, new = ("no row" if n is None else f"{n:,}" for n in (self.old, self.new))
        return f"{self.sku}: {old} -> {new}" + (", of other sources or otherwise reserved" if old == new else "")


@dataclass(frozen=True)
class Changes:
    """Of one partition: rows on either side, how many would change, the first of them, and updates folded.

    `holds`, `holds_changed`: the same of reservations; `problems`: with the log of their facts, in words.
    """

    rows: int
    changed: int
    first: list[Change]
    events: int
    holds: int
    holds_changed: int
    problems: list[str]


def run(settings: Settings, wanted: Wanted, jobs: int) -> None:
    """The command: say on stdout what would change; progress goes to stderr.

    Raises:
        Fatal: there are no live rows, or the log lacks updates.
        Retriable: Kafka does not answer.
    """
    notes, out = (
        Console(stderr=True, highlight=False),
        Console(highlight=False, soft_wrap=True, markup=False, emoji=False),
    )
    began_s = time.monotonic()
    with (
        kafka(settings, notes) as connected,
        scratch_folder(settings.data_dir) as folder,
        Meter(notes, "folding", 0, "records") as meter,
    ):
        found = dry_run(connected, wanted, folder, jobs, meter)
    for line in lines(found, time.monotonic() - began_s):
        out.print(line)


def dry_run(settings: Settings, wanted: Wanted, folder: Path, jobs: int, progress: Progress) -> dict[int, Changes]:
    """What would change, by partition; see `run`."""
    bootstrap = settings.bootstrap_servers or ""
    live = live_generation(settings, read(settings, bootstrap))
    check_partitions(wanted.partitions, live.partitions)
    partitions: Sequence[int] = range(live.partitions) if wanted.partitions is None else wanted.partitions
    found = begin_with(settings, topics_in_use(settings, bootstrap), wanted.begin, partitions)
    begin = FACTS if found is None else found.address
    updates = settings.topic(UPDATES.name)
    expected = dict.fromkeys(partitions, 0)
    for topic in (updates, live.name):
        for number, (low, high) in log_ends(bootstrap, topic, partitions).items():
            expected[number] += high - low
    task = ChangesTask(settings, updates, live.name, live.partitions, begin, folder)
    return over_partitions(task, partitions, jobs, progress, expected)


def lines(found: dict[int, Changes], seconds: float) -> Iterator[str]:
    """What was found, in words."""
    for number, changes in found.items():
        yield f"partition {number}: {changes.changed:,} of {changes.rows:,} rows would change"
        for change in changes.first:
            yield f"  {change}"
        if changes.changed > len(changes.first):
            yield f"  and {changes.changed - len(changes.first):,} more"
        if changes.holds:
            yield f"  {changes.holds_changed:,} of {changes.holds:,} holds of reservations would change"
        for problem in changes.problems:
            yield f"  a rebuild would be refused: {problem}"
    rows_, changed, events = (sum(getattr(c, name) for c in found.values()) for name in ("rows", "changed", "events"))
    yield (
        f"dry run: {changed:,} of {rows_:,} rows would change; {events:,} updates were folded in {seconds:.1f} s, and "
        "nothing was written"
    )


@dataclass(frozen=True)
class ChangesTask:
    """The task of one partition; see `run`.

    `updates`, `stock`: deployed names, of so many `partitions`; `begin`: as in a plan.
    """

    settings: Settings
    updates: str
    stock: str
    partitions: int
    begin: str
    folder: Path

    def __call__(self, partition: int, ticks: Ticks) -> Changes:
        """Read the live rows, fold their facts again, compare."""
        bootstrap = self.settings.bootstrap_servers or ""
        resources = Resources(self.settings.block_cache_bytes, self.settings.write_buffer_bytes)
        folder = self.folder / str(partition)
        live = PartitionStore(folder / "live", resources, SCRATCH)
        folded = PartitionStore(folder / "folded", resources, SCRATCH)
        counted = Counted(ticks)
        read_live(bootstrap, self.stock, {partition: live}, counted.advance)
        begin = Position({}, {}) if self.begin == FACTS else load_partition(self.begin, partition, folded)
        start = begin.offsets.get(UPDATES.name, 0)
        end = max(start, (live.position or Position({}, {})).offsets.get(UPDATES.name, 0))
        live_facts = 0 if live.position is None else live.position.facts
        ticks.expect(counted.count + end - start + max(0, live_facts - begin.facts))
        facts = Facts(bootstrap, self.updates, partition, start, end)
        position = refold(facts, folder_of(self.settings, self.partitions), folded, begin, ticks.advance)
        applied = apply_facts(self.settings, partition, folded, position, live_facts, ticks.advance)
        changes = _compare(live, folded, position.events() - begin.events(), applied.problems)
        for store in (live, folded):
            store.close()
        shutil.rmtree(folder)
        return changes


def _compare(live: PartitionStore, folded: PartitionStore, events: int, problems: list[str]) -> Changes:
    count, changed = 0, 0
    first: list[Change] = []
    for key, old, new in pairs(live.rows(), folded.rows()):
        count += 1
        if not _same(old, new):
            changed += 1
            if len(first) < SHOWN_MAX:
                first.append(Change(key.decode(errors="backslashreplace"), _on_hand(old), _on_hand(new)))
    holds, holds_changed = compare_others(live, folded)[:2]
    return Changes(count, changed, first, events, holds, holds_changed, problems)


def _same(old: bytes | None, new: bytes | None) -> bool:
    """Whether both mean the same; a live row that cannot be read is one to change."""
    if old is None or new is None:
        return False
    try:
        return same_meaning(old, new)
    except msgspec.DecodeError:
        return False


def _on_hand(row: bytes | None) -> int | None:
    try:
        return None if row is None else rows.decode_packed_row(row).on_hand
    except msgspec.DecodeError:
        return None
