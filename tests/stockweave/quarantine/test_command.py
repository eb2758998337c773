"""The commands of the quarantine, against feeds that run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from stockweave.broker.kafka import EmbeddedKafka
from tests.connectors.runner.test_snapshots import last, many, put, snapshots
from tests.connectors.running import Running
from tests.deployment import Deployment


def quarantine(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stockweave", "quarantine", *arguments],
        capture_output=True,
        text=True,
        env=deployment.environment("command"),
    )


@pytest.fixture
def running(broker: EmbeddedKafka, tmp_path: Path) -> Running:
    return Running(Deployment(broker.bootstrap_servers, tmp_path / "data", partitions=2), tmp_path / "suppliers")


async def test_what_is_held_back_is_listed_and_taken_once_it_is_released(running: Running, tmp_path: Path) -> None:
    put(tmp_path, 1, **many(30))
    running.configure("acme", stock=snapshots(tmp_path / "in"))
    assert quarantine(running.deployment, "list").stdout == "nothing is held back\n"
    async with running:
        await running.until_updates(30)
        put(tmp_path, 2, **many(3))
        await running.until(lambda: running.held() is not None)
        listed = orjson.loads(quarantine(running.deployment, "list", "--json").stdout)
        assert (listed["feed"], listed["missing"], listed["why"]) == (
            "acme/stock", 27, "27 of 30 offers are gone or at zero, more than 30 %",
        )  # fmt: skip
        assert "27 of 30 offers" in quarantine(running.deployment, "list").stdout.replace("\n", " ")
        assert quarantine(running.deployment, "release", "acme/stock").returncode == 0
        updates = await running.until_updates(60)
    assert sum(kind == "WITHDRAWN" for kind, _ in last(updates).values()) == 27


def test_a_feed_of_which_nothing_is_held_back_is_told(running: Running) -> None:
    refused = quarantine(running.deployment, "drop", "acme/stock")
    assert refused.returncode == os.EX_DATAERR
    assert "of feed acme/stock nothing is held back; of these something is: none" in refused.stderr
