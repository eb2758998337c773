"""Folds the updates of one partition again, from a position on, into a scratch store.

Invariant: the store ends at exactly the position that is returned, rows and position together, and the fold is the
workers' own. Rows wait in memory between batches up to a bound, since a replay has no commit to write them for. Called
by verify and by checkpoints, in one process per core (see `spread`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

from schemas import keys, rows
from schemas.rows import Position
from schemas.topics import UPDATES
from state.store import PartitionStore
from stockweave.replay.facts import Facts
from streams.batch import Batch, Folder, Part

EVENTS_MAX = 100_000  # in a batch: a row that is hit again within it is decoded and encoded once
WAITING_BYTES_MAX = 96 << 20
WAITING_ROW_BYTES = 200  # what Python takes for a key and a row beside the row's bytes


class WaitingRows:
    """Rows above a store: read here first, written to it together when they grow too large.

    Args:
        store: what lies below.
        bytes_max: of keys and rows that wait.
    """

    def __init__(self, store: PartitionStore, bytes_max: int) -> None:
        self._store = store
        self._bytes_max = bytes_max
        self._bytes = 0  # at the most: a row that was replaced is counted twice, until the sum is taken anew
        self._rows: dict[bytes, bytes] = {}

    def get_many(self, row_keys: Sequence[bytes]) -> list[bytes | None]:
        """The present values of many keys, None where there is none."""
        waiting = self._rows
        found: list[bytes | None] = [waiting.get(key) for key in row_keys]
        missing = [i for i, row in enumerate(found) if row is None]
        if missing:
            for i, row in zip(missing, self._store.get_many([row_keys[i] for i in missing]), strict=True):
                found[i] = row
        return found

    def put(self, changed: Mapping[bytes, bytes], position: Position) -> None:
        """Take changed rows in; `position` is what they and all before them stand for."""
        self._rows.update(changed)
        self._bytes += _bytes_of(changed)
        if self._bytes > self._bytes_max:
            self._bytes = _bytes_of(self._rows)
            if self._bytes > self._bytes_max // 2:
                self.flush(position)

    def flush(self, position: Position) -> None:
        """Write all that waits, with its position."""
        changed: dict[bytes, bytes | None] = {**self._rows, keys.POSITION: rows.encode(position)}
        self._store.write(changed, position.offsets.get(UPDATES.name, 0))
        self._rows = {}
        self._bytes = 0


def _bytes_of(held: Mapping[bytes, bytes]) -> int:
    return sum(map(len, held.values())) + len(held) * WAITING_ROW_BYTES


def refold(
    facts: Facts,
    folder: Folder,
    store: PartitionStore,
    seed: Position | None = None,
    on_events: Callable[[int], None] = lambda _: None,
) -> Position:
    """Fold all of `facts` into `store`.

    Args:
        facts: they begin at the seed's offset, or at 0.
        folder: the workers' fold.
        store: empty, or with the rows of `seed`; afterwards with those of the result.
        seed: where to go on from.
        on_events: told how many events each batch had.

    Returns:
        The position after the last of `facts`.

    Raises:
        Fatal: the log lacks a part of `facts`.
        Retriable: Kafka or the registry does not answer.
    """
    position = seed or Position({}, {})
    waiting = WaitingRows(store, WAITING_BYTES_MAX)
    with no_cycle_search():
        for messages in facts.batches(EVENTS_MAX):
            part = Part(facts.partition, cast("PartitionStore", waiting), position, messages)
            [folded] = folder.fold(Batch([part], None))
            position = folded.position
            waiting.put(folded.rows, position)
            on_events(len(messages))
            messages.clear()  # nobody looks at them again, and the next ones are about to come
    waiting.flush(position)
    return position


@contextmanager
def no_cycle_search() -> Iterator[None]:
    """Python's search for cycles stays off in the block: a fold makes none, and the search takes 40 % of its time."""
    was_on = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()
