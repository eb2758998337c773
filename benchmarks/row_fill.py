"""Writes rows of five sources straight into inventory.stock, with position records, as workers would have left them.

Preparation alone: what is measured afterwards are real workers and APIs, which cannot tell the difference.
"""

from __future__ import annotations

import math
import multiprocessing as mp
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from confluent_kafka import Producer

from benchmarks.profile import DELTAS, EPOCH_MS, sku_name
from inventory.alerts import IN_STOCK
from schemas.keys import POSITION, partition_of, source_key
from schemas.rows import Count, Delta, Position, Source, StockRow, encode, encode_row
from schemas.topics import UPDATES
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal

SOURCES = 5
ROWS_PER_POSITION = 10_000
FLUSH_S = 120.0
QUEUE_FULL_WAIT_S = 0.05
STRIDE = 1_000_003  # a prime: rows come in an order that is not that of their keys
PAST_MS = 3_600_000  # counts are one to two hours old
DELTA_WITHIN_MS = 500_000
DELTA_SHARE = 0.5  # of the mix: so a source has one delta on average
UPDATES_SO_FAR = 50_000_000
SOURCE_KEYS = [source_key(f"supplier-{n}", "default") for n in range(SOURCES)]


@dataclass(frozen=True)
class RowFilling:
    """Where to, and how many rows."""

    bootstrap_servers: str
    topic: str
    partitions: int
    rows: int


def fill_rows(filling: RowFilling) -> float:
    """Produce all, by one process a core; returns the seconds that it took.

    Raises:
        Fatal: Kafka did not take all.
    """
    began_s = time.monotonic()
    parts = min(os.cpu_count() or 1, filling.partitions)
    with ProcessPoolExecutor(parts, mp_context=mp.get_context("spawn")) as pool:
        produced = sum(pool.map(_fill_part, [filling] * parts, range(parts), [parts] * parts))
    if produced != filling.rows:
        raise Fatal(f"{produced} of {filling.rows} rows were produced to {filling.topic}; see the broker's log")
    return time.monotonic() - began_s


def row(number: int, rng: random.Random) -> bytes:
    """A row of five sources, as the profile's mix leaves them after a while: each a count, and the deltas since.

    Times, ids and offsets are drawn for each source: rows that repeat them would be a third of the size on a disk.
    """
    draw = rng.random
    sources = {}
    on_hand = 0
    for key in SOURCE_KEYS:
        at = int(EPOCH_MS - PAST_MS * (1 + draw()))
        count = Count(0, _update_id(draw()), at, int(1_000 * draw()))
        deltas = []
        while draw() < DELTA_SHARE:
            at += 1 + int(DELTA_WITHIN_MS * draw())
            deltas.append(Delta(at, _update_id(draw()), DELTAS[int(len(DELTAS) * draw())]))
        sources[key] = source = Source(count, deltas, received_at=at, offset=int(UPDATES_SO_FAR * draw()))
        on_hand += source.on_hand
    version = int(100 * draw()) + 1
    return encode_row(StockRow(sku_name(number), version, on_hand, EPOCH_MS - PAST_MS, sources, alert=IN_STOCK))


def _update_id(drawn: float) -> str:
    return f"m0-{int(UPDATES_SO_FAR * drawn):09d}"


def _fill_part(filling: RowFilling, part: int, parts: int) -> int:
    producer = Producer(
        client_config(filling.bootstrap_servers)
        | {
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 50,
            "batch.size": 512 << 10,
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 128 << 10,
            "log_level": 3,
        },
        logger=CLIENT_LOGGER,
    )
    position = encode(Position({UPDATES.name: 0}, {}, EPOCH_MS))
    rng = random.Random(part)
    stride = STRIDE if math.gcd(STRIDE, filling.rows) == 1 else 1
    written = dict.fromkeys(range(part, filling.partitions, parts), 0)

    def produce(value: bytes, key: bytes, partition: int) -> None:
        while True:
            try:
                return producer.produce(filling.topic, value, key, partition)
            except BufferError:
                producer.poll(QUEUE_FULL_WAIT_S)

    for i in range(filling.rows):
        number = i * stride % filling.rows
        key = sku_name(number).encode()
        partition = partition_of(key, filling.partitions)
        if partition in written:
            produce(row(number, rng), key, partition)
            written[partition] += 1
            if written[partition] % ROWS_PER_POSITION == 0:
                produce(position, POSITION, partition)
                producer.poll(0)
    for partition in written:
        produce(position, POSITION, partition)
    return sum(written.values()) - producer.flush(FLUSH_S)
