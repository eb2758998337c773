"""The follower message by message, in the orders and with the errors that a broker shows rarely; the store is real."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from schemas import keys
from state import follower as following
from state.database import Resources
from state.follower import (
    AWAY_MS_MAX,
    CLOCK_BACK_MS_MAX,
    LOOKUPS_MAX,
    Follower,
    Progress,
    follower_config,
    open_consumer,
)
from state.store import PartitionStore
from stockweave import clients
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.errors import Fatal, Retriable
from stockweave.ports import free_port
from tests.state.stored import position

GONE = [KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION]
OUT_OF_RANGE = [KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE]


class Script:
    """A consumer that brings what it was given, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.coming: list[Message] = []
        self.assigned: list[tuple[str, int, int]] = []
        self.asked: list[tuple[int, float]] = []

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned += [(one.topic, one.partition, one.offset) for one in partitions]

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        gone = {(one.topic, one.partition) for one in partitions}
        self.assigned = [one for one in self.assigned if one[:2] not in gone]

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        self.asked.append((num_messages, timeout))
        found, self.coming = self.coming[:num_messages], self.coming[num_messages:]
        return found

    def close(self) -> None:
        self.coming.clear()


def record(offset: int, key: bytes, value: bytes | None, partition: int = 0) -> Message:
    return Message(topic="t", partition=partition, offset=offset, key=key, value=value)


def end(offset: int, partition: int = 0) -> Message:
    return Message(topic="t", partition=partition, offset=offset, error=KafkaError(KafkaError._PARTITION_EOF, "end"))


def trouble(error: KafkaError, partition: int = 0) -> Message:
    return Message(topic="t", partition=partition, offset=-1001, error=error)


@pytest.fixture
def resources() -> Resources:
    return Resources(1 << 20, 4 << 20)


@pytest.fixture
def store(tmp_path: Path, resources: Resources) -> Iterator[PartitionStore]:
    opened = PartitionStore(tmp_path / "0", resources, "g1")
    yield opened
    opened.close()


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def follower(script: Script, store: PartitionStore) -> Follower:
    made = Follower(script, "t")
    made.add(0, store, 0)
    return made


def bring(follower: Follower, script: Script, *messages: Message) -> None:
    script.coming += messages
    assert follower.step(100, 0.5) == len(messages)


def test_a_step_waits_for_the_first_message_alone_and_takes_no_more_than_asked(
    follower: Follower, script: Script, store: PartitionStore
) -> None:
    script.coming = [record(n, b"%d" % n, b"1") for n in range(9)]
    assert [follower.step(most, 0.5) for most in (1, 2, 4, 100, 100)] == [1, 2, 4, 2, 0]
    assert script.asked == [(1, 0.5), (1, 0.5), (1, 0), (1, 0.5), (3, 0), (1, 0.5), (99, 0), (1, 0.5)]
    assert [key for key, _ in store.rows()] == [b"%d" % n for n in range(9)]


def test_where_a_store_stands_is_where_its_topic_was_read_to(
    follower: Follower, script: Script, store: PartitionStore
) -> None:
    """Ends pass control records; messages that come again take nothing back, and neither do ends."""
    assert (follower.read_to(0), follower.ended_at(0)) == (0, -1)
    bring(follower, script, end(0))
    assert (follower.read_to(0), follower.ended_at(0), store.mark.next_offset) == (0, 0, 0)
    bring(follower, script, record(0, b"a", b"1"))
    assert (follower.read_to(0), follower.ended_at(0), store.mark.next_offset) == (1, 0, 1)
    bring(follower, script, record(1, b"b", b"1"), record(2, keys.POSITION, position(7)), end(4))
    assert (follower.read_to(0), follower.ended_at(0), store.mark.next_offset) == (4, 4, 4)
    assert (store.mark.anchor, store.position_bytes) == (2, position(7))
    bring(follower, script, record(1, b"b", b"1"), end(3))
    assert (follower.read_to(0), follower.ended_at(0), store.mark.next_offset) == (4, 4, 4)
    assert store.mark.anchor == 2
    bring(follower, script, record(4, b"b", None))
    assert list(store.rows()) == [(b"a", b"1")]


def test_what_comes_after_an_end_in_the_same_step_is_taken(
    follower: Follower, script: Script, store: PartitionStore
) -> None:
    bring(follower, script, record(0, b"a", b"1"), end(1), record(1, b"b", b"2"), end(2), record(2, b"c", b"3"))
    assert [key for key, _ in store.rows()] == [b"a", b"b", b"c"]
    assert (follower.read_to(0), follower.ended_at(0)) == (3, 2)


def test_partitions_are_followed_each_into_its_own_store_and_only_those(
    tmp_path: Path, resources: Resources, follower: Follower, script: Script, store: PartitionStore
) -> None:
    other = PartitionStore(tmp_path / "2", resources, "g1")
    follower.add(2, other, 0)
    assert script.assigned == [("t", 0, OFFSET_BEGINNING), ("t", 2, OFFSET_BEGINNING)]
    mixed = [
        record(0, b"a", b"1"),
        record(5, b"b", b"2", 2),
        record(0, b"c", b"3", 1),
        record(1, b"d", b"4"),
        end(9, 2),
    ]
    bring(follower, script, *mixed)
    assert (list(store.rows()), list(other.rows())) == ([(b"a", b"1"), (b"d", b"4")], [(b"b", b"2")])
    assert (store.mark.next_offset, other.mark.next_offset) == (2, 9)
    for _ in range(2):  # it may have been taken away already
        follower.remove(0)
        assert script.assigned == [("t", 2, OFFSET_BEGINNING)]
    bring(follower, script, record(2, b"e", b"5"), record(9, b"f", b"6", 2))
    assert (store.mark.next_offset, other.mark.next_offset) == (2, 10)
    other.close()


def test_what_changed_is_told_once_it_is_in_the_store(script: Script, store: PartitionStore) -> None:
    told: list[tuple[Progress, int]] = []
    follower = Follower(script, "t", lambda progress: told.append((progress, store.mark.next_offset)))
    follower.add(0, store, 0)
    bring(follower, script, record(0, b"a", b"1"), record(1, b"b", None), record(2, b"a", b"2"), end(3))
    bring(follower, script, end(4))
    assert told == [(Progress(0, {b"a": b"2", b"b": None}), 3)]


@pytest.mark.parametrize("partition", [0, -1])
@pytest.mark.parametrize("code", GONE)
def test_a_topic_that_is_gone_is_fatal(follower: Follower, script: Script, code: int, partition: int) -> None:
    script.coming = [trouble(KafkaError(code, "unknown"), partition)]
    said = "^topic t is gone: unknown; restart to create it, and the state is read anew$"
    with pytest.raises(Fatal, match=said):
        follower.step(100, 0.5)


@pytest.mark.parametrize("partition", [0, -1])
@pytest.mark.parametrize(
    "error",
    [
        KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "why"),
        KafkaError(KafkaError._AUTHENTICATION, "why"),
        KafkaError(KafkaError._TRANSPORT, "why", fatal=True),
    ],
)
def test_a_topic_that_may_never_be_read_is_fatal(
    follower: Follower, script: Script, error: KafkaError, partition: int
) -> None:
    script.coming = [trouble(error, partition)]
    with pytest.raises(Fatal, match=r"^topic t cannot be read: why$"):
        follower.step(100, 0.5)


@pytest.mark.parametrize("partition", [0, -1])
def test_an_error_that_can_pass_is_passed_and_what_follows_is_taken(
    follower: Follower, script: Script, store: PartitionStore, partition: int
) -> None:
    passing = KafkaError(KafkaError._TRANSPORT, "connection lost")
    bring(follower, script, record(0, b"a", b"1"), trouble(passing, partition), record(1, b"b", b"2"))
    assert [key for key, _ in store.rows()] == [b"a", b"b"]
    assert store.mark.next_offset == 2


@pytest.mark.parametrize("code", OUT_OF_RANGE)
def test_a_beginning_that_is_not_there_yet_is_looked_up_for_a_while(
    follower: Follower, script: Script, store: PartitionStore, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOKUP_WAIT_S", 0)
    late = trouble(KafkaError(code, "no such offset"))
    for _ in range(LOOKUPS_MAX):
        script.assigned = [("t", 0, 7)]
        bring(follower, script, late)
        assert script.assigned == [("t", 0, OFFSET_BEGINNING)]
    script.coming = [late]
    with pytest.raises(Fatal, match=r"^topic t is gone: no such offset; restart to create it"):
        follower.step(100, 0.5)
    bring(follower, script, record(0, b"a", b"1"))
    assert store.get(b"a") == b"1"


ANCHOR, KEPT = 4, position(7)


@pytest.fixture
def resumed(script: Script, store: PartitionStore) -> Follower:
    """A follower whose store has a row, and a position record that was at ANCHOR."""
    store.write({b"a": b"1", keys.POSITION: KEPT}, ANCHOR + 2, ANCHOR)
    made = Follower(script, "t")
    made.add(0, store, store.mark.saved_at)
    assert script.assigned == [("t", 0, ANCHOR)]
    assert (made.read_to(0), made.ended_at(0)) == (-1, -1)
    return made


def test_a_store_whose_very_position_record_is_in_the_topic_is_trusted(
    resumed: Follower, script: Script, store: PartitionStore
) -> None:
    bring(resumed, script, record(ANCHOR, keys.POSITION, KEPT))
    assert resumed.read_to(0) == ANCHOR + 2
    bring(resumed, script, record(ANCHOR + 2, b"b", b"2"))
    assert [key for key, _ in store.rows()] == [b"a", b"b"]


@pytest.mark.parametrize(
    "first",
    [
        record(ANCHOR, keys.POSITION, position(8)),
        record(ANCHOR, b"a", KEPT),
        record(ANCHOR + 1, keys.POSITION, KEPT),
        end(ANCHOR),
        *(trouble(KafkaError(code, "no such offset")) for code in OUT_OF_RANGE),
    ],
    ids=["other bytes", "other key", "other offset", "the end", "out of range", "no offset"],
)
def test_a_store_whose_position_record_is_not_in_the_topic_is_read_again(
    resumed: Follower, script: Script, store: PartitionStore, first: Message
) -> None:
    bring(resumed, script, first, record(ANCHOR + 2, b"b", b"2"))
    assert script.assigned == [("t", 0, OFFSET_BEGINNING)]
    assert (list(store.rows()), store.mark.next_offset, store.mark.anchor) == ([], 0, -1)
    bring(resumed, script, record(0, b"c", b"3"), end(1))
    assert (list(store.rows()), resumed.ended_at(0)) == ([(b"c", b"3")], 1)


@pytest.mark.parametrize(
    ("away_ms", "kept"),
    [(AWAY_MS_MAX, True), (AWAY_MS_MAX + 1, False), (-CLOCK_BACK_MS_MAX, True), (-CLOCK_BACK_MS_MAX - 1, False)],
)
def test_a_store_is_kept_for_as_long_as_its_topic_remembers_what_was_removed(
    script: Script, store: PartitionStore, away_ms: int, kept: bool
) -> None:
    store.write({b"a": b"1", keys.POSITION: KEPT}, ANCHOR + 2, ANCHOR)
    Follower(script, "t").add(0, store, store.mark.saved_at + away_ms)
    assert script.assigned == [("t", 0, ANCHOR if kept else OFFSET_BEGINNING)]
    assert list(store.rows()) == ([(b"a", b"1")] if kept else [])


def test_a_position_record_at_the_very_beginning_is_compared_as_any(script: Script, store: PartitionStore) -> None:
    store.write({keys.POSITION: KEPT}, 1, 0)
    follower = Follower(script, "t")
    follower.add(0, store, store.mark.saved_at)
    assert (script.assigned, follower.read_to(0)) == ([("t", 0, 0)], -1)


def test_a_follower_reads_what_is_committed_is_told_of_ends_and_lost_offsets_and_commits_nothing() -> None:
    config = follower_config("127.0.0.1:1")
    Consumer(config).close()  # every name is one that the client knows
    wanted = {
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "queued.max.messages.kbytes": 32_768,  # what waits in memory is bounded
    }
    assert wanted.items() <= config.items()


def test_a_kafka_that_does_not_answer_is_worth_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "ANSWER_S", 0.3)
    nowhere = f"127.0.0.1:{free_port()}"
    with pytest.raises(Retriable, match=rf"Kafka at {nowhere} does not answer: .*; is it running\?"):
        open_consumer(nowhere, "t")


def test_a_consumer_that_was_opened_reads_its_topic_at_once(broker: EmbeddedKafka) -> None:
    topic = f"opened-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    consumer = open_consumer(broker.bootstrap_servers, topic)
    assert list(consumer.list_topics(topic, timeout=10).topics[topic].partitions) == [0]
    consumer.incremental_assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    [message] = consumer.consume(1, 10)
    error = message.error()
    assert error is not None
    assert (error.code(), message.offset()) == (KafkaError._PARTITION_EOF, 0)
    consumer.close()
