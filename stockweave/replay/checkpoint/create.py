"""`stockweave checkpoint create`: the live rows and positions into files, while workers go on.

Invariant: a checkpoint exists once its manifest does, and that is written after every file was read back and found to
be the rows that were read from Kafka. Each partition is of one moment; memory is that of a row group and a store.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from confluent_kafka import Message
from msgspec.structs import replace
from rich.console import Console

from schemas.admin import Deployed, topics_in_use
from schemas.rows import Position
from schemas.topics import STOCK, UPDATES
from state.database import Resources
from state.store import PartitionStore
from stockweave.errors import Fatal
from stockweave.meter import Meter
from stockweave.replay.checkpoint import listing
from stockweave.replay.checkpoint.file import read, write
from stockweave.replay.checkpoint.load import Checkpoint, load_partition
from stockweave.replay.checkpoint.lookup import covering
from stockweave.replay.checkpoint.manifest import (
    FACT_TOPICS,
    FORMAT,
    MANIFEST,
    Manifest,
    PartitionFile,
    Proof,
    Stand,
    TopicId,
    encode,
    name_at,
)
from stockweave.replay.checkpoint.place import Place, default_address
from stockweave.replay.ends import log_ends
from stockweave.replay.facts import Facts
from stockweave.replay.live import read_live
from stockweave.replay.rebuild.plan import rules_digest
from stockweave.replay.rebuild.positions import offsets, positions
from stockweave.replay.scratch import scratch_folder
from stockweave.replay.session import kafka
from stockweave.replay.spread import Counted, Progress, Ticks, over_partitions
from stockweave.replay.verify.verify import SCRATCH, PartitionCheck
from stockweave.settings import Settings

TAIL_EVENTS = 16
LONGER = 16


def run(settings: Settings, to: str | None, jobs: int, *, verify: bool, json: bool) -> None:
    """The command: make one, and say on stdout what it is; progress goes to stderr.

    Raises:
        Fatal: the rows are not what the updates say (with `verify`), or the place refuses; no checkpoint was made.
        Retriable: Kafka or the place does not answer; no checkpoint was made.
    """
    notes, out = (
        Console(stderr=True, highlight=False),
        Console(highlight=False, soft_wrap=True, markup=False, emoji=False),
    )
    began_s = time.monotonic()
    with kafka(settings, notes) as connected, scratch_folder(settings.data_dir) as folder:
        place = Place(to or default_address(settings))
        with Meter(notes, "checkpoint", 0, "records") as meter:
            made = create(connected, place, folder, jobs, meter, verify=verify)
    if json:
        out.print_json(data=listing.as_json(made.name, made, None) | {"address": made.address}, indent=None)
    else:
        out.print(listing.made_line(made, time.monotonic() - began_s))


def create(
    settings: Settings, place: Place, folder: Path, jobs: int, progress: Progress, *, verify: bool
) -> Checkpoint:
    """Make a checkpoint; what is half made is deleted when it fails.

    Args:
        settings: `bootstrap_servers` answers.
        place: where to.
        folder: scratch space, empty.
        jobs: processes.
        progress: told in records and updates.
        verify: fold the updates again, from the newest checkpoint that is itself proven or from the first, and compare.
    """
    bootstrap = settings.bootstrap_servers or ""
    topics = topics_in_use(settings, bootstrap)
    stock, updates = topics[STOCK.name], topics[UPDATES.name]
    partitions = range(stock.partitions)
    begin = _proven(settings, topics) if verify else None
    created_at = time.time_ns() // 1_000_000
    name = name_at(created_at)
    check = _check(settings, topics, folder, begin) if verify else None
    task = PartitionTask(settings, updates, stock.name, folder, place.address, name, created_at, check)
    ends = log_ends(bootstrap, stock.name, partitions)
    place.make_folder(name)
    whole = False
    try:
        done = over_partitions(task, partitions, jobs, progress, {p: high - low for p, (low, high) in ends.items()})
        manifest = Manifest(
            FORMAT,
            name,
            created_at,
            stock.number,
            TopicId.of(stock),
            {topic: TopicId.of(topics[topic]) for topic in FACT_TOPICS},
            [done[number].file for number in partitions],
        )
        if verify:
            events = sum(partition.events for partition in done.values())
            began = None if begin is None else begin.name
            manifest = replace(
                manifest, proof=Proof(time.time_ns() // 1_000_000, began, events, rules_digest(settings))
            )
        place.put(f"{name}/{MANIFEST}", encode(manifest))
        made = Checkpoint(place.address_of(name))
        if replace(made.manifest, sha256="") != manifest:
            raise Fatal(f"{made.address} reads otherwise than it was written; use another place")
        whole = True
    finally:
        if not whole:
            place.delete(name)
    return made


def _proven(settings: Settings, topics: Mapping[str, Deployed]) -> Checkpoint | None:
    """A checkpoint to fold on from: proven by these rules or, where the log was trimmed, by any."""
    bootstrap, partitions = settings.bootstrap_servers or "", range(topics[STOCK.name].partitions)
    starts = {p: low for p, (low, _) in log_ends(bootstrap, topics[UPDATES.name].name, partitions).items()}
    until = offsets(positions(bootstrap, topics[STOCK.name].name, partitions), partitions)
    rules = rules_digest(settings)
    found = covering(settings, topics, starts, until, lambda m: m.proof is not None and m.proof.rules == rules)
    if found is None and any(starts.values()):
        found = covering(settings, topics, starts, until, lambda m: m.proof is not None)
    return found


def _check(
    settings: Settings, topics: Mapping[str, Deployed], folder: Path, begin: Checkpoint | None
) -> PartitionCheck:
    seed = None if begin is None else partial(load_partition, begin.address)
    stock, updates = topics[STOCK.name], topics[UPDATES.name]
    bootstrap = settings.bootstrap_servers or ""
    return PartitionCheck(settings, bootstrap, updates.name, stock.name, folder, seed, False, stock.partitions)


@dataclass(frozen=True)
class PartitionMade:
    """What was written of a partition, and how many updates were folded again."""

    file: PartitionFile
    events: int


@dataclass(frozen=True)
class PartitionTask:
    """The task of one partition; see `create`.

    `stock`: deployed name; `address`, `name`: the place and the checkpoint; `check`: compares with the updates.
    """

    settings: Settings
    updates: Deployed
    stock: str
    folder: Path
    address: str
    name: str
    created_at: int
    check: PartitionCheck | None

    def __call__(self, partition: int, ticks: Ticks) -> PartitionMade:
        """Read the live rows, compare them with their updates, write them, read them back."""
        resources = Resources(self.settings.block_cache_bytes, self.settings.write_buffer_bytes)
        path = self.folder / str(partition) / "live"
        live, counted = PartitionStore(path, resources, SCRATCH), Counted(ticks)
        bootstrap = self.settings.bootstrap_servers or ""
        stock_end = read_live(bootstrap, self.stock, {partition: live}, counted.advance)[partition]
        counted.expect_more(0)
        position = live.position or Position({}, {})
        if position.updates_generation not in ("", self.updates.generation):
            raise Fatal(
                f"the rows of partition {partition} in {self.stock} stand for updates of a former topic "
                f"{self.updates.name}: no checkpoint of them could be gone on from; bring that topic back"
            )
        events = 0 if self.check is None else self._proved(partition, live, stock_end, counted)
        file = f"partition-{partition:05}.parquet"
        place = Place(self.address)
        with place.writing(f"{self.name}/{file}") as out:
            written = write(out, live.records())
        newest_at = _newest_at(bootstrap, self.updates.name, partition, position, self.created_at)
        known = PartitionFile(partition, file, *written, Stand.of(position), newest_at, stock_end)
        read_back(place, self.name, known, live)
        live.close()
        shutil.rmtree(path)
        return PartitionMade(known, events)

    def _proved(self, partition: int, live: PartitionStore, stock_end: int, counted: Counted) -> int:
        assert self.check is not None  # noqa: S101 - by the caller
        verdict = self.check.compared(partition, live, stock_end, counted, thorough=False)
        if not verdict.is_right:
            first = verdict.compared.first
            key = "" if first is None else f", the first under {first.key.decode(errors='backslashreplace')!r}"
            wrong = verdict.holds.differ or verdict.holds.disagree
            holds = [f"{wrong:,} holds are not what the facts of reservations say"] if wrong else []
            problems = "".join(f"; {problem}" for problem in [*verdict.tallies, *verdict.reservations, *holds])
            raise Fatal(
                f"no checkpoint was made: in partition {partition}, {verdict.compared.differ:,} rows are not what the "
                f"updates say{key}{problems}; `stockweave verify` tells more, `stockweave rebuild` mends them"
            )
        return verdict.events


def read_back(place: Place, name: str, known: PartitionFile, live: PartitionStore) -> None:
    """Compare a file that was written with the rows that it was written from, byte by byte.

    Raises:
        Fatal: they differ.
    """
    where = place.address_of(f"{name}/{known.file}")
    with place.reading(f"{name}/{known.file}") as opened:
        found = chain.from_iterable(read(opened, known, where))
        for mine in live.records():
            if next(found, None) != mine:
                raise Fatal(f"{where} reads otherwise than it was written, at key {mine[0]!r}; use another place")
        if next(found, None) is not None:
            raise Fatal(f"{where} has more rows than were written; use another place")


def _newest_at(bootstrap: str, updates: str, partition: int, position: Position, created_at: int) -> int:
    """When the last update below a position came into the log; where that is trimmed, it came before `created_at`."""
    end = position.offsets.get(UPDATES.name, 0)
    if end == 0:
        return 0
    low, _ = log_ends(bootstrap, updates, [partition])[partition]
    tail = TAIL_EVENTS
    while True:
        start = max(low, end - tail)
        last: Message | None = None
        for messages in Facts(bootstrap, updates, partition, start, end).batches(1_000):
            last = messages[-1]
        if last is not None:
            return last.timestamp()[1]
        if start <= low:
            return created_at
        tail *= LONGER
