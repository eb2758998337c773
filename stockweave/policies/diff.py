"""Which SKUs' numbers a change of policies would touch: the live rows, by the present policies and by the changed ones.

Invariant: nothing of the deployment is written, and both numbers of a row are of one moment. A partition is read by a
process of its own, as in a replay.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from inventory.availability import availability
from inventory.policies import DEFAULT_CHANNEL, Policies
from schemas.keys import partition_of
from schemas.policies import CHANNEL, SKU, Policy, kind_of
from schemas.rows import StockRow, decode_row
from state.database import Resources
from state.store import PartitionStore
from stockweave.replay.live import read_live
from stockweave.replay.spread import Counted, Ticks
from stockweave.settings import Settings


class Touched(NamedTuple):
    """A number that would change: what could be sold of a SKU in a channel, and what could then."""

    sku: str
    channel: str
    before: int
    after: int


@dataclass(frozen=True)
class Difference:
    """Of one partition: rows looked at, SKUs touched, and the first of their numbers, in the order of SKUs."""

    rows: int
    skus: int
    first: list[Touched]


@dataclass(frozen=True)
class DiffTask:
    """The task of one partition.

    `topic`: of the live generation, as deployed; `policies`: that hold; `changed`: as they would be; `shown_max`: of
    numbers.
    """

    settings: Settings
    topic: str
    policies: list[Policy]
    changed: list[Policy]
    folder: Path
    shown_max: int

    def __call__(self, partition: int, ticks: Ticks) -> Difference:
        """Read the live rows and compute each number twice."""
        before = Policies({policy.scope: policy for policy in self.policies})
        after = before.changed(*self.changed, revision=0)
        channels = channels_of(after.by_scope)
        now_ms = time.time_ns() // 1_000_000
        path = self.folder / str(partition)
        resources = Resources(self.settings.block_cache_bytes, self.settings.write_buffer_bytes)
        store = PartitionStore(path, resources, "diff")
        counted = Counted(ticks)
        read_live(self.settings.bootstrap_servers or "", self.topic, {partition: store}, counted.advance)
        ticks.expect(counted.count)
        rows, skus = 0, 0
        first: list[Touched] = []
        for _, value in store.rows():
            rows += 1
            touched = touched_of(decode_row(value), before, after, channels, now_ms)
            skus += bool(touched)
            first += touched[: self.shown_max - len(first)]
        store.close()
        shutil.rmtree(path)
        return Difference(rows, skus, first)


def touched_of(row: StockRow, before: Policies, after: Policies, channels: Iterable[str], now_ms: int) -> list[Touched]:
    """The numbers of a row that differ, or what may be sold beyond them."""
    found = []
    for channel in channels:
        old, new = (availability(row, policies.rules(row.sku, channel), now_ms) for policies in (before, after))
        if old[:4] != new[:4]:
            found.append(
                Touched(row.sku, channel, old.available + old.backorderable, new.available + new.backorderable)
            )
    return found


def channels_of(scopes: Iterable[str]) -> list[str]:
    """The channels that have a policy, and the default one, which stands for all others."""
    named = {scope.partition(":")[2] for scope in scopes if kind_of(scope) == CHANNEL}
    return [DEFAULT_CHANNEL, *sorted(named - {DEFAULT_CHANNEL})]


def partitions_of(changed: Iterable[Policy], partitions: int) -> Sequence[int]:
    """Where the rows lie that a change may touch."""
    scopes = [policy.scope for policy in changed]
    if all(kind_of(scope) == SKU for scope in scopes):
        return sorted({partition_of(scope.partition(":")[2].encode(), partitions) for scope in scopes})
    return range(partitions)
