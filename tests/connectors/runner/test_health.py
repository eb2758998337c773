"""A feed's health as it is told to inventory.feeds, and a supplier that is down, through a real Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectors.runner import breaker, pace
from connectors.runner.progress import Kept, note
from connectors.testing.faults import Fault, Faults
from connectors.testing.http_server import HttpSupplier
from schemas.feed_health import FeedHealth, Hour
from schemas.topics import FEEDS
from stockweave.world import SystemClock
from tests.connectors.files.test_folder import write
from tests.connectors.running import SIMPLE, Running, csv_feed


def told(running: Running, feed: str = "acme/stock") -> FeedHealth | None:
    """The newest record."""
    kept: dict[str, Kept] = {}
    for message in running.deployment.read(FEEDS.name):
        note(kept, message)
    return kept[feed].health if feed in kept else None


def seen(running: Running) -> Hour:
    health = told(running)
    return Hour(hour=0) if health is None else health.window(SystemClock().now_ms())


def rest_feed(supplier: HttpSupplier, **more: Any) -> dict[str, Any]:
    source = {"kind": "rest", "url": f"{supplier.origin}/stock"}
    return {"source": source, "format": {"format": "json"}, "mapping": SIMPLE, "poll": {"every_s": 0.1}} | more


async def test_rows_letters_and_corrections_are_counted_and_a_restart_goes_on_with_them(
    running: Running, tmp_path: Path
) -> None:
    write(tmp_path / "in" / "1.csv", "code,stock\na,1\nb,many\na,2\n")
    running.configure("acme", stock=csv_feed(tmp_path / "in"))
    async with running:
        await running.until_updates(2)
    first = seen(running)
    assert (first.rows, first.rejected, first.corrections, first.documents) == (3, 1, 1, 1)
    assert first.polls >= 1
    assert first.failures == 0
    write(tmp_path / "in" / "2.csv", "code,stock\nc,1\n")
    async with running:
        await running.until_updates(3)
    second = seen(running)
    assert (second.rows, second.rejected, second.corrections, second.documents) == (4, 1, 1, 2)
    assert second.polls > first.polls


async def test_a_feed_that_is_configured_no_more_has_no_health(running: Running, tmp_path: Path) -> None:
    write(tmp_path / "in" / "1.csv", "code,stock\na,1\n")
    both = {"stock": csv_feed(tmp_path / "in"), "other": csv_feed(tmp_path / "in")}
    running.configure("acme", **both)
    async with running:
        await running.until(lambda: None not in (told(running), told(running, "acme/other")))
        running.configure("acme", other=both["other"])
        await running.until(lambda: told(running) is None)
    assert told(running, "acme/other") is not None


async def test_all_feeds_of_a_supplier_that_is_down_stop_asking_and_all_go_on_with_its_first_answer(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their own pauses are so long that none goes on by itself."""
    monkeypatch.setattr(pace, "PAUSE_S", 1_000.0)
    monkeypatch.setattr(pace, "PAUSE_S_MAX", 1_000.0)
    monkeypatch.setattr(breaker, "PAUSE_S", 1.0)
    monkeypatch.setattr(breaker, "PAUSE_S_MAX", 1.0)
    names = [f"f{n}" for n in range(6)]
    async with HttpSupplier([{"code": "a", "stock": 1}], Faults([Fault.BROKEN] * 1_000)) as supplier:
        running.configure("acme", **{name: rest_feed(supplier, poll={"every_s": 60}) for name in names})

        def all_feeds() -> list[FeedHealth]:
            return [health for name in names if (health := told(running, f"acme/{name}")) is not None]

        async with running:
            await running.until(lambda: [each.breaker for each in all_feeds()] == ["OPEN"] * len(names))
            supplier.faults.plan.clear()
            await running.until(lambda: sum(each.rows_at > 0 for each in all_feeds()) == len(names))
        assert {each.breaker for each in all_feeds()} == {"CLOSED"}


async def test_a_feed_with_a_fault_of_its_own_stops_no_other_one(running: Running) -> None:
    async with HttpSupplier([{"code": "a", "stock": 1}]) as supplier:
        lost = rest_feed(supplier, source={"kind": "rest", "url": f"{supplier.origin}/nowhere"})
        running.configure("acme", stock=rest_feed(supplier), lost=lost)
        async with running:
            await running.until(lambda: (seen(running).polls) > 0)
            await running.until(lambda: (found := told(running, "acme/lost")) is not None and bool(found.hours))
    found = told(running, "acme/lost")
    assert found is not None
    assert (found.breaker, found.polled_at) == ("CLOSED", 0)
    assert found.window(SystemClock().now_ms()).failures == found.window(SystemClock().now_ms()).polls > 0
