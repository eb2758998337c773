"""One push service for all tests that leave its Kafka alone, and connectors for each that runs feeds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stockweave.broker.kafka import EmbeddedKafka
from tests.connectors.running import Running
from tests.connectors.service import Service, deployed, service
from tests.deployment import Deployment


@pytest.fixture(scope="session")
def push_deployment(broker: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deployed(broker.bootstrap_servers, tmp_path_factory.mktemp("push"))[0]


@pytest.fixture(scope="session")
async def push(push_deployment: Deployment) -> AsyncIterator[Service]:
    settings = push_deployment.base.model_copy(update={"body_bytes_max": 200_000, "line_bytes_max": 2_000})
    async with service(push_deployment, settings) as started:
        yield started


@pytest.fixture
def running(broker: EmbeddedKafka, tmp_path: Path) -> Running:
    """Connectors on topics of their own, not started."""
    return Running(Deployment(broker.bootstrap_servers, tmp_path / "data", partitions=2), tmp_path / "suppliers")
