"""One supplier's Kafka that wants to know who asks, for all tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from connectors.testing.kafka_server import KafkaServer
from stockweave.broker.kafka import EmbeddedKafka

PLAIN = "plain-hunter2"


def small(folder: Path, port: int, properties: Mapping[str, str]) -> EmbeddedKafka:
    return EmbeddedKafka(folder, port, heap_mb=256, properties=properties)


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    with KafkaServer(tmp_path_factory.mktemp("secured"), small, {"plain": PLAIN}) as server:
        yield server
