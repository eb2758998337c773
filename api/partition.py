"""A partition's store as the API reads it: answers only once it has caught up, and while it is not being replaced.

Invariant: a reader never sees a half-read store, so a missing row means an unknown SKU. The follower's thread writes
and may delete the store to read it again; the event loop and the listing thread read. Made by `api.view`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from schemas.topics import COMMANDS, UPDATES
from state.catching_up import PASS_S, CatchingUp
from state.store import PartitionStore
from stockweave.errors import Retriable
from stockweave.world import Disk

AWAITED = (UPDATES, COMMANDS)
"""The topics whose effect a request may wait for."""


class ViewPartition(PartitionStore):
    """The store of one partition, guarded.

    RocksDB lets no folder be opened anew while an iterator on it lives, so readers hold the gate only for one call and
    take whole results out of it. Whoever replaces the store shuts readers out under the gate, and works outside it: to
    delete many files takes long, and a reader that waited would hold up the event loop.

    Args:
        number: of the partition.
        path, disk, generation: see `PartitionStore`.
        pass_s: see `CatchingUp`.
    """

    def __init__(self, number: int, path: Path, disk: Disk, generation: str, pass_s: float = PASS_S) -> None:
        self.number = number
        self.floor: Mapping[str, int] = {}  # what readers have seen of each topic: before, nothing is answered
        self.catching_up = CatchingUp(pass_s)
        self.end: int | None = None  # the topic's end as last heard; the event loop writes, any thread reads
        self.caught_up = False  # the follower's thread writes, under the gate where it matters; any thread reads
        self._shut = (
            False  # while the store is away, or closed; the follower's thread writes, readers look under the gate
        )
        self._gate = threading.Lock()
        super().__init__(path, disk, generation)

    def next_offset(self, topic: str) -> int:
        """The next offset of a source topic, by catalogue name, that is not in the rows yet."""
        position = self.position
        return 0 if position is None else position.offsets.get(topic, 0)

    def next_offsets(self) -> dict[str, int]:
        """Of every topic that readers wait for: a reader who has seen these is shown nothing older."""
        return {topic.name: self.next_offset(topic.name) for topic in AWAITED}

    def is_past(self, offsets: Mapping[str, int]) -> bool:
        """Whether it is at or past the next offsets of topics."""
        return all(self.next_offset(topic) >= offset for topic, offset in offsets.items())

    @property
    def lag(self) -> int:
        """Records of the topic that are not in the store, control records among them; as last heard."""
        return max(0, (self.end or 0) - self.mark.next_offset)

    def read(self, row_keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of `row_keys`, None where there is none.

        Raises:
            Retriable: the partition has not caught up, so that nothing can be said.
        """
        with self._gate:
            self._check()
            return self.get_many(row_keys)

    def page(self, first: bytes, rows_max: int) -> list[tuple[bytes, bytes]]:
        """Up to `rows_max` rows in the order of their keys, from `first` on.

        Raises:
            Retriable: as `read`.
        """
        with self._gate:
            self._check()
            rows: Any = self.rows(first)
            with closing(rows):
                return list(islice(rows, rows_max))

    def keys(self, prefix: bytes, of_value: bytes, keys_max: int) -> list[bytes]:
        """Up to `keys_max` reserved keys that begin with `prefix`, in their order, of those that have a value.

        Raises:
            Retriable: as `read`.
        """
        with self._gate:
            self._check()
            found: Any = self.beginning_with(prefix)
            with closing(found):
                return list(islice((key for key, value in found if value == of_value), keys_max))

    def rows_estimate(self) -> int:
        """How many rows there are, as RocksDB reckons: too many by what was changed lately; 0 while it is away."""
        with self._gate:
            if self._shut:
                return 0
            return super().rows_estimate()

    def reset(self) -> None:
        """As `PartitionStore.reset`; readers are turned away until the partition has caught up again."""
        self._shut_out()
        super().reset()
        self._shut = False

    def close(self) -> None:
        """As `PartitionStore.close`; readers are turned away."""
        self._shut_out()
        super().close()

    def _shut_out(self) -> None:
        """Whoever reads has done so when this returns, and nobody else begins."""
        with self._gate:
            self.caught_up, self._shut = False, True

    def _check(self) -> None:
        if not self.caught_up:
            raise Retriable(f"partition {self.number} of the view is still being read; try again, or watch /readyz")
