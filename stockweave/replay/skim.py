"""Folds of one partition's updates what can still show in its rows: the same rows as `refold`, several times as fast.

The fold is the workers' own; what is left out is what a later count of the same stretch makes superfluous (see
`inventory.lasting`). Outcomes are not tallied, since what is left out has none. Called by verify, which folds
everything wherever the two sides differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pyarrow as pa
from confluent_kafka import Message
from msgspec.structs import replace

from inventory.fold import fold
from inventory.lasting import lasting
from inventory.stock import CONFLICT, Limits
from inventory.updates import Updates
from schemas.codec import Codec
from schemas.rows import Position
from schemas.topics import UPDATES
from state.store import PartitionStore
from stockweave.replay.facts import Facts
from stockweave.replay.refold import WAITING_BYTES_MAX, WaitingRows, no_cycle_search
from streams.batch import Batch, Folder, Part, keyed_by_sku, placed_in

CHUNK_EVENTS_MAX = 50_000  # decoded at once
STRETCH_EVENTS_MAX = 750_000  # the longer, the more of it is superfluous; about 200 bytes each


def skim(
    facts: Facts,
    codec: Codec,
    limits: Limits,
    store: PartitionStore,
    seed: Position | None = None,
    on_events: Callable[[int], None] = lambda _: None,
    partitions: int | None = None,
) -> Position:
    """As `refold`, by the workers' codec and limits; the outcomes of the returned position are those of the seed."""
    skimmer = _Skimmer(codec, limits, store, facts.partition, seed or Position({}, {}), partitions)
    with no_cycle_search():
        for messages in facts.batches(CHUNK_EVENTS_MAX):
            skimmer.take(messages)
            on_events(len(messages))
            messages.clear()
        skimmer.finish()
    return skimmer.position


class _Skimmer:
    def __init__(
        self,
        codec: Codec,
        limits: Limits,
        store: PartitionStore,
        partition: int,
        position: Position,
        partitions: int | None,
    ) -> None:
        self.position = position
        self._codec, self._limits, self._partition = codec, limits, partition
        self._folder = Folder(codec, limits, partitions)
        self._is_here = placed_in(partition, partitions)
        self._rows = WaitingRows(store, WAITING_BYTES_MAX)
        self._stretch: list[pa.RecordBatch] = []
        self._events = 0
        self._next_offset = position.offsets.get(UPDATES.name, 0)

    def take(self, messages: list[Message]) -> None:
        """Take the next messages in; what is not decoded in columns is folded by itself, in its place."""
        batch = self._codec.arrow([message.value() for message in messages])
        if batch is not None and keyed_by_sku(batch, [message.key() for message in messages]):
            self._stretch.append(batch)
            self._events += len(messages)
            self._next_offset = cast("int", messages[-1].offset()) + 1
            if self._events >= STRETCH_EVENTS_MAX:
                self._fold_stretch()
            return
        self._fold_stretch()
        part = Part(self._partition, cast("PartitionStore", self._rows), self.position, messages)
        [folded] = self._folder.fold(Batch([part], None))
        self._next_offset = folded.position.offsets[UPDATES.name]
        self._put(folded.rows)

    def finish(self) -> None:
        """Fold what is left, and write all."""
        self._fold_stretch()
        self._rows.flush(self.position)

    def _fold_stretch(self) -> None:
        if not self._stretch:
            return
        stretch = pa.Table.from_batches(self._stretch).combine_chunks().to_batches()[0]
        self._stretch, self._events = [], 0
        chosen = lasting(stretch)
        rows, refused = self._fold(stretch.take(pa.array(chosen.places)))
        rejected = {int(chosen.places[i]) for i, reason in refused if reason != CONFLICT}
        if not rejected.isdisjoint(chosen.rests_on.tolist()):
            rows, _ = self._fold(stretch)
        self._put(rows)

    def _fold(self, stretch: pa.RecordBatch) -> tuple[dict[bytes, bytes], list[tuple[int, str]]]:
        keys = stretch.column("sku").cast(pa.binary()).to_pylist()
        updates = Updates.of_batch(stretch)
        folded = fold(updates, keys, range(len(keys)), self._rows.get_many, self._limits, self._is_here)
        return folded.rows, folded.refused

    def _put(self, rows: dict[bytes, bytes]) -> None:
        outcomes, before = self.position.outcomes, self.position
        offsets = {**before.offsets, UPDATES.name: self._next_offset}
        self.position = replace(before, offsets=offsets, outcomes=outcomes)
        self._rows.put(rows, self.position)
