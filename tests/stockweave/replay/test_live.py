"""Live rows against the real broker: rows and position of one moment, while others write."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import Producer

from schemas import keys
from schemas.rows import Position, StockRow, decode_row, encode, encode_row
from schemas.topics import STOCK, UPDATES
from state.database import Resources
from state.store import PartitionStore
from stockweave.errors import Retriable
from stockweave.replay.live import read_live
from tests.deployment import Deployment

SKUS = 40
PASS_S = 1.0


class Stock:
    """Writes partition 0 of a deployment's stock: each transaction sets every SKU to one number, and the position."""

    def __init__(self, deployment: Deployment) -> None:
        self.topic = deployment.topics[STOCK.name].name
        self.producer = Producer({"bootstrap.servers": deployment.bootstrap_servers, "transactional.id": self.topic})
        self.producer.init_transactions(10)

    def begin(self, number: int) -> None:
        self.producer.begin_transaction()
        for i in range(SKUS):
            row = StockRow(f"sku-{i:02}", number, number, 0, {})
            self.producer.produce(self.topic, encode_row(row), row.sku.encode(), 0)
        self.producer.produce(self.topic, encode(Position({UPDATES.name: number}, {})), keys.POSITION, 0)
        self.producer.flush()

    def write(self, number: int) -> None:
        self.begin(number)
        self.producer.commit_transaction(10)


@pytest.fixture
def stock(deployment: Deployment) -> Stock:
    return Stock(deployment)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[dict[int, PartitionStore]]:
    resources = Resources(1 << 20, 1 << 20)
    opened = {number: PartitionStore(tmp_path / "live" / str(number), resources, "scratch") for number in (0, 1)}
    yield opened
    for store in opened.values():
        store.close()


def numbers(store: PartitionStore) -> set[int]:
    return {decode_row(row).on_hand for _, row in store.rows()}


def test_rows_and_position_are_of_one_moment_while_they_are_written(
    deployment: Deployment, stock: Stock, tmp_path: Path
) -> None:
    stock.write(1)
    stop = threading.Event()

    def write() -> None:
        number = 2
        while not stop.is_set():
            stock.write(number)
            number += 1

    writing = threading.Thread(target=write)
    writing.start()
    resources = Resources(1 << 20, 1 << 20)
    seen = []
    try:
        for i in range(25):
            store = PartitionStore(tmp_path / str(i), resources, "scratch")
            read_live(deployment.bootstrap_servers, stock.topic, {0: store})
            position = cast("Position", store.position)
            seen.append(position.offsets[UPDATES.name])
            assert numbers(store) == {seen[-1]}
            store.close()
    finally:
        stop.set()
        writing.join()
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


def test_an_open_transaction_is_waited_for(
    deployment: Deployment, stock: Stock, stores: dict[int, PartitionStore]
) -> None:
    stock.write(1)
    stock.begin(2)
    commit = threading.Timer(1.0, stock.producer.commit_transaction)
    commit.start()
    read_live(deployment.bootstrap_servers, stock.topic, stores)
    commit.join()
    assert numbers(stores[0]) == {2}


def test_a_transaction_that_stays_open_is_given_up_on(
    deployment: Deployment, stock: Stock, stores: dict[int, PartitionStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    stock.write(1)
    stock.begin(2)
    monkeypatch.setattr("stockweave.replay.live.STALLED_S", 0.5)
    with pytest.raises(Retriable, match=r"partitions \[0\] are not at their end"):
        read_live(deployment.bootstrap_servers, stock.topic, stores)
    stock.producer.abort_transaction(10)


def test_an_empty_partition_has_no_rows_and_no_position(
    deployment: Deployment, stock: Stock, stores: dict[int, PartitionStore]
) -> None:
    stock.write(3)
    read_live(deployment.bootstrap_servers, stock.topic, stores)
    assert (numbers(stores[0]), stores[0].position) == ({3}, Position({UPDATES.name: 3}, {}))
    assert (numbers(stores[1]), stores[1].position) == (set(), None)


def test_a_reading_that_takes_long_goes_on_to_what_is_the_end_by_then(
    deployment: Deployment, stock: Stock, stores: dict[int, PartitionStore]
) -> None:
    """What it has passed may have been compacted meanwhile, for what lies before the new end."""
    stock.write(1)
    written = threading.Event()

    def slowly(records: int) -> None:
        if records and not written.is_set():
            written.set()
            stock.write(2)
            time.sleep(PASS_S)

    read_live(deployment.bootstrap_servers, stock.topic, stores, slowly, PASS_S)
    assert numbers(stores[0]) == {2}
