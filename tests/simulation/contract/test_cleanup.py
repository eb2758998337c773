"""What compaction and deletion leave of a log, on both Kafkas."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from tests.simulation.contract.kafkas import Kafka, first_error, read, reader, started, until, values, write

pytestmark = pytest.mark.timeout(300)  # a cleaner comes when it likes


def test_compaction_leaves_the_last_committed_record_of_each_key(compacting: Kafka) -> None:
    kafka = compacting
    topic, producer = kafka.topic(compacted=True), started(kafka)
    write(producer, topic, b"a1", b"a2", key=b"a")
    write(producer, topic, b"b1", key=b"b")
    producer.begin_transaction()
    producer.produce(topic, b"a-undone", b"a", 0)
    producer.flush(20)
    producer.abort_transaction(20)
    write(producer, topic, b"a3", key=b"a")
    found: list[tuple[bytes | None, int | None]] = []

    def compacted() -> bool:
        kafka.compact(topic)
        found[:] = [(m.value(), m.offset()) for m in read(kafka, reader(kafka, topic), 2)]
        return not {(b"a1", 0), (b"a2", 1)} & set(found)

    until(kafka, compacted)
    assert [(value, offset) for value, offset in found if value in (b"a2", b"b1", b"a3")] == [(b"b1", 3), (b"a3", 7)]


def test_compaction_spares_what_an_open_transaction_may_still_replace(compacting: Kafka) -> None:
    kafka = compacting
    topic, producer = kafka.topic(compacted=True), started(kafka)
    write(producer, topic, b"a1", key=b"a")
    write(producer, topic, b"a2", key=b"a")
    kafka.compact(topic)  # the real one cleans whole segments: what follows is in another
    producer.begin_transaction()
    producer.produce(topic, b"a3", b"a", 0)
    producer.flush(20)

    def compacted() -> bool:
        kafka.compact(topic)
        return values(read(kafka, reader(kafka, topic), 1))[0] == b"a2"

    until(kafka, compacted)
    producer.abort_transaction(20)
    assert values(read(kafka, reader(kafka, topic), 1))[0] == b"a2"


def test_below_the_beginning_there_is_nothing_to_read(kafka: Kafka) -> None:
    topic, producer = kafka.topic(), started(kafka)
    write(producer, topic, b"a", b"b", b"c")
    read(kafka, reader(kafka, topic), 3)
    kafka.trim(topic, 2)
    assert values(read(kafka, reader(kafka, topic), 1)) == [b"c"]
    assert first_error(kafka, reader(kafka, topic, 0)) == KafkaError._AUTO_OFFSET_RESET
