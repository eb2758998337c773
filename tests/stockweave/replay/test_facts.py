"""A stretch of a log against the real broker: all of it, in order, whatever lies between."""

from __future__ import annotations

from typing import cast

import pytest
from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.topics import UPDATES
from stockweave.errors import Fatal, Retriable
from stockweave.replay.ends import log_ends
from stockweave.replay.facts import Facts
from tests.deployment import Deployment


class Log:
    """Partition 0 of a deployment's updates, written by transactions."""

    def __init__(self, deployment: Deployment) -> None:
        self.bootstrap_servers = deployment.bootstrap_servers
        self.topic = deployment.topics[UPDATES.name].name
        self.producer = Producer({"bootstrap.servers": self.bootstrap_servers, "transactional.id": self.topic})
        self.producer.init_transactions(10)

    def write(self, first: int, count: int, *, commit: bool = True) -> None:
        self.producer.begin_transaction()
        for i in range(first, first + count):
            self.producer.produce(self.topic, str(i).encode(), b"k", 0)
        self.producer.flush()
        if commit:
            self.producer.commit_transaction(10)
        else:
            self.producer.abort_transaction(10)

    def end(self) -> int:
        return log_ends(self.bootstrap_servers, self.topic, [0])[0][1]

    def facts(self, start: int, end: int) -> Facts:
        return Facts(self.bootstrap_servers, self.topic, 0, start, end)

    def trim(self, before: int) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        for deleted in admin.delete_records([TopicPartition(self.topic, 0, before)]).values():
            deleted.result()


@pytest.fixture
def log(deployment: Deployment) -> Log:
    return Log(deployment)


def numbers(messages: list[Message]) -> list[int]:
    return [int(cast("bytes", message.value())) for message in messages]


def test_markers_and_aborted_updates_are_passed_and_nothing_else_is(log: Log) -> None:
    for first in range(0, 30, 3):
        log.write(first, 3)
        log.write(1_000, 2, commit=False)
    end = log.end()
    assert end == 30 + 20 + 20  # a marker follows each transaction
    read = [number for batch in log.facts(0, end).batches(7) for number in numbers(batch)]
    assert read == list(range(30))


def test_a_batch_is_full_but_for_the_last(log: Log) -> None:
    log.write(0, 25)
    assert [len(batch) for batch in log.facts(0, log.end()).batches(10)] == [10, 10, 5]


def test_nothing_from_before_the_start_or_from_the_end_on(log: Log) -> None:
    log.write(0, 20)
    [batch] = log.facts(5, 12).batches(100)
    assert numbers(batch) == list(range(5, 12))
    assert list(log.facts(12, 12).batches(100)) == []


def test_an_end_behind_which_only_markers_lie_is_reached(log: Log) -> None:
    log.write(0, 5)
    marker = log.end()
    log.write(5, 1, commit=False)
    log.write(6, 5)
    assert [numbers(batch) for batch in log.facts(0, marker).batches(100)] == [[0, 1, 2, 3, 4]]
    assert list(log.facts(5, marker).batches(100)) == []


def test_a_log_that_begins_later_says_to_start_from_a_checkpoint(log: Log) -> None:
    log.write(0, 20)
    log.trim(8)
    with pytest.raises(Fatal, match=r"no longer has the updates from offset 3 on: it begins at 8; .* checkpoint"):
        list(log.facts(3, 20).batches(10))
    [batch] = log.facts(8, 20).batches(100)
    assert numbers(batch) == list(range(8, 20))


def test_a_log_that_is_trimmed_while_it_is_read_says_so_too(log: Log) -> None:
    for first in range(0, 40_000, 10_000):
        log.write(first, 10_000)
    facts = log.facts(0, log.end())
    facts._check_range = lambda: log.trim(10_000)  # type: ignore[method-assign] # after the check, before the reading
    with pytest.raises(Fatal, match="no longer has the updates from offset 0 on"):
        list(facts.batches(10))


def test_a_log_that_lost_its_end_is_not_waited_for(log: Log) -> None:
    log.write(0, 5)  # and the marker of its commit, which may come a moment later
    with pytest.raises(Fatal, match=r"ends at [56], and 100 of its updates are folded"):
        list(log.facts(0, 100).batches(10))


def test_an_open_transaction_is_waited_for_and_then_given_up_on(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write(0, 5)
    log.producer.begin_transaction()
    log.producer.produce(log.topic, b"5", b"k", 0)
    log.producer.flush()
    monkeypatch.setattr("stockweave.replay.facts.STALLED_S", 0.5)
    batches = log.facts(0, log.end()).batches(5)
    assert numbers(next(batches)) == [0, 1, 2, 3, 4]
    with pytest.raises(Retriable, match="brought nothing for"):
        next(batches)
    log.producer.abort_transaction(10)
    assert [numbers(batch) for batch in log.facts(0, log.end()).batches(5)] == [[0, 1, 2, 3, 4]]


def test_a_batch_of_large_events_is_cut_by_its_bytes(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write(0, 300)
    monkeypatch.setattr("stockweave.replay.facts.BATCH_BYTES_MAX", 50)
    monkeypatch.setattr("stockweave.replay.facts.CHUNK_EVENTS_MAX", 20)
    batches = [numbers(batch) for batch in log.facts(0, log.end()).batches(1_000)]
    assert [number for batch in batches for number in batch] == list(range(300))
    assert max(map(len, batches)) <= 40
