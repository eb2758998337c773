"""Feeds while suppliers' files change: what is the same runs on."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from connectors.configuration.load import load
from connectors.kinds import kinds
from tests.connectors.running import Running, csv_feed


def test_what_is_read_twice_is_the_same(running: Running, tmp_path: Path) -> None:
    running.configure("acme", stock=csv_feed(tmp_path))
    assert load(running.folder, kinds()) == load(running.folder, kinds())


async def test_a_feed_runs_on_while_another_supplier_comes_and_files_elsewhere_change(
    running: Running, tmp_path: Path
) -> None:
    for name in ("in", "other"):
        (tmp_path / name).mkdir()
    below = running.folder / "server"
    below.mkdir()
    running.configure("acme", stock=csv_feed(tmp_path / "in"))
    with capture_logs() as logs:

        def told(event: str) -> list[str]:
            return [entry.get("feed", "") for entry in logs if entry["event"] == event]

        async with running:
            await running.until(lambda: told("feed_started") == ["acme/stock"])
            (below / "broker.log").write_text("of no supplier")
            running.configure("other", stock=csv_feed(tmp_path / "other"))
            await running.until(lambda: "other/stock" in told("feed_started"))
            (tmp_path / "in" / "stock.csv").write_text("code,stock\ns1,5\n")
            await running.until_updates(1)
    assert told("feed_started") == ["acme/stock", "other/stock"]
