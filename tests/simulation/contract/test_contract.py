"""Transactions, isolation, fencing, rebalances, compaction and retention: each law on both Kafkas."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import OFFSET_END, KafkaError, KafkaException, Message, TopicPartition

from stockweave.world import TransactionalProducer
from streams.transaction import is_member
from tests.simulation.contract.kafkas import (
    Kafka,
    first_error,
    nothing_comes,
    read,
    reader,
    started,
    until,
    values,
    write,
)


def error_of(raised: pytest.ExceptionInfo[KafkaException]) -> KafkaError:
    error = raised.value.args[0]
    assert isinstance(error, KafkaError)
    return error


# -- transactions and isolation


def test_committed_records_are_seen_and_those_of_an_undone_transaction_never(kafka: Kafka) -> None:
    topic, producer = kafka.topic(), started(kafka)
    producer.begin_transaction()
    producer.produce(topic, b"undone", b"k", 0)
    producer.flush(20)
    producer.abort_transaction(20)
    write(producer, topic, b"one", b"two")
    consumer = reader(kafka, topic)
    assert values(read(kafka, consumer, 2)) == [b"one", b"two"]
    assert nothing_comes(consumer)


def test_nothing_of_an_open_transaction_is_seen_nor_what_others_committed_after_it_began(kafka: Kafka) -> None:
    topic, slow, quick = kafka.topic(), started(kafka, "slow"), started(kafka, "quick")
    slow.begin_transaction()
    slow.produce(topic, b"slow", b"k", 0)
    slow.flush(20)
    write(quick, topic, b"quick")
    consumer = reader(kafka, topic)
    assert nothing_comes(consumer)
    slow.commit_transaction(20)
    assert values(read(kafka, consumer, 2)) == [b"slow", b"quick"]


def test_the_end_runs_ahead_of_the_last_stable_offset(kafka: Kafka) -> None:
    topic, producer = kafka.topic(), started(kafka)
    write(producer, topic, b"one")
    committed, all_there = kafka.follower(), kafka.uncommitted()
    place = TopicPartition(topic, 0)
    until(kafka, lambda: committed.get_watermark_offsets(place, timeout=10) == (0, 2))
    producer.begin_transaction()
    producer.produce(topic, b"two", b"k", 0)
    producer.flush(20)
    asked = [TopicPartition(topic, 0, OFFSET_END)]
    assert all_there.offsets_for_times(asked, timeout=10)[0].offset == 3
    assert committed.offsets_for_times(asked, timeout=10)[0].offset == 2
    producer.commit_transaction(20)
    until(kafka, lambda: committed.offsets_for_times(asked, timeout=10)[0].offset == 4)


def test_markers_take_offsets_and_the_end_event_passes_them(kafka: Kafka) -> None:
    topic, producer = kafka.topic(), started(kafka)
    write(producer, topic, b"one")
    write(producer, topic, b"two")
    consumer = reader(kafka, topic)
    records: list[int | None] = []
    ends: list[int | None] = []

    def at_end() -> bool:
        for message in consumer.consume(100, 0.1):
            (records if message.error() is None else ends).append(message.offset())
        return 4 in ends

    until(kafka, at_end)
    assert records == [0, 2]


def test_a_delivery_report_tells_the_offset(kafka: Kafka) -> None:
    topic, producer = kafka.topic(), started(kafka)
    told: list[tuple[Any, int | None]] = []
    for value in (b"one", b"two"):
        producer.begin_transaction()
        producer.produce(topic, value, b"k", 0, on_delivery=lambda error, m: told.append((error, m.offset())))
        assert producer.flush(20) == 0
        producer.commit_transaction(20)
    assert told == [(None, 0), (None, 2)]


def test_a_record_without_a_partition_goes_where_its_key_says(kafka: Kafka) -> None:
    topic, producer = kafka.topic(8), started(kafka)
    where: dict[bytes | None, int | None] = {}
    producer.begin_transaction()
    for n in range(10):
        producer.produce(topic, b"v", b"sku-%d" % n, on_delivery=lambda _, m: where.update({m.key(): m.partition()}))
    producer.flush(20)
    producer.commit_transaction(20)
    assert where == {b"sku-%d" % n: p for n, p in enumerate([0, 3, 1, 5, 0, 2, 0, 4, 1, 1])}


def test_calls_out_of_turn_are_refused(kafka: Kafka) -> None:
    topic, producer = kafka.topic(), started(kafka)
    with pytest.raises(KafkaException) as raised:
        producer.produce(topic, b"v", b"k", 0)
    assert error_of(raised).code() == KafkaError._STATE
    producer.begin_transaction()
    with pytest.raises(KafkaException) as raised:
        producer.begin_transaction()
    assert error_of(raised).code() == KafkaError._STATE


# -- fencing


def test_a_namesake_fences_the_former_producer_and_undoes_what_it_left_open(kafka: Kafka) -> None:
    topic, former = kafka.topic(), started(kafka)
    former.begin_transaction()
    former.produce(topic, b"former", b"k", 0)
    former.flush(20)
    namesake = started(kafka)
    with pytest.raises(KafkaException) as raised:
        former.commit_transaction(20)
    assert error_of(raised).fatal()
    write(namesake, topic, b"namesake")
    assert values(read(kafka, reader(kafka, topic), 1)) == [b"namesake"]


class Member:
    """A member of a group, and what it owns."""

    def __init__(self, kafka: Kafka, group: str, topic: str) -> None:
        self.consumer = kafka.member(group)
        self.owned: set[int] = set()
        self.consumer.subscribe([topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)

    def poll(self) -> list[Message]:
        return self.consumer.consume(10, 0.1)

    def _assign(self, _: object, partitions: list[TopicPartition]) -> None:
        self.consumer.incremental_assign([TopicPartition(p.topic, p.partition, 0) for p in partitions])
        self.owned |= {p.partition for p in partitions}

    def _revoke(self, _: object, partitions: list[TopicPartition]) -> None:
        self.consumer.incremental_unassign(partitions)
        self.owned -= {p.partition for p in partitions}


def of_whom_one_came_later(kafka: Kafka, topic: str) -> tuple[Member, Any, Member]:
    """Two members with a partition each, and the first one's metadata of the time when it had both."""
    first = Member(kafka, "g", topic)
    until(kafka, lambda: bool(first.poll() or first.owned == {0, 1}))
    before = first.consumer.consumer_group_metadata()
    second = Member(kafka, "g", topic)
    until(kafka, lambda: bool(first.poll() or second.poll() or (len(first.owned) == len(second.owned) == 1)))
    return first, before, second


def offer(producer: TransactionalProducer, topic: str, offset: int, metadata: Any, partition: int = 0) -> None:
    producer.begin_transaction()
    producer.produce(topic, b"v", b"k", 0)
    producer.flush(20)
    producer.send_offsets_to_transaction([TopicPartition(topic, partition, offset)], metadata, 20)


def test_offsets_of_a_member_of_the_group_are_taken_and_told_once_they_are_committed(kafka: Kafka) -> None:
    topic, producer = kafka.topic(), started(kafka)
    member = Member(kafka, "g", topic)
    until(kafka, lambda: bool(member.poll() or member.owned))
    metadata = member.consumer.consumer_group_metadata()
    assert is_member(metadata)
    offer(producer, topic, 7, metadata)
    with pytest.raises(KafkaException):  # it waits for what is open
        member.consumer.committed([TopicPartition(topic, 0)], timeout=0.5)
    producer.commit_transaction(20)

    def told() -> bool:
        try:
            [answer] = member.consumer.committed([TopicPartition(topic, 0)], timeout=2)
        except KafkaException:
            return False
        return answer.offset == 7

    until(kafka, told)


def test_offsets_that_were_undone_are_not_told(kafka: Kafka) -> None:
    topic, producer = kafka.topic(), started(kafka)
    member = Member(kafka, "g", topic)
    until(kafka, lambda: bool(member.poll() or member.owned))
    offer(producer, topic, 7, member.consumer.consumer_group_metadata())
    producer.abort_transaction(20)
    told: list[int] = []

    def answered() -> bool:
        try:
            told.append(member.consumer.committed([TopicPartition(topic, 0)], timeout=2)[0].offset)
        except KafkaException:
            return False
        return True

    until(kafka, answered)
    assert told == [-1001]


def test_a_member_that_is_not_in_the_group_any_more_cannot_commit(kafka: Kafka) -> None:
    topic, producer = kafka.topic(), started(kafka)
    member = Member(kafka, "g", topic)
    until(kafka, lambda: bool(member.poll() or member.owned))
    metadata = member.consumer.consumer_group_metadata()
    member.consumer.close()
    with pytest.raises(KafkaException) as raised:
        offer(producer, topic, 7, metadata)
    assert error_of(raised).txn_requires_abort()
    producer.abort_transaction(20)
    write(producer, topic, b"after")
    assert values(read(kafka, reader(kafka, topic), 1)) == [b"after"]


def test_after_a_rebalance_metadata_of_before_is_good_for_what_the_member_kept_and_for_nothing_else(
    kafka: Kafka,
) -> None:
    topic, producer = kafka.topic(2), started(kafka)
    first, before, second = of_whom_one_came_later(kafka, topic)
    [kept], [gone] = first.owned, second.owned
    offer(producer, topic, 7, before, kept)
    producer.commit_transaction(20)
    with pytest.raises(KafkaException) as raised:
        offer(producer, topic, 7, before, gone)
    assert error_of(raised).txn_requires_abort()
    producer.abort_transaction(20)
    now = second.consumer.consumer_group_metadata()
    assert is_member(now)
    offer(producer, topic, 7, now, gone)
    producer.commit_transaction(20)


def test_metadata_of_a_former_time_in_the_group_is_good_for_nothing(kafka: Kafka) -> None:
    """The partition came back to the member, after another had it."""
    topic, producer = kafka.topic(2), started(kafka)
    first, before, second = of_whom_one_came_later(kafka, topic)
    [gone] = second.owned
    second.consumer.close()
    until(kafka, lambda: bool(first.poll() or first.owned == {0, 1}))
    with pytest.raises(KafkaException) as raised:
        offer(producer, topic, 7, before, gone)
    assert error_of(raised).txn_requires_abort()


def test_a_partition_goes_to_the_next_member_only_after_the_former_gave_it_back(kafka: Kafka) -> None:
    topic = kafka.topic(4)
    first = Member(kafka, "g", topic)
    until(kafka, lambda: bool(first.poll() or first.owned == {0, 1, 2, 3}))
    second = Member(kafka, "g", topic)
    for _ in range(5):
        second.poll()
        assert not second.owned & first.owned
    until(kafka, lambda: bool(first.poll() or second.poll() or len(second.owned) == 2))
    assert not second.owned & first.owned
    assert first.owned in ({0, 1}, {2, 3})  # range: in one piece
    first.consumer.close()
    until(kafka, lambda: bool(second.poll() or second.owned == {0, 1, 2, 3}))


# -- reading


def test_a_pause_brings_nothing_and_a_seek_goes_on_from_there(kafka: Kafka) -> None:
    topic, producer = kafka.topic(), started(kafka)
    write(producer, topic, b"a", b"b", b"c")
    consumer = reader(kafka, topic)
    assert values(read(kafka, consumer, 3)) == [b"a", b"b", b"c"]
    at = TopicPartition(topic, 0, 1)
    consumer.pause([at])
    consumer.seek(at)
    assert nothing_comes(consumer)
    consumer.resume([at])
    assert values(read(kafka, consumer, 2)) == [b"b", b"c"]


def test_the_cached_end_is_that_of_the_last_fetch(kafka: Kafka) -> None:
    topic, producer = kafka.topic(), started(kafka)
    consumer, place = reader(kafka, topic), TopicPartition(topic, 0)
    write(producer, topic, b"a", b"b")
    read(kafka, consumer, 2)
    until(kafka, lambda: bool(consumer.consume(1, 0.1)) or consumer.get_watermark_offsets(place, cached=True) == (0, 3))


def test_an_offset_beyond_the_end_is_an_error_and_not_another_place(kafka: Kafka) -> None:
    topic, producer = kafka.topic(), started(kafka)
    write(producer, topic, b"a")
    assert first_error(kafka, reader(kafka, topic, 100)) == KafkaError._AUTO_OFFSET_RESET
