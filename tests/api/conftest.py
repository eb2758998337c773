from __future__ import annotations

from pathlib import Path

import pytest

from api import listing
from stockweave.broker.kafka import EmbeddedKafka
from tests.api.stock import Stock


@pytest.fixture
def stock(broker: EmbeddedKafka, tmp_path: Path) -> Stock:
    return Stock(broker.bootstrap_servers, tmp_path)


@pytest.fixture(autouse=True)
def pages_are_as_long_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the machine is slow: a page may be short then, which is not what these tests are about."""
    monkeypatch.setattr(listing, "SCAN_S_MAX", 60.0)
