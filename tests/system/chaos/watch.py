"""Follows the committed records of inventory.stock on the listener that no fault touches: what was folded, and when."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas import keys
from schemas.rows import decode_packed_row, decode_position
from schemas.topics import STOCK, UPDATES
from stockweave.clients import CLIENT_LOGGER, client_config


class Commit(NamedTuple):
    """A transaction, as far as it concerns one partition. `next_offset`: of inventory.updates, folded up to there."""

    at_s: float
    next_offset: int
    versions: dict[str, int]


class Watch(threading.Thread):
    """Notes every commit. `commits`: by partition, in the order of the log."""

    def __init__(self, bootstrap_servers: str, partitions: int) -> None:
        super().__init__(daemon=True)
        self._partitions = range(partitions)
        self._consumer = Consumer(
            client_config(bootstrap_servers)
            | {"group.id": "chaos-watch", "isolation.level": "read_committed", "auto.offset.reset": "earliest"},
            logger=CLIENT_LOGGER,
        )
        self._consumer.assign([TopicPartition(STOCK.name, p, 0) for p in self._partitions])
        self._asker = Consumer(client_config(bootstrap_servers) | {"group.id": "chaos-ends"}, logger=CLIENT_LOGGER)
        self.commits: list[list[Commit]] = [[] for _ in self._partitions]
        self._stopping = threading.Event()

    def run(self) -> None:
        rows: list[dict[str, int]] = [{} for _ in self._partitions]
        while not self._stopping.is_set():
            for message in self._consumer.consume(5_000, 0.1):
                key, value, partition = message.key(), message.value(), message.partition()
                if message.error() is not None or value is None or partition is None:
                    continue
                if key == keys.POSITION:
                    offset = decode_position(value).offsets[UPDATES.name]
                    self.commits[partition].append(Commit(time.monotonic(), offset, rows[partition]))
                    rows[partition] = {}
                elif key is not None and key >= keys.ROW_FIRST:
                    row = decode_packed_row(value)
                    rows[partition][row.sku] = row.version
        self._consumer.close()

    def ends(self) -> list[int] | None:
        """The next offset of each partition of inventory.updates; None while the broker is away."""
        try:
            found = [
                self._asker.get_watermark_offsets(TopicPartition(UPDATES.name, p), timeout=5) for p in self._partitions
            ]
        except KafkaException:
            return None
        return [low_high[1] for low_high in found if low_high is not None]

    def folded_after_s(self, since: float, ends: list[int]) -> float | None:
        """Seconds from `since` until all partitions were folded up to `ends`; None while they are not."""
        took = 0.0
        for commits, end in zip(self.commits, ends, strict=True):
            at = next((c.at_s for c in list(commits) if c.next_offset >= end), None)
            if at is None:
                return None
            took = max(took, at - since)
        return took

    def wait_folded(self, ends: list[int], deadline_s: float) -> None:
        """Wait until every partition is folded up to `ends`, or it is too late."""
        while time.monotonic() < deadline_s and not self._stopping.wait(0.05):
            if all(end == 0 or (c and c[-1].next_offset >= end) for c, end in zip(self.commits, ends, strict=True)):
                return

    def stop(self) -> None:
        self._stopping.set()
        self.join()
        self._asker.close()
