"""The map of SKUs through a real Kafka: read before the first row, followed, and the same throughout a snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from random import Random
from typing import Any

from connectors.configuration.load import load
from connectors.documents import Document, State, once
from connectors.kinds import kinds
from connectors.publisher import Publisher
from connectors.runner.breaker import Breaker
from connectors.runner.feed import FeedRun
from connectors.runner.intake import Intake
from connectors.runner.progress import Keeper, Kept, Progress
from connectors.runner.skus import SkuFollower
from connectors.runner.watch import Watch
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.sku_map import Entry, record
from schemas.topics import DEAD_LETTERS, FEEDS, SKU_MAP, UPDATES
from stockweave.world import SystemClock
from tests.connectors.files.test_folder import write
from tests.connectors.running import SIMPLE, Running, csv_feed, told, units

AT_MS = 1_790_000_000_000


def change(running: Running, **skus: str | None) -> None:
    """Of acme's."""
    deployment = running.deployment
    for supplier_sku, sku in skus.items():
        key, value = record(Entry("acme", supplier_sku, sku))
        deployment.producer.produce(deployment.topics[SKU_MAP.name].name, value, key)
    assert deployment.producer.flush(10) == 0


def by_map(path: Path, unknown: str, **more: Any) -> dict[str, Any]:
    return csv_feed(path, mapping=SIMPLE | {"sku_map": {"unknown": unknown}}, **more)


def put(root: Path, n: int, **stock: int) -> None:
    text = "code,stock\n" + "".join(f"{sku},{number}\n" for sku, number in stock.items())
    write(root / "in" / f"{n:03}.csv", text, changed_ms=AT_MS + n * 1_000)


async def put_and_wait(running: Running, root: Path, n: int) -> None:
    """A file of two rows, until each is an update or a letter."""

    def come() -> int:
        return running.deployment.end_of_updates() + len(running.letters())

    before = come()
    put(root, n, x0=n, x4999=n)
    await running.until(lambda: come() >= before + 2)


def last(updates: list[dict[str, Any]]) -> dict[str, tuple[str, int]]:
    return {u["sku"]: (u["kind"], u["quantity"]) for u in sorted(updates, key=lambda u: u["observed_at"])}


async def test_the_map_is_read_before_the_first_row_and_changes_hold_while_it_runs(
    running: Running, tmp_path: Path
) -> None:
    change(running, **{f"x{n}": f"A-{n}" for n in range(5_000)})
    deployment = running.deployment
    deployment.producer.produce(deployment.topics[SKU_MAP.name].name, b"nonsense", b"acme\x1fx1")
    put(tmp_path, 1, x0=1, x4999=2)
    running.configure("acme", stock=by_map(tmp_path / "in", "park"))
    async with running:
        assert units(await running.until_updates(2)) == {"A-0": 1, "A-4999": 2}
        change(running, x0="B-0", x4999=None)
        n = 1
        while not running.letters():  # it takes a moment until it has heard
            n += 1
            await put_and_wait(running, tmp_path, n)
    assert last(running.updates())["B-0"] == ("COUNT", n)
    assert told(running.letters()[0])["__connect.errors.exception.class.name"] == "parked_sku"


async def test_a_feed_without_a_map_leaves_skus_as_they_are(running: Running, tmp_path: Path) -> None:
    change(running, x0="A-0")
    put(tmp_path, 1, x0=1)
    running.configure("acme", stock=csv_feed(tmp_path / "in"))
    async with running:
        assert units(await running.until_updates(1)) == {"x0": 1}


async def test_a_snapshot_withdraws_what_a_supplier_offers_under_another_sku_now(
    running: Running, tmp_path: Path
) -> None:
    change(running, a="A", b="B", c="C")
    running.configure("acme", stock=by_map(tmp_path / "in", "park", snapshot={}))
    put(tmp_path, 1, a=1, b=2, c=3, d=4)
    async with running:
        await running.until_updates(3)
    change(running, a="A-2", b=None, d="D")
    put(tmp_path, 2, a=1, b=2, c=3, d=4)
    async with running:
        updates = await running.until_updates(8)
    gone, count = ("WITHDRAWN", 0), "COUNT"
    assert last(updates) == {"A": gone, "B": gone, "A-2": (count, 1), "C": (count, 3), "D": (count, 4)}
    assert len(running.letters()) == 2, "d at first, b later"


class Pages:
    """A supplier of two pages, between which the map changes."""

    def __init__(self, running: Running, follower: SkuFollower) -> None:
        self.running = running
        self.seen = follower.of("acme")

    async def read(self, state: State) -> AsyncGenerator[Document, None]:
        if state:
            return
        for page, text in enumerate((b"code,stock\na,1\n", b"code,stock\nb,2\n")):
            yield Document(f"{page}", AT_MS, AT_MS, once(text), after={"read": True})
            change(self.running, a="A-2", b="B-2")
            await self.running.until(lambda: self.seen.look_up(["b"]) == ["B-2"])

    async def news(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None: ...


async def test_a_snapshot_sees_one_map_from_its_first_row_to_the_last(running: Running, tmp_path: Path) -> None:
    change(running, a="A-1", b="B-1")
    deployment, codec = running.deployment, Codec("StockUpdate", FileRegistry())
    servers, topics = deployment.base.bootstrap_servers or "", deployment.topics
    rest = {"kind": "rest", "url": "http://localhost"}
    running.configure("acme", stock=by_map(tmp_path / "in", "park", snapshot={}) | {"source": rest})
    feed = load(running.folder, kinds()).feeds["acme/stock"]
    follower = SkuFollower(servers, topics[SKU_MAP.name])
    async with (
        Publisher(servers, topics[UPDATES.name].name, codec) as updates,
        Publisher(servers, topics[DEAD_LETTERS.name].name, codec) as letters,
        Publisher(servers, topics[FEEDS.name].name, codec) as progress,
    ):
        kept = Kept(Progress(feed="acme/stock"))
        keeper = Keeper("acme/stock", kept, progress, topics[FEEDS.name].partitions)
        watch, clock = Watch(feed, keeper), SystemClock()
        intake = Intake(feed, updates, letters, codec, watch, follower)
        run = FeedRun(feed, Pages(running, follower), intake, keeper, watch, Breaker(clock, Random(1)), clock)
        task = asyncio.create_task(run.run())
        await running.until(lambda: bool(kept.progress.state))
        run.stop()
        await task
        await follower.stop()
    assert units(running.updates()) == {"A-1": 1, "B-1": 2}
    assert running.letters() == []
