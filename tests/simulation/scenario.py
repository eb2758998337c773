"""The sizes of a run, and the policies that hold from its beginning to its end; drawn of a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tests.simulation.pools import Pools

DAY_MS = 86_400_000
LONG_MS = 30 * DAY_MS
NO_POOLS = Pools({})


@dataclass(frozen=True)
class Scenario:
    """The sizes of a run: few of everything, so that things meet.

    `trims`: the log of updates loses its beginning; `tears`: Kafka loses markers of transactions; `retention_ms`: how
    long holds are kept after their end; `pools`: that policies declare, from the beginning on.
    """

    partitions: int
    workers: int
    skus: int
    events: int
    batch_events_max: int
    row_cache_bytes: int
    horizon_ms: int
    entries_max: int
    commands: int = 60
    trims: bool = False
    tears: bool = True
    retention_ms: int = LONG_MS
    pools: Pools = NO_POOLS

    @classmethod
    def drawn(cls, rng: random.Random) -> Scenario:
        """Of a seed."""
        return cls(
            partitions=rng.choice((1, 2, 2, 3)),
            workers=rng.choice((1, 2, 2, 3)),
            skus=rng.randint(2, 10),
            events=rng.randint(200, 240),
            batch_events_max=rng.choice((1, 5, 20, 1_000)),
            row_cache_bytes=rng.choice((0, 1_500, 6_000, 1 << 20)),
            horizon_ms=rng.choice((8_000, 20_000, 10 * DAY_MS)),
            entries_max=rng.choice((2, 5, 256)),
            commands=rng.choice((0, 0, 20, 60)),
            trims=rng.random() < 0.3,
            tears=rng.random() < 0.4,
        )

    def with_retention(self, rng: random.Random) -> Scenario:
        """How long holds are kept is drawn last, so that the rest of a seed is what it was before they were forgotten.

        Most are kept for so little that many of a run are forgotten in it, and asked for again.
        """
        return replace(self, retention_ms=rng.choice((LONG_MS, DAY_MS, DAY_MS)))

    def with_pools(self, rng: random.Random) -> Scenario:
        """Which sources describe one stock: drawn after all else, for the same reason."""
        return replace(self, pools=Pools.drawn(rng, reserved=self.commands > 0))
