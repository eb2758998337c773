from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from stockweave.broker.kafka import EmbeddedKafka
from tests.api.reservations.shop import Shop, opened
from tests.api.reservations.worker import Worker
from tests.api.stock import Stock


@pytest.fixture(scope="session")
def deployment(broker: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Stock:
    return Stock(broker.bootstrap_servers, tmp_path_factory.mktemp("reservations"))


@pytest.fixture(scope="session")
def worker(deployment: Stock) -> Iterator[Worker]:
    with Worker(deployment) as running:
        yield running


@pytest.fixture(scope="session")
async def shop(deployment: Stock, worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """One API process; each test has SKUs of its own."""
    async with opened(deployment, worker, tmp_path_factory.mktemp("shop")) as one:
        yield one


@pytest.fixture(scope="session")
async def impatient(deployment: Stock, worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """Another one, which waits for half a second."""
    folder = tmp_path_factory.mktemp("impatient")
    async with opened(deployment, worker, folder, reserve_wait_ms=500) as one:
        yield one
