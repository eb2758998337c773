"""Feeds while suppliers' files change: what is the same runs on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
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


async def test_a_faulty_file_changes_nothing_of_its_supplier_and_keeps_no_other_from_changing(
    running: Running, tmp_path: Path
) -> None:
    for name in ("in", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "a.csv").write_text("code,stock\ns2,7\n")
    running.configure("acme", stock=csv_feed(tmp_path / "in"))
    async with running:
        running.configure("acme", stock={"source": {"kind": "folder"}})
        running.configure("other", stock=csv_feed(tmp_path / "other"))
        await running.until_updates(1)
        (tmp_path / "in" / "stock.csv").write_text("code,stock\ns1,5\n")
        updates = await running.until_updates(2)
    assert {each["supplier_id"] for each in updates} == {"acme", "other"}


async def test_an_empty_folder_waits_for_its_first_supplier_and_one_that_is_emptied_runs_on(
    running: Running, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    command = [sys.executable, "-m", "stockweave", "connectors", "run", str(running.folder)]
    environment = running.deployment.environment("empty")
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        assert process.stderr is not None
        while "there is no YAML file in it" not in await asyncio.to_thread(process.stderr.readline):
            assert process.poll() is None
        (tmp_path / "in" / "a.csv").write_text("code,stock\ns1,5\n")
        while not running.deployment.end_of_updates():  # once it follows the folder
            running.configure("acme", stock=csv_feed(tmp_path / "in"))
            await asyncio.sleep(0.5)
        (running.folder / "acme.yaml").unlink()
        while "there is no YAML file in it" not in await asyncio.to_thread(process.stderr.readline):
            assert process.poll() is None
        (tmp_path / "in" / "b.csv").write_text("code,stock\ns2,5\n")
        await running.until_updates(2)
        process.terminate()
        await asyncio.to_thread(process.communicate)
