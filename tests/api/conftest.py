from __future__ import annotations

from pathlib import Path

import pytest

from stockweave.broker.kafka import EmbeddedKafka
from tests.api.stock import Stock


@pytest.fixture
def stock(broker: EmbeddedKafka, tmp_path: Path) -> Stock:
    return Stock(broker.bootstrap_servers, tmp_path)
