"""`stockweave policies record-scores`, from what a connector tells of a feed to the policy that goes by it."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from schemas.codec import Codec
from schemas.policy_log import read
from schemas.registry import FileRegistry
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.policies.scores import Scores, recorded
from stockweave.policies.table import policies_of
from tests.connectors.files.test_folder import write
from tests.connectors.running import Running, csv_feed
from tests.deployment import Deployment


@pytest.fixture
def running(broker: EmbeddedKafka, tmp_path: Path) -> Running:
    return Running(Deployment(broker.bootstrap_servers, tmp_path / "data", partitions=2), tmp_path / "suppliers")


def now_recorded(deployment: Deployment) -> Scores:
    return recorded(policies_of(read(deployment.base, deployment.bootstrap_servers, Codec("Policy", FileRegistry()))))


async def test_a_feed_whose_rows_cannot_be_used_lowers_the_recorded_score_of_its_supplier(
    running: Running, tmp_path: Path
) -> None:
    write(tmp_path / "acme" / "1.csv", "code,stock\n" + "".join(f"a{n},many\n" for n in range(90)))
    write(tmp_path / "best" / "1.csv", "code,stock\n" + "".join(f"b{n},5\n" for n in range(90)))
    for supplier in ("acme", "best"):
        running.configure(supplier, stock=csv_feed(tmp_path / supplier))
    command = [sys.executable, "-m", "stockweave", "policies", "record-scores", "--every", "1", "--hold", "0"]

    def is_so() -> bool:
        scores = now_recorded(running.deployment)
        return 0 < scores.get("acme", 0) < 15 and scores.get("best", 0) > 70

    async with running:
        environment = running.deployment.environment("command")
        recording = await asyncio.create_subprocess_exec(*command, env=environment)
        try:
            await running.until(is_so)
        finally:
            recording.send_signal(signal.SIGTERM)
            ended = await recording.wait()
    assert ended == 0
