from __future__ import annotations

from pathlib import Path

import pytest

from stockweave.broker.kafka import EmbeddedKafka
from tests.deployment import Deployment


@pytest.fixture
def deployment(broker: EmbeddedKafka, tmp_path: Path) -> Deployment:
    return Deployment(broker.bootstrap_servers, tmp_path, partitions=2)
