"""Writes a deployment's stock topic as a worker would, batch by batch, with a bug where a test wants one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from confluent_kafka import Message, Producer

from inventory.stock import Limits
from schemas import keys
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.rows import Position, StockRow, decode_row, encode, encode_row
from schemas.topics import STOCK, UPDATES
from state.store import PartitionStore
from stockweave.replay.ends import log_ends
from stockweave.replay.facts import Facts
from streams.batch import Batch, Folder, Part
from tests.deployment import Deployment

Spoil = Callable[[dict[str, StockRow], list[str]], None]
"""Is given the rows that a batch changed, by SKU, and the ids of its updates, and may change or drop rows."""


def folder() -> Folder:
    return Folder(Codec("StockUpdate", FileRegistry()), Limits())


class Store:
    """What a worker has on disk."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get_many(self, row_keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.rows.get(key) for key in row_keys]


class Writer:
    """Folds what is new into the stock topic; `spoil` is the bug."""

    def __init__(self, deployment: Deployment, spoil: Spoil | None = None) -> None:
        self.deployment = deployment
        self.spoil = spoil
        self.updates, self.stock = deployment.topics[UPDATES.name].name, deployment.topics[STOCK.name].name
        self.partitions = range(deployment.topics[STOCK.name].partitions)
        self.stores = {p: Store() for p in self.partitions}
        self.positions = {p: Position({}, {}) for p in self.partitions}
        self.folder = folder()
        self.producer = Producer(
            {"bootstrap.servers": deployment.bootstrap_servers, "transactional.id": f"{deployment.prefix}writer"}
        )
        self.producer.init_transactions(10)

    def fold(self, events_max: int = 10) -> None:
        """All there is, in transactions of so many events of a partition."""
        for number, (_, end) in log_ends(self.deployment.bootstrap_servers, self.updates, self.partitions).items():
            start = self.positions[number].offsets.get(UPDATES.name, 0)
            facts = Facts(self.deployment.bootstrap_servers, self.updates, number, start, end)
            for messages in facts.batches(events_max):
                self._fold(number, messages)

    def _fold(self, number: int, messages: list[Message]) -> None:
        store = self.stores[number]
        part = Part(number, cast("PartitionStore", store), self.positions[number], messages)
        [folded] = self.folder.fold(Batch([part], None))
        rows = folded.rows
        if self.spoil is not None:
            decoded = {key.decode(): decode_row(row) for key, row in rows.items()}
            self.spoil(decoded, [self._id(message) for message in messages])
            rows = {sku.encode(): encode_row(row) for sku, row in decoded.items()}
        self.write(number, cast("dict[bytes, bytes | None]", rows), folded.position)
        self.positions[number] = folded.position

    def write(self, number: int, rows: dict[bytes, bytes | None], position: Position | None = None) -> None:
        """One transaction."""
        self.producer.begin_transaction()
        for key, row in rows.items():
            self.producer.produce(self.stock, row, key, number)
            if row is None:
                self.stores[number].rows.pop(key, None)
            else:
                self.stores[number].rows[key] = row
        if position is not None:
            self.producer.produce(self.stock, encode(position), keys.POSITION, number)
        self.producer.commit_transaction(10)

    def _id(self, message: Message) -> str:
        [decoded] = self.deployment.codec.decode([message.value()])
        return str(cast("dict[str, object]", decoded)["update_id"])
