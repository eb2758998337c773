"""What holds for every kind that can be simulated, through a real Kafka, while its supplier fails and changes.

A kind that `connectors.testing.simulate` starts is held to it by that alone; the topic of a Kafka is described here.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from connectors.testing.simulate import SECRET, STARTS, Config, Stock
from tests.connectors.kafka.test_source import Supplier
from tests.connectors.running import Running, units

OFFERS, SHARE, SEED, CHANGES = 150, 0.15, 11, 2


class Dateless(Stock):
    """His files are of one second, as on a server that tells no less: then the later name is the later file."""

    def write(self) -> None:
        self._files += 1
        fresh = self.out / ".fresh"
        fresh.write_text("\n".join(["Artikel;Bestand", *(f"{row['code']};{row['stock']}" for row in self.rows)]) + "\n")
        os.utime(fresh, (1_790_000_000, 1_790_000_000))
        fresh.rename(self.out / f"stock-{self._files:06}.csv")


class Topic(Stock):
    """His topic has each change of an offer."""

    supplier: Supplier

    def write(self) -> None:
        self.supplier.tell(0, **{row["code"]: row["stock"] for row in self.rows})


@asynccontextmanager
async def kafka(stock: Stock) -> AsyncIterator[Config]:
    assert isinstance(stock, Topic)
    yield stock.supplier.feed(within_s=3_600.0)


KINDS: dict[str, Callable[[Stock], AbstractAsyncContextManager[Config]]] = STARTS | {"kafka": kafka}


def stocked(kind: str, running: Running, folder: Path) -> Stock:
    """A supplier with his secret and his offers; transfers wait a little, requests fail in a share of all."""
    (folder / "out").mkdir()
    (folder / "secret").write_text(SECRET)
    share = SHARE if kind in ("rest", "graphql", "soap") else 0.001
    if kind != "kafka":
        return Dateless(OFFERS, folder, share, SEED)
    stock = Topic(OFFERS, folder, share, SEED)
    stock.supplier = Supplier(running.deployment.bootstrap_servers, 1)
    return stock


def held(stock: Stock) -> dict[str, int]:
    return {row["code"]: row["stock"] for row in stock.rows}


@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_supplier_has_is_what_is_said_of_each_sku_however_he_fails_and_changes(
    running: Running, tmp_path: Path, kind: str
) -> None:
    stock = stocked(kind, running, tmp_path)
    stock.write()
    async with KINDS[kind](stock) as feed:
        running.configure("acme", stock=feed | {"poll": {"every_s": 0.3}})
        for change in range(CHANGES):
            async with running:  # started anew for each, from where it was
                await running.until(lambda: said(running) == held(stock))
                if change + 1 < CHANGES:
                    stock.change()
    assert running.letters() == []
    assert contradictions(running.updates()) == []


def said(running: Running) -> dict[str, int]:
    return units(running.updates())


def contradictions(updates: list[dict[str, Any]]) -> list[str]:
    """Ids under which one SKU was told two things."""
    told: dict[tuple[str, str], tuple[int, int]] = {}
    return [
        each["update_id"]
        for each in updates
        if told.setdefault((each["sku"], each["update_id"]), (each["quantity"], each["observed_at"]))
        != (each["quantity"], each["observed_at"])
    ]
