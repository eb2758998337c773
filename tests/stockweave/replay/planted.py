"""A log with one SKU whose story is known, bugs to plant in its rows, and verify as its command runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from inventory.stock import StockUpdate
from schemas.rows import Delta, Source, StockRow
from schemas.topics import UPDATES
from stockweave.replay.scratch import scratch_folder
from stockweave.replay.verify.divergence import Parting
from stockweave.replay.verify.verify import Verdict, parting_of, verify
from tests.deployment import Deployment, some_updates
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.stockweave.replay.rebuild.writer import Spoil

VICTIM = "0-victim"  # before all others in the order of keys
SOURCE = "acme\x1fdefault"
BASE_MS = 1_700_000_000_000


class Quiet:
    """Progress that nobody sees."""

    def advance(self, count: int) -> None:
        pass

    def expect(self, total: int) -> None:
        pass


def story(deltas: int = 12, others: int = 240, sku: str = VICTIM) -> list[StockUpdate]:
    """A count of 100 and `deltas` sales of 1, 2, 3… units (`sale-0`…) of one SKU, among updates of others."""
    among = some_updates(others)
    made = [*among[:10], update(Event("COUNT", "count", BASE_MS, 100), sku=sku)]
    step = (others - 10) // deltas
    for i in range(deltas):
        made += among[10 + i * step : 10 + (i + 1) * step]
        made.append(update(Event("DELTA", f"sale-{i}", BASE_MS + 1_000 * (i + 1), -(i + 1)), sku=sku))
    return made


def at(update_id: str, change: Callable[[Source], None], sku: str = VICTIM) -> Spoil:
    """A bug: the batch with this update leaves the SKU's source changed."""

    def spoil(rows: dict[str, StockRow], ids: list[str]) -> None:
        if update_id in ids:
            row = rows[sku]
            source = row.sources[SOURCE]
            before = source.on_hand
            change(source)
            row.on_hand += source.on_hand - before

    return spoil


def without(update_id: str) -> Callable[[Source], None]:
    def change(source: Source) -> None:
        source.deltas = [delta for delta in source.deltas if delta.id != update_id]

    return change


def twice(update_id: str) -> Callable[[Source], None]:
    def change(source: Source) -> None:
        source.deltas = sorted([*source.deltas, *(d for d in source.deltas if d.id == update_id)], key=lambda d: d.at)

    return change


def quantity(update_id: str, wrong: int) -> Callable[[Source], None]:
    def change(source: Source) -> None:
        source.deltas = [Delta(d.at, d.id, wrong) if d.id == update_id else d for d in source.deltas]

    return change


def offset_of(deployment: Deployment, update_id: str, repeat: int = 0) -> tuple[int, int]:
    """Partition and offset of an update, or of its repeat."""
    found = []
    for message in deployment.read(UPDATES.name):
        [decoded] = deployment.codec.decode([message.value()])
        if cast("dict[str, object]", decoded)["update_id"] == update_id:
            found.append((cast("int", message.partition()), cast("int", message.offset())))
    return found[repeat]


def verified(deployment: Deployment, jobs: int = 1, *, thorough: bool = False) -> tuple[Verdict, Parting | None]:
    with scratch_folder(Path(deployment.folder)) as folder:
        verdict = verify(deployment.base, folder, jobs, Quiet(), thorough=thorough)
    return verdict, parting_of(deployment.base, verdict)
