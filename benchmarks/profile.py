"""The updates that every ingest benchmark is fed with: pure, drawn from a seed, in the order of each partition's log.

First the base, one COUNT of every source, so that deltas have something to change; then the mix. A part is the share of
one process: the SKUs of some partitions, so that several processes fill a topic at once and its order is still drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from inventory.stock import COUNT, DELTA, StockUpdate
from schemas.keys import partition_of

EPOCH_MS = 1_767_225_600_000
RECENT = 20_000  # a repeat is of one of so many latest updates


@dataclass(frozen=True)
class Profile:
    """What is drawn. `late_ms_max`: how far behind a late update is at most; a source hears one about every 500 s."""

    skus: int = 100_000
    suppliers: int = 5
    delta_share: float = 0.5
    duplicate_share: float = 0.05
    late_share: float = 0.03
    late_ms_max: int = 1_200_000
    seed: int = 7

    @property
    def base_events(self) -> int:
        """One COUNT of every source."""
        return self.skus * self.suppliers


def sku_name(number: int) -> str:
    """The SKU of a number."""
    return f"SKU-{number:07d}"


def skus_of(profile: Profile, partitions: int, part: int, parts: int) -> list[str]:
    """The SKUs whose partitions are those of `part`."""
    names = (sku_name(number) for number in range(profile.skus))
    return [sku for sku in names if partition_of(sku.encode(), partitions) % parts == part]


def base_ends(profile: Profile, partitions: int) -> list[int]:
    """Events of the base by partition."""
    ends = [0] * partitions
    for number in range(profile.skus):
        ends[partition_of(sku_name(number).encode(), partitions)] += profile.suppliers
    return ends


def share(total: int, profile: Profile, partitions: int, part: int, parts: int) -> int:
    """Of `total` events those of `part`, by its SKUs; all parts' add up to `total`."""
    counts = [0] * parts
    for number in range(profile.skus):
        counts[partition_of(sku_name(number).encode(), partitions) % parts] += 1
    ends = [total * sum(counts[: i + 1]) // profile.skus for i in range(parts)]
    return ends[part] - (ends[part - 1] if part else 0)


def base(profile: Profile, skus: Sequence[str], part: int, parts: int) -> Iterator[StockUpdate]:
    """One COUNT of every source of `skus`, in drawn order."""
    rng = random.Random(f"{profile.seed}/base/{part}")
    sources = [(sku, supplier) for sku in skus for supplier in range(profile.suppliers)]
    rng.shuffle(sources)
    for i, (sku, supplier) in enumerate(sources):
        yield _update(sku, supplier, f"b{part}-{i:09d}", COUNT, rng.randrange(1_000), EPOCH_MS + i * parts, 0)


def mix(profile: Profile, skus: Sequence[str], part: int, parts: int, events: int) -> Iterator[StockUpdate]:
    """`events` of the mix, after the base; time moves on by one millisecond an event over all parts."""
    rng = random.Random(f"{profile.seed}/mix/{part}")
    draw, below = rng.random, rng.randrange
    recent: list[StockUpdate] = []
    now_ms = EPOCH_MS + profile.base_events * parts
    late_below = profile.duplicate_share + profile.late_share
    for i in range(events):
        now_ms += parts
        drawn = draw()
        if drawn < profile.duplicate_share and recent:
            yield recent[below(len(recent))]
            continue
        late_ms = below(profile.late_ms_max) if drawn < late_below else 0
        kind, quantity = (DELTA, DELTAS[below(len(DELTAS))]) if draw() < profile.delta_share else (COUNT, below(1_000))
        sku = skus[below(len(skus))]
        update = _update(sku, below(profile.suppliers), f"m{part}-{i:09d}", kind, quantity, now_ms, late_ms)
        if len(recent) < RECENT:
            recent.append(update)
        else:
            recent[i % RECENT] = update
        yield update


DELTAS = (-5, -3, -2, -2, -1, -1, -1, -1, 1, 10)


def _update(
    sku: str, supplier: int, update_id: str, kind: str, quantity: int, received_at: int, late_ms: int
) -> StockUpdate:
    return {
        "sku": sku,
        "supplier_id": f"supplier-{supplier}",
        "location_id": "default",
        "update_id": update_id,
        "kind": kind,
        "quantity": quantity,
        "observed_at": received_at - late_ms,
        "received_at": received_at,
        "basis": "ON_HAND",
        "order_ref": None,
        "incoming": [],
        "stale_after_ms": None,
        "feed": "benchmark",
    }
