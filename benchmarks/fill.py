"""Fills a deployment's updates with the profile: encoded with our own schema, keyed by SKU, by one process a core."""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import cast

from confluent_kafka import Producer

from benchmarks.profile import Profile, base, mix, share, skus_of
from inventory.stock import StockUpdate
from schemas.codec import Codec
from schemas.registry import FileRegistry
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal

FLUSH_S = 60.0
POLL_EVERY = 1_000
QUEUE_FULL_WAIT_S = 0.05


@dataclass(frozen=True)
class Filling:
    """Where to, and what: the whole base if `with_base`, then `events` of the mix."""

    bootstrap_servers: str
    topic: str
    partitions: int
    profile: Profile
    events: int
    with_base: bool = True


def fill(filling: Filling) -> float:
    """Produce all of it; returns the seconds that it took.

    Raises:
        Fatal: Kafka did not take all.
    """
    began_s = time.monotonic()
    parts = min(os.cpu_count() or 1, filling.partitions)
    with ProcessPoolExecutor(parts, mp_context=mp.get_context("spawn")) as pool:
        produced = sum(pool.map(_fill_part, [filling] * parts, range(parts), [parts] * parts))
    expected = filling.events + filling.profile.base_events * filling.with_base
    if produced != expected:
        raise Fatal(f"{produced} of {expected} updates were produced to {filling.topic}; see the broker's log")
    return time.monotonic() - began_s


def _fill_part(filling: Filling, part: int, parts: int) -> int:
    profile = filling.profile
    skus = skus_of(profile, filling.partitions, part, parts)
    produced = _produce(filling, base(profile, skus, part, parts)) if filling.with_base else 0
    events = share(filling.events, profile, filling.partitions, part, parts)
    return produced + _produce(filling, mix(profile, skus, part, parts, events))


def _produce(filling: Filling, updates: Iterable[StockUpdate]) -> int:
    producer = Producer(
        client_config(filling.bootstrap_servers)
        | {
            "partitioner": "murmur2_random",
            "enable.idempotence": True,  # and so in order
            "compression.type": "lz4",
            "linger.ms": 50,
            "batch.size": 256 << 10,
            "queue.buffering.max.messages": 500_000,
            "log_level": 3,  # that a coordinator is loading is no news right after the broker's start
        },
        logger=CLIENT_LOGGER,
    )
    encode, topic, count = Codec("StockUpdate", FileRegistry()).encode, filling.topic, 0
    for count, update in enumerate(updates, 1):
        key, value = update["sku"].encode(), encode(cast("dict[str, object]", update))
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(QUEUE_FULL_WAIT_S)
        if count % POLL_EVERY == 0:
            producer.poll(0)
    return count - producer.flush(FLUSH_S)
