"""The command that shows drift, against a feed that ran."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from stockweave.broker.kafka import EmbeddedKafka
from tests.connectors.files.test_folder import write
from tests.connectors.runner.test_drift import alerts, stock
from tests.connectors.running import Running, csv_feed
from tests.deployment import Deployment


def drift(deployment: Deployment, *arguments: str) -> str:
    command = [sys.executable, "-m", "stockweave", "connectors", "drift", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=deployment.environment("command")
    ).stdout


@pytest.fixture
def running(broker: EmbeddedKafka, tmp_path: Path) -> Running:
    return Running(Deployment(broker.bootstrap_servers, tmp_path / "data", partitions=2), tmp_path / "suppliers")


async def test_what_was_told_is_shown_by_feed(running: Running, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv", stock("code,stock"), changed_ms=1_790_000_000_000)
    running.configure("acme", stock=csv_feed(tmp_path / "in"))
    async with running:
        await running.until_updates(60)
        write(tmp_path / "in" / "b.csv", stock("code,bestand"), changed_ms=1_790_000_000_001)
        await running.until(lambda: len(alerts(running)) == 1)
    [shown] = map(orjson.loads, drift(running.deployment, "--json").splitlines())
    assert (shown["feed"], shown["field"], shown["sample"]) == ("acme/stock", "stock", ["0", "1", "2"])
    assert "vanished" in drift(running.deployment, "--feed", "acme/stock")
    assert drift(running.deployment, "--feed", "acme/other") == "nothing was told\n"
