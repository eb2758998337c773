"""Folds one partition of a candidate generation: goes on from what its topic holds, and commits rows with positions.

Invariant: the local store never holds what Kafka has not committed, and the candidate's topic never a position without
the rows that it stands for; so whatever kills it, the next run goes on from the last committed position. Run for each
partition by `rebuild`, in a process per core.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

from inventory.alerts import never_looked_at
from inventory.digest import DIGEST_BYTES, PartitionDigest
from schemas import keys, rows
from schemas.admin import Deployed
from schemas.generations import FACTS, PREVIOUS, Plan
from schemas.rows import Position
from schemas.topics import UPDATES
from state.database import Resources
from state.store import PartitionStore
from stockweave.errors import Fatal
from stockweave.replay.checkpoint.load import load_partition
from stockweave.replay.facts import Facts
from stockweave.replay.live import read_live
from stockweave.replay.rebuild.positions import Reach
from stockweave.replay.rebuild.record import rebuild_writer
from stockweave.replay.refold import refold
from stockweave.replay.reservations import apply_facts, drop_forgotten
from stockweave.replay.spread import Counted, Ticks
from stockweave.replay.verify.compare import Entry, pairs
from stockweave.replay.verify.verify import folder_of
from stockweave.settings import Settings
from stockweave.writer import Anchor, Produce, Writer

STRETCH_EVENTS = 500_000
"""Of the log, whose rows are one transaction unless they grow too large before: what a stop may cost again, and what a
row that is hit often is written once for."""
COPY_BYTES_MAX = 32 << 20  # of rows that are taken over, in a transaction


@dataclass(frozen=True)
class Candidate:
    """What is built; it travels to the processes. Topics as deployed; `previous`: where the plan begins with it."""

    settings: Settings
    updates: str
    topic: Deployed
    live: Deployed
    previous: Deployed | None
    plan: Plan
    folder: Path

    @property
    def bootstrap_servers(self) -> str:
        """Of its Kafka."""
        return self.settings.bootstrap_servers or ""

    def store(self, partition: int, name: str, generation: str) -> PartitionStore:
        """A store of this run, made or opened again."""
        resources = Resources(self.settings.block_cache_bytes, self.settings.write_buffer_bytes)
        return PartitionStore(self.folder / str(partition) / name, resources, generation)

    @contextmanager
    def opened(self, partition: int, name: str, generation: str) -> Iterator[PartitionStore]:
        """The same, closed at the end of the block."""
        store = self.store(partition, name, generation)
        try:
            yield store
        finally:
            store.close()

    def begins_with(self, partition: int) -> Deployed | str | None:
        """What a partition is folded on from: a generation to copy, the address of a checkpoint, or nothing."""
        if self.plan.partitions is not None and partition not in self.plan.partitions:
            return self.live
        if self.plan.begin == PREVIOUS:
            return self.previous
        return None if self.plan.begin == FACTS else self.plan.begin


@dataclass(frozen=True)
class Advance:
    """What a run did to a partition: where it is now, `events` (updates and facts) folded, in `seconds`."""

    at: Reach
    events: int
    seconds: float


@dataclass(frozen=True)
class FoldTask:
    """Takes a partition's writing over, folds updates and then applies facts of reservations; see the module.

    `until`: by partition, of one live position. It is never past the live generation's: what the workers have not
    folded they have not refused either, and only they write dead letters. A checkpoint may be past it, where the live
    rows are lost: the candidate stands there then, for that was a live position once.
    """

    candidate: Candidate
    until: dict[int, Reach]

    def __call__(self, partition: int, ticks: Ticks) -> Advance:
        """Restore, begin if nothing is there, fold.

        Raises:
            Fatal: the log lacks updates, another rebuild has taken over, or outcomes and events differ.
            Retriable: Kafka does not answer; the next run goes on.
        """
        made = self.candidate
        writer = rebuild_writer(made.settings, str(partition))
        try:
            writer.take_over()  # first: nothing that a former rebuild left open becomes visible after this
            with made.opened(partition, "rows", made.topic.generation) as store:
                read_live(made.bootstrap_servers, made.topic.name, {partition: store})
                published = PublishedStore(writer, made.topic.name, partition, store)
                taken_over = Counted(ticks)
                if store.position is None:
                    self._begin(partition, published, taken_over)
                return self._fold(partition, published, ticks, taken_over.count)
        finally:
            writer.close()

    def _begin(self, partition: int, published: PublishedStore, ticks: Ticks) -> None:
        """Take the rows over that the plan begins with, position last."""
        made = self.candidate
        source = made.begins_with(partition)
        if source is None:
            return
        generation = source.generation if isinstance(source, Deployed) else "checkpoint"
        with made.opened(partition, "begin", generation) as begin:
            if isinstance(source, Deployed):
                read_live(made.bootstrap_servers, source.name, {partition: begin}, ticks.advance)
                position = begin.position
            else:
                position = load_partition(source, partition, begin)
            if position is not None:
                published.become(begin, position)

    def _fold(self, partition: int, published: PublishedStore, ticks: Ticks, taken_over: int) -> Advance:
        made, until, began_s = self.candidate, self.until[partition], time.monotonic()
        begun = published.store.position or Position({}, {})
        start, end = begun.offsets.get(UPDATES.name, 0), until.updates
        ticks.expect(taken_over + Reach(start, begun.facts).behind(until))
        counted, position = Counted(ticks), begun
        folder = folder_of(made.settings, made.topic.partitions)
        for at in range(start, end, STRETCH_EVENTS):
            stretch = Facts(made.bootstrap_servers, made.updates, partition, at, min(end, at + STRETCH_EVENTS))
            position = refold(stretch, folder, cast("PartitionStore", published), position, counted.advance)
        if position.events() - begun.events() != counted.count:
            raise Fatal(
                f"partition {partition}: {counted.count:,} updates were read, and the outcomes grew by "
                f"{position.events() - begun.events():,}; a defect of ours: the candidate must not become live"
            )
        applied = apply_facts(made.settings, partition, published, position, until.facts, ticks.advance)
        if applied.position.facts < until.facts or applied.problems:
            raise Fatal(
                f"{'; '.join(applied.problems)}: the log of reservations has lost a part, and its holds cannot be made "
                "anew; restore it from a copy"
            )
        drop_forgotten(published, applied.position, until.forgotten_to)
        at_last = Reach(position.offsets.get(UPDATES.name, 0), applied.position.facts)
        return Advance(at_last, counted.count + applied.count, time.monotonic() - began_s)


class PublishedStore:
    """A partition's store whose every write is a transaction in the candidate's topic first."""

    def __init__(self, writer: Writer, topic: str, partition: int, store: PartitionStore) -> None:
        self.store = store
        self._writer = writer
        self._topic = topic
        self._partition = partition

    def get_many(self, row_keys: Sequence[bytes]) -> list[bytes | None]:
        """As the store's."""
        return self.store.get_many(row_keys)

    def holds(self) -> Iterator[Entry]:
        """As the store's."""
        return self.store.holds()

    def write(self, changed: Mapping[bytes, bytes | None], next_offset: int) -> None:
        """Commit rows in the order of their keys, the position last, and then write them to the store.

        `next_offset` is the caller's; this store's is that of the candidate's topic.
        """
        anchor, ordered = Anchor(), sorted(key for key in changed if key != keys.POSITION)
        if keys.POSITION in changed:
            ordered.append(keys.POSITION)

        def records(produce: Produce) -> None:
            for key in ordered[:-1]:
                produce(self._topic, changed[key], key, self._partition)
            produce(self._topic, changed[ordered[-1]], ordered[-1], self._partition, on_delivery=anchor)

        self._writer.commit(records)
        self.store.write(changed, anchor.offset + 1, anchor.offset if keys.POSITION in changed else None)

    def become(self, other: PartitionStore, position: Position) -> None:
        """Take the rows and holds of `other` over, and then its position.

        A run that was stopped within leaves rows without a position; the next one takes over what differs. What was
        told of the rows there is not taken over: it may be long ago, and nobody looks while a replay goes on. Whoever
        gets the candidate looks for itself.
        """
        changed: dict[bytes, bytes | None] = {}
        waiting_bytes = 0
        for key, mine, copied in pairs(self.store.records(), other.records()):
            theirs = copied if copied is None or key < keys.ROW_FIRST else never_looked_at(copied)
            if mine == theirs:
                continue
            changed[key] = theirs
            waiting_bytes += len(key) + len(theirs or b"")
            if waiting_bytes > COPY_BYTES_MAX:
                self.write(changed, 0)
                changed, waiting_bytes = {}, 0
        self.write({**changed, keys.POSITION: rows.encode(position)}, 0)


@dataclass(frozen=True)
class Proof:
    """What was read back of a partition, and found to be what was folded.

    `holds`, `facts`: of reservations; `offset`: of updates; `digest`: of rows, holds and what else there is.
    """

    rows: int
    holds: int
    digest: str
    events: int
    facts: int
    offset: int


@dataclass(frozen=True)
class ProofTask:
    """Reads a partition of the candidate's topic into an empty store and compares it with what was folded."""

    candidate: Candidate

    def __call__(self, partition: int, ticks: Ticks) -> Proof:
        """Compare.

        Raises:
            Fatal: they differ, or the outcomes are more than the updates.
            Retriable: Kafka does not answer.
        """
        made = self.candidate
        with (
            made.opened(partition, "rows", made.topic.generation) as folded,
            made.opened(partition, "read-back", made.topic.generation) as read,
        ):
            read.reset()
            counted = Counted(ticks)
            read_live(made.bootstrap_servers, made.topic.name, {partition: read}, counted.advance)
            ticks.expect(counted.count)
            mine, theirs = _content(folded), _content(read)
            where = f"partition {partition} of {made.topic.name}"
            if (mine, folded.position_bytes) != (theirs, read.position_bytes):
                raise Fatal(
                    f"{where} was read back otherwise than it was folded ({theirs}, instead of {mine}): something else "
                    "writes it, or Kafka lost a part; begin anew with `stockweave rebuild --restart`"
                )
            position = read.position or Position({}, {})
            events, offset = position.events(), position.offsets.get(UPDATES.name, 0)
            if events > offset:
                raise Fatal(
                    f"{where} tells {events:,} outcomes of the updates below offset {offset:,}: some were counted "
                    "twice; begin anew with `stockweave rebuild --restart`, without `--partitions` or `--back`"
                )
            return Proof(theirs.rows, theirs.holds, theirs.digest, events, position.facts, offset)


class _Content(NamedTuple):
    """What a store has: two that are equal mean the same."""

    rows: int
    holds: int
    digest: str

    def __str__(self) -> str:
        return f"{self.rows:,} rows, {self.holds:,} holds, digest {self.digest}"


def _content(store: PartitionStore) -> _Content:
    """Rows by what they mean, all else by its bytes."""
    of_rows, of_others = PartitionDigest(), hashlib.blake2b(digest_size=DIGEST_BYTES)
    holds = others = 0
    for key, value in store.records():
        if key >= keys.ROW_FIRST:
            of_rows.add(key, value)
        else:
            others += 1
            holds += key.startswith(keys.HOLD_PREFIX)
            of_others.update(b"".join(len(part).to_bytes(4, "big") + part for part in (key, value)))
    digest = of_rows.hexdigest() + (of_others.hexdigest() if others else "")
    return _Content(of_rows.rows, holds, digest)
