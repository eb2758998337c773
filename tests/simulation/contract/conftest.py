from __future__ import annotations

from collections.abc import Iterator

import pytest

from stockweave.broker.kafka import EmbeddedKafka
from tests.simulation.contract.kafkas import Kafka, Real, Simulated


@pytest.fixture(params=["simulated", "real"])
def kafka(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    if request.param == "simulated":
        yield Simulated()
        return
    broker: EmbeddedKafka = request.getfixturevalue("broker")
    real = Real(broker.bootstrap_servers)
    yield real
    real.close()


@pytest.fixture(params=["simulated", "real"])
def compacting(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    """A Kafka whose cleaner has nothing else to do."""
    if request.param == "simulated":
        yield Simulated()
        return
    broker: EmbeddedKafka = request.getfixturevalue("broker_factory")().start()
    real = Real(broker.bootstrap_servers)
    yield real
    real.close()
