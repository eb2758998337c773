"""The record of generations: what it says, where it is read, and what is said when it cannot be."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer
from msgspec.structs import replace

from schemas import small_topic
from schemas.admin import ensure_topics
from schemas.generation_log import GenerationLog, read, write
from schemas.generations import FACTS, KEY, Generation, Generations, Plan, decode, encode, first, name_of, number_of
from schemas.topics import GENERATIONS
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.errors import Fatal, Retriable
from stockweave.ports import free_port
from stockweave.settings import Settings

WAIT_S = 10.0


@pytest.fixture
def settings(broker: EmbeddedKafka) -> Settings:
    return Settings(_env_file=None, topic_prefix=f"gen-{uuid.uuid4().hex[:8]}.", partitions=3)


@pytest.fixture
def deployed(broker: EmbeddedKafka, settings: Settings) -> Settings:
    ensure_topics(settings, broker.bootstrap_servers)
    return settings


@pytest.fixture
def log(broker: EmbeddedKafka, deployed: Settings) -> Iterator[GenerationLog]:
    made = GenerationLog(deployed, broker.bootstrap_servers)
    yield made
    made.close()


def record(settings: Settings, live: int, candidate: int | None = None) -> Generations:
    def named(number: int) -> Generation:
        return Generation(number, name_of(number, settings))

    return Generations(named(live), None if candidate is None else named(candidate), changed_at=1_700_000_000_000)


def transactional(broker: EmbeddedKafka, settings: Settings) -> Producer:
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "transactional.id": settings.topic_prefix + "writer"}
    )
    producer.init_transactions(WAIT_S)
    return producer


def test_a_record_is_read_as_it_was_written() -> None:
    settings = Settings(_env_file=None, topic_prefix="shop-a.")
    planned = replace(record(settings, 3, 4), plan=Plan(FACTS, (0, 2), "1f"))
    for made in (first(settings), record(settings, 3, 4), planned):
        assert decode(encode(made), settings) == made
    assert encode(record(settings, 1)) == (
        b'{"live":{"number":1,"topic":"shop-a.inventory.stock.g1"},"candidate":null,"previous":null,'
        b'"changed_at":1700000000000,"plan":null}'
    )
    assert decode(None, settings) == first(settings)


def test_a_record_that_was_written_before_there_were_plans_has_none() -> None:
    written = b'{"live":{"number":0,"topic":"inventory.stock"},"candidate":null,"previous":null,"changed_at":1}'
    assert decode(written, Settings(_env_file=None)).plan is None


def test_a_topic_is_known_by_its_name_alone() -> None:
    settings = Settings(_env_file=None, topic_prefix="shop-a.")
    for number in (0, 1, 10):
        assert number_of(name_of(number, settings), settings) == number
    for other in (
        "inventory.stock",
        "shop-a.inventory.stock.g",
        "shop-a.inventory.stock.g01",
        "shop-aXinventory.stock",
    ):
        assert number_of(other, settings) is None


def test_a_new_number_is_above_all_that_are_named() -> None:
    settings = Settings(_env_file=None)
    assert first(settings).next_number() == 1
    assert record(settings, 0, 4).next_number() == 5
    assert Generations(Generation(2, "x"), None, Generation(7, "y")).next_number() == 8


@pytest.mark.parametrize("value", [b"", b"nonsense", b"\xff", b'{"live":1}', b'{"candidate":null}'])
def test_a_record_that_cannot_be_read_is_fatal_and_says_where_it_is(value: bytes) -> None:
    with pytest.raises(Fatal, match=r"record 'stock' in inventory\.generations cannot be read: .*; write it again"):
        decode(value, Settings(_env_file=None))


def test_a_record_of_another_deployment_is_fatal_and_says_what_to_look_at() -> None:
    made = encode(record(Settings(_env_file=None, topic_prefix="shop-a."), 1))
    with pytest.raises(Fatal, match=r"shop-a\.inventory\.stock\.g1, and here .* is STOCKWEAVE_TOPIC_PREFIX right"):
        decode(made, Settings(_env_file=None, topic_prefix="shop-b."))


def test_without_a_record_or_a_topic_the_first_generation_is_live(broker: EmbeddedKafka, settings: Settings) -> None:
    assert read(settings, broker.bootstrap_servers) == first(settings)
    ensure_topics(settings, broker.bootstrap_servers)
    assert read(settings, broker.bootstrap_servers) == first(settings)


def test_the_newest_record_is_read_at_once(broker: EmbeddedKafka, deployed: Settings) -> None:
    for live in range(1, 6):
        write(deployed, broker.bootstrap_servers, record(deployed, live))
        assert read(deployed, broker.bootstrap_servers).live.number == live


def test_a_record_under_way_is_waited_for_and_one_that_was_aborted_never_was(
    broker: EmbeddedKafka, deployed: Settings, log: GenerationLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(deployed, broker.bootstrap_servers, record(deployed, 1))
    producer = transactional(broker, deployed)
    producer.begin_transaction()
    producer.produce(deployed.topic(GENERATIONS.name), encode(record(deployed, 2)), KEY, 0)
    producer.flush(WAIT_S)
    with monkeypatch.context() as patch:
        patch.setattr(small_topic, "WAIT_S", 1.0)
        with pytest.raises(Retriable, match=r"inventory\.generations could not be read to its end .* just writing it"):
            read(deployed, broker.bootstrap_servers)
    producer.abort_transaction(WAIT_S)
    assert read(deployed, broker.bootstrap_servers).live.number == 1
    producer.begin_transaction()
    producer.produce(deployed.topic(GENERATIONS.name), encode(record(deployed, 3)), KEY, 0)
    producer.commit_transaction(WAIT_S)
    assert read(deployed, broker.bootstrap_servers).live.number == 3
    deadline = time.monotonic() + WAIT_S
    while log.newest.live.number != 3:
        assert time.monotonic() < deadline
        log.poll(0.1)
        assert log.newest.live.number in (0, 1, 3)


def test_a_kafka_that_does_not_answer_is_worth_another_try(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_topic, "ANSWER_S", 0.5)
    monkeypatch.setattr(small_topic, "WAIT_S", 0.5)
    nowhere = f"127.0.0.1:{free_port()}"
    with pytest.raises(Retriable, match=rf"Kafka at {nowhere} does not answer: .*; is it running\?"):
        read(settings, nowhere)
    with pytest.raises(Retriable, match=rf"Kafka at {nowhere} does not answer: .*; is it running\?"):
        write(settings, nowhere, first(settings))
