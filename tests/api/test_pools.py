"""Pools from end to end: policies, two suppliers' counts, a worker that folds and decides, and what the API reads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from inventory.stock import StockUpdate
from schemas.reservations import HELD, REFUSED
from schemas.topics import COMMANDS
from tests.api.stock import Reader, Stock
from tests.api.test_policies import decide
from tests.deployment import Deployment, drive, drive_events
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.inventory.reservations.builders import command


def counted(supplier: str, at: int, units: int) -> StockUpdate:
    return update(Event("COUNT", f"c-{at}", at, units), sku="milk", supplier_id=supplier)


def hold(own_id: str, units: int) -> dict[str, Any]:
    return dict(command(sku="milk", reservation_id=own_id, command_id=own_id, order_id=own_id, quantity=units))


def decided(deployment: Deployment, commands: int) -> bool:
    positions = deployment.stock().positions.values()
    return sum(position.offsets.get(COMMANDS.name, 0) for position in positions) >= commands


def worked(deployment: Deployment) -> None:
    """A worker folds the first counts, decides two holds, and folds another count."""
    engine, identity = deployment.engine("worker")
    drive_events(
        engine, deployment.publish([counted("erp", 1_000, 10), counted("wms", 2_000, 8), counted("shop", 500, 1)])
    )
    asked = deployment.ask([hold("r1", 5), hold("r2", 5)])
    drive(engine, lambda: decided(deployment, asked))
    drive_events(engine, deployment.publish([counted("erp", 3_000, 9)]))
    engine.processor.close()
    identity.release()


async def test_two_suppliers_that_count_one_warehouse_are_sold_once(stock: Stock, tmp_path: Path) -> None:
    prefix, partitions = stock.settings.topic_prefix, stock.settings.partitions
    deployment = Deployment(stock.bootstrap_servers, tmp_path / "workers", partitions, prefix)
    for supplier in ("erp", "wms"):
        await decide(stock, f"supplier:{supplier}", "pool=main")
    await asyncio.to_thread(worked, deployment)
    seen = deployment.stock()
    assert [seen.holds[own_id].state for own_id in ("r1", "r2")] == [HELD, REFUSED]
    assert [(part.supplier_id, part.quantity) for part in seen.holds["r1"].parts] == [("wms", 5)]
    async with Reader(stock) as reader:
        assert (await reader.item("milk"))["available_quantity"] == 9 - 5 + 1
        whole = await reader.get("/api/v1/inventory/milk")
        told = ("on_hand", "reserved", "counts", "standing")
        assert {source["supplierId"]: tuple(source[name] for name in told) for source in whole["sources"]} == {
            "erp": (9, 5, 4, "COUNTED"),
            "wms": (8, 0, 0, "SAME_STOCK"),
            "shop": (1, 0, 1, "COUNTED"),
        }
