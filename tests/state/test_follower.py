"""The follower against the real broker, with topics written the way a worker writes them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from schemas import keys
from schemas.topics import DAY_MS
from state.database import Resources
from state.follower import AWAY_MS_MAX, CLOCK_BACK_MS_MAX, Follower, follower_config, open_consumer
from state.store import PartitionStore
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.errors import Fatal
from tests.state.stored import position

HOUR_MS = 3_600_000


class Topic:
    """A compacted topic of one partition, and a transactional writer."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.name = f"stock-{uuid.uuid4().hex[:8]}"
        self.admin = AdminClient({"bootstrap.servers": bootstrap_servers})
        config = {"cleanup.policy": "compact"}
        for created in self.admin.create_topics([NewTopic(self.name, 1, 1, config=config)]).values():
            created.result()
        self.producer = Producer({"bootstrap.servers": bootstrap_servers, "transactional.id": self.name})
        self.producer.init_transactions(10)

    def transaction(self, rows: dict[bytes, bytes | None], offset: int | None, *, commit: bool = True) -> None:
        self.producer.begin_transaction()
        for key, value in rows.items():
            self.producer.produce(self.name, value, key, 0)
        if offset is not None:
            self.producer.produce(self.name, position(offset), keys.POSITION, 0)
        self.producer.flush()
        if commit:
            self.producer.commit_transaction(10)
        else:
            self.producer.abort_transaction(10)

    def follower(self) -> Follower:
        return Follower(Consumer(follower_config(self.bootstrap_servers)), self.name)


@pytest.fixture
def topic(broker: EmbeddedKafka) -> Topic:
    return Topic(broker.bootstrap_servers)


@pytest.fixture
def store(tmp_path: Path, resources: Resources) -> Iterator[PartitionStore]:
    opened = PartitionStore(tmp_path / "0", resources, "g1")
    yield opened
    opened.close()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def follow_to_end(topic: Topic, store: PartitionStore, at_ms: int | None = None) -> int:
    """Follow until nothing more comes; the number of records read."""
    follower = topic.follower()
    follower.add(0, store, at_ms or now_ms())
    read, deadline = 0, time.monotonic() + 20
    while follower.ended_at(0) < 0 or (more := follower.step(1_000, 0.3)):
        read += more if follower.ended_at(0) >= 0 else follower.step(1_000, 0.3)
        assert time.monotonic() < deadline, "the end was not reached"
    follower.close()
    return read


def test_committed_rows_and_their_position_arrive_and_aborted_ones_never(topic: Topic, store: PartitionStore) -> None:
    topic.transaction({b"a": b"1", b"b": b"2"}, 2)
    topic.transaction({b"a": b"never"}, 3, commit=False)
    topic.transaction({b"b": None}, 4)
    follow_to_end(topic, store)
    assert list(store.rows()) == [(b"a", b"1")]
    assert store.position is not None
    assert store.position.offsets["inventory.updates"] == 4


def test_what_was_there_is_read_even_if_the_topic_never_rests(topic: Topic, store: PartitionStore) -> None:
    """Kafka tells the end of a partition only to a fetch that comes back empty, and under load none does."""
    topic.transaction({b"a": b"1"}, 1)
    done = threading.Event()

    def write_on() -> None:
        offset = 2
        while not done.is_set():
            topic.transaction({b"b": b"%d" % offset}, offset)
            offset += 1

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        follower, deadline = topic.follower(), time.monotonic() + 10
        follower.add(0, store, now_ms())
        while follower.read_to(0) < 3:
            follower.step(1_000, 0.3)
            assert time.monotonic() < deadline, "it waits for an end that does not come"
        assert store.get(b"a") == b"1"
        follower.close()
    finally:
        done.set()
        writer.join()


def test_a_store_resumes_at_its_last_position_record(topic: Topic, store: PartitionStore) -> None:
    for i in range(50):
        topic.transaction({b"k%d" % i: b"v"}, i)
    follow_to_end(topic, store)
    topic.transaction({b"last": b"v"}, 50)
    assert follow_to_end(topic, store) < 10
    assert len(list(store.rows())) == 51


def test_a_store_ahead_of_what_kafka_kept_is_read_again(topic: Topic, store: PartitionStore) -> None:
    topic.transaction({b"a": b"1"}, 1)
    follow_to_end(topic, store)
    store.write({b"a": b"torn", b"ghost": b"x", keys.POSITION: position(9)}, 1_000, 999)
    follow_to_end(topic, store)
    assert list(store.rows()) == [(b"a", b"1")]


def test_a_store_whose_commit_was_lost_and_overtaken_is_read_again(topic: Topic, store: PartitionStore) -> None:
    """The local position is inside the topic, and the topic holds something else there."""
    topic.transaction({b"a": b"1"}, 1)
    follow_to_end(topic, store)
    torn_anchor = store.mark.next_offset + 1
    topic.transaction({b"a": b"2"}, 2)
    topic.transaction({b"a": b"3"}, 3)
    store.write({b"a": b"torn", b"ghost": b"x", keys.POSITION: position(9)}, torn_anchor + 1, torn_anchor)
    follow_to_end(topic, store)
    assert list(store.rows()) == [(b"a", b"3")]


@pytest.mark.parametrize(
    "away_ms",
    [AWAY_MS_MAX + 1, 21 * HOUR_MS, -CLOCK_BACK_MS_MAX - 1, -30 * 24 * HOUR_MS],
    ids=["too long", "too long for what is left to read it", "a clock that went back", "a clock far ahead before"],
)
def test_a_store_away_for_as_long_as_tombstones_are_kept_or_nobody_knows_is_read_again(
    topic: Topic, store: PartitionStore, away_ms: int
) -> None:
    topic.transaction({b"a": b"1"}, 1)
    follow_to_end(topic, store)
    store.write({b"forgotten-meanwhile": b"x"}, store.mark.next_offset)
    follow_to_end(topic, store, at_ms=store.mark.saved_at + away_ms)
    assert list(store.rows()) == [(b"a", b"1")]


@pytest.mark.parametrize("away_ms", [0, AWAY_MS_MAX, -CLOCK_BACK_MS_MAX], ids=["now", "a while", "a clock set right"])
def test_a_store_away_for_less_is_kept(topic: Topic, store: PartitionStore, away_ms: int) -> None:
    topic.transaction({b"a": b"1"}, 1)
    follow_to_end(topic, store)
    store.write({b"kept": b"x"}, store.mark.next_offset)
    follow_to_end(topic, store, at_ms=store.mark.saved_at + away_ms)
    assert list(store.rows()) == [(b"a", b"1"), (b"kept", b"x")]


def test_what_is_left_of_the_time_that_tombstones_are_kept_is_enough_to_read_them() -> None:
    assert AWAY_MS_MAX + CLOCK_BACK_MS_MAX + 3 * HOUR_MS <= DAY_MS


def test_a_partition_that_was_removed_is_written_no_more(topic: Topic, store: PartitionStore) -> None:
    follower = topic.follower()
    follower.add(0, store, now_ms())
    topic.transaction({b"a": b"1"}, 1)
    deadline = time.monotonic() + 20
    while store.get(b"a") is None:
        follower.step(1_000, 0.2)
        assert time.monotonic() < deadline
    follower.remove(0)
    topic.transaction({b"a": b"2"}, 2)
    for _ in range(5):
        follower.step(1_000, 0.1)
    assert store.get(b"a") == b"1"
    follower.close()


def test_a_topic_that_is_gone_is_fatal_and_not_read_again_for_ever(topic: Topic, store: PartitionStore) -> None:
    consumer = open_consumer(topic.bootstrap_servers, topic.name)
    topic.admin.delete_topics([topic.name])[topic.name].result()
    deadline = time.monotonic() + 60  # librdkafka gives a topic 30 s to become known everywhere
    while topic.name in topic.admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    follower = Follower(consumer, topic.name)
    follower.add(0, store, now_ms())

    def follow() -> None:
        while time.monotonic() < deadline:
            follower.step(100, 0.2)

    with pytest.raises(Fatal, match=rf"topic {topic.name} is gone: .*; restart to create it"):
        follow()
    follower.close()
