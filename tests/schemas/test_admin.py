from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from schemas import admin as module
from schemas.admin import Deployed, create_generation, ensure_topics, find_generation, find_topics, topics_in_use
from schemas.generation_log import write
from schemas.generations import Generation, Generations, name_of
from schemas.topics import CATALOGUE, STOCK, UPDATES
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal, Retriable
from stockweave.ports import free_port
from stockweave.settings import Settings


@pytest.fixture
def settings(broker: EmbeddedKafka) -> Iterator[Settings]:
    made = Settings(_env_file=None, topic_prefix=f"admin-{uuid.uuid4().hex[:8]}.", partitions=3)
    yield made
    admin = AdminClient(client_config(broker.bootstrap_servers), logger=CLIENT_LOGGER)
    names = [name for name in admin.list_topics(timeout=10).topics if name.startswith(made.topic_prefix)]
    for deleted in admin.delete_topics(names).values() if names else ():
        deleted.result()


@pytest.fixture
def admin(broker: EmbeddedKafka) -> AdminClient:
    return AdminClient(client_config(broker.bootstrap_servers), logger=CLIENT_LOGGER)


def test_every_topic_of_the_catalogue_is_created_as_it_says(
    broker: EmbeddedKafka, settings: Settings, admin: AdminClient
) -> None:
    deployed = ensure_topics(settings, broker.bootstrap_servers)
    assert {name: (d.name, d.partitions) for name, d in deployed.items()} == {
        topic.name: (settings.topic_prefix + topic.name, topic.partitions or 3) for topic in CATALOGUE
    }
    for topic in CATALOGUE:
        resource = ConfigResource(ResourceType.TOPIC, settings.topic(topic.name))
        found = admin.describe_configs([resource])[resource].result()
        assert {key: found[key].value for key in topic.config} == topic.config


def test_topics_are_found_as_they_are_and_none_is_created(
    broker: EmbeddedKafka, settings: Settings, admin: AdminClient
) -> None:
    for look in (find_topics, topics_in_use):
        with pytest.raises(Fatal, match=r"no topic .*inventory\.updates at .*STOCKWEAVE_TOPIC_PREFIX"):
            look(settings, broker.bootstrap_servers)
    assert not [name for name in admin.list_topics(timeout=10).topics if name.startswith(settings.topic_prefix)]
    deployed = ensure_topics(settings, broker.bootstrap_servers)
    made = create_generation(settings, broker.bootstrap_servers, 1)
    live = Generation(1, made.name)
    write(settings, broker.bootstrap_servers, Generations(live, previous=Generation(0, deployed[STOCK.name].name)))
    assert find_topics(settings, broker.bootstrap_servers) == deployed | {STOCK.name: made}


def test_a_second_call_changes_nothing(broker: EmbeddedKafka, settings: Settings) -> None:
    first = ensure_topics(settings, broker.bootstrap_servers)
    assert ensure_topics(settings, broker.bootstrap_servers) == first
    assert len({deployed.generation for deployed in first.values()}) == len(CATALOGUE)


def test_processes_that_start_at_once_agree(broker: EmbeddedKafka, settings: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: ensure_topics(settings, broker.bootstrap_servers), range(4)))
    assert all(deployed == found[0] for deployed in found)


def test_a_topic_that_was_deleted_and_made_again_is_another_generation(
    broker: EmbeddedKafka, settings: Settings, admin: AdminClient
) -> None:
    before = ensure_topics(settings, broker.bootstrap_servers)
    name = settings.topic(STOCK.name)
    admin.delete_topics([name])[name].result()
    deadline = time.monotonic() + 10
    while name in admin.list_topics(timeout=10).topics and time.monotonic() < deadline:
        time.sleep(0.05)
    after = ensure_topics(settings, broker.bootstrap_servers)
    assert after[STOCK.name].generation != before[STOCK.name].generation
    assert {n: d for n, d in after.items() if n != STOCK.name} == {n: d for n, d in before.items() if n != STOCK.name}


def test_folded_topics_with_unlike_partitions_are_refused(
    broker: EmbeddedKafka, settings: Settings, admin: AdminClient
) -> None:
    name = settings.topic(UPDATES.name)
    admin.create_topics([NewTopic(name, 2, 1)])[name].result()
    with pytest.raises(Fatal, match=rf"the same number of partitions.*{name} 2, .*{STOCK.name} 3"):
        ensure_topics(settings, broker.bootstrap_servers)


def test_partitions_that_exist_count_not_those_that_are_set(broker: EmbeddedKafka, settings: Settings) -> None:
    before = ensure_topics(settings, broker.bootstrap_servers)
    assert ensure_topics(settings.model_copy(update={"partitions": 9}), broker.bootstrap_servers) == before


def test_more_replicas_than_brokers_are_refused(broker: EmbeddedKafka, settings: Settings) -> None:
    with pytest.raises(Fatal, match=r"cannot be created: .*replication factor.*; create it, or grant the right"):
        ensure_topics(settings.model_copy(update={"replication_factor": 3}), broker.bootstrap_servers)


def test_a_kafka_that_does_not_answer_is_worth_another_try(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.5)
    nowhere = f"127.0.0.1:{free_port()}"
    with pytest.raises(Retriable, match=rf"Kafka at {nowhere} does not answer: .*; is it running\?"):
        ensure_topics(settings, nowhere)


def test_the_live_generations_topic_is_the_rows_and_the_first_ones_is_not_made_again(
    broker: EmbeddedKafka, settings: Settings, admin: AdminClient
) -> None:
    before = ensure_topics(settings, broker.bootstrap_servers)
    made = create_generation(settings, broker.bootstrap_servers, 1)
    assert made == Deployed(settings.topic(STOCK.name) + ".g1", 3, made.generation, 1)
    write(settings, broker.bootstrap_servers, Generations(live(settings, 1), previous=live(settings, 0)))
    first = before[STOCK.name].name
    admin.delete_topics([first])[first].result()
    deadline = time.monotonic() + 10
    while first in admin.list_topics(timeout=10).topics and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ensure_topics(settings, broker.bootstrap_servers) == before | {STOCK.name: made}
    assert first not in admin.list_topics(timeout=10).topics


def test_a_generation_is_made_like_the_live_one_and_once(
    broker: EmbeddedKafka, settings: Settings, admin: AdminClient
) -> None:
    ensure_topics(settings, broker.bootstrap_servers)
    unlike = settings.model_copy(update={"partitions": 7})
    made = create_generation(unlike, broker.bootstrap_servers, 2)
    assert (made.partitions, made.number) == (3, 2)
    resource = ConfigResource(ResourceType.TOPIC, made.name)
    found = admin.describe_configs([resource])[resource].result()
    assert {key: found[key].value for key in STOCK.config} == STOCK.config
    assert create_generation(settings, broker.bootstrap_servers, 2) == made
    assert find_generation(settings, broker.bootstrap_servers, live(settings, 2)) == made
    assert find_generation(settings, broker.bootstrap_servers, live(settings, 3)) is None


def test_a_generation_with_other_partitions_than_the_updates_is_refused(
    broker: EmbeddedKafka, settings: Settings, admin: AdminClient
) -> None:
    ensure_topics(settings, broker.bootstrap_servers)
    name = name_of(1, settings)
    admin.create_topics([NewTopic(name, 2, 1)])[name].result()
    with pytest.raises(Fatal, match=rf"the same number of partitions.*{UPDATES.name} 3, {name} 2"):
        create_generation(settings, broker.bootstrap_servers, 1)


def live(settings: Settings, number: int) -> Generation:
    return Generation(number, name_of(number, settings))
