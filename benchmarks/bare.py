"""The bare path: produce, one transaction a batch, a read_committed follower; each in a process of its own.

What any pipeline with these guarantees pays to this Kafka on this machine, at the least. Timestamps travel in the
values; all processes share one clock (time.time).
"""

from __future__ import annotations

import multiprocessing as mp
import struct
import time
import uuid
from multiprocessing.synchronize import Event

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

STAMP = struct.Struct("<d")
PARTITIONS = 4
WARM_UP_S = 2.0


def measure(bootstrap_servers: str, rate: int, seconds: float) -> list[float]:
    """Seconds from a produced message's acknowledgement-free sending to its sight after the transaction."""
    name = f"bare-{uuid.uuid4().hex[:8]}"
    source, sink = f"{name}-in", f"{name}-out"
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for created in admin.create_topics([NewTopic(t, PARTITIONS, 1) for t in (source, sink)]).values():
        created.result()
    context = mp.get_context("spawn")
    stop, ready = context.Event(), context.Barrier(3)
    seen: mp.Queue[list[float]] = context.Queue()
    middle = context.Process(target=_transact, args=(bootstrap_servers, name, source, sink, stop, ready), daemon=True)
    follower = context.Process(target=_follow, args=(bootstrap_servers, sink, stop, ready, seen), daemon=True)
    middle.start()
    follower.start()
    ready.wait(30)
    _produce(bootstrap_servers, source, rate, seconds + WARM_UP_S)
    time.sleep(0.5)  # for the last ones to arrive
    stop.set()
    waits = seen.get(timeout=30)
    middle.join(10)
    follower.join(10)
    for deleted in admin.delete_topics([source, sink]).values():
        deleted.result()
    return waits[int(len(waits) * WARM_UP_S / (seconds + WARM_UP_S)) :]


def _produce(bootstrap_servers: str, topic: str, rate: int, seconds: float) -> None:
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 2, "enable.idempotence": True})
    began, i = time.time(), 0
    while (now := time.time()) < began + seconds:
        while began + i / rate <= now:
            producer.produce(topic, STAMP.pack(time.time()), partition=i % PARTITIONS)
            i += 1
        producer.poll(0)
        time.sleep(max(0.0, began + i / rate - time.time()))
    producer.flush()


def _transact(bootstrap_servers: str, name: str, source: str, sink: str, stop: Event, ready: mp.Barrier) -> None:  # type: ignore[valid-type]
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": name,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.queue.backoff.ms": 5,
        }
    )
    producer = Producer({"bootstrap.servers": bootstrap_servers, "transactional.id": name, "linger.ms": 1})
    producer.init_transactions(20)
    consumer.assign([TopicPartition(source, p, 0) for p in range(PARTITIONS)])
    ready.wait(30)  # type: ignore[attr-defined]
    while not stop.is_set():
        messages = consumer.consume(1, 0.1)
        messages += consumer.consume(10_000, 0) if messages else []
        if not messages:
            continue
        producer.begin_transaction()
        for message in messages:
            producer.produce(sink, message.value(), partition=message.partition() or 0)
        producer.flush()
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 10
        )
        producer.commit_transaction(10)
    consumer.close()


def _follow(bootstrap_servers: str, sink: str, stop: Event, ready: mp.Barrier, seen: mp.Queue[list[float]]) -> None:  # type: ignore[valid-type]
    follower = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "bare-follower",
            "isolation.level": "read_committed",
            "fetch.queue.backoff.ms": 5,
            "auto.offset.reset": "earliest",
        }
    )
    follower.assign([TopicPartition(sink, p, 0) for p in range(PARTITIONS)])
    ready.wait(30)  # type: ignore[attr-defined]
    waits: list[float] = []
    while not stop.is_set():
        messages = follower.consume(1, 0.1)
        messages += follower.consume(10_000, 0) if messages else []
        now = time.time()
        waits += [now - STAMP.unpack(message.value() or b"")[0] for message in messages if message.error() is None]
    follower.close()
    seen.put(waits)
