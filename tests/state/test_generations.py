"""What a follower of the record of generations tells, against the real broker, and which folders are kept."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from schemas.admin import Deployed, create_generation, ensure_topics
from schemas.generations import Generation, Generations, name_of
from schemas.topics import STOCK
from state.generations import Directions, GenerationsFollower, delete_other_folders, look_up
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.errors import Fatal
from stockweave.settings import Settings
from tests.generations import tell

WAIT_S = 10.0
PARTITIONS = 2


@pytest.fixture
def settings(broker: EmbeddedKafka) -> Settings:
    return Settings(_env_file=None, topic_prefix=f"gen-{uuid.uuid4().hex[:8]}.", partitions=PARTITIONS)


@pytest.fixture
def first(broker: EmbeddedKafka, settings: Settings) -> Deployed:
    """The live topic of a deployment that has no record yet."""
    return ensure_topics(settings, broker.bootstrap_servers)[STOCK.name]


@pytest.fixture
def follower(broker: EmbeddedKafka, settings: Settings, first: Deployed) -> Iterator[GenerationsFollower]:
    made = GenerationsFollower(settings, broker.bootstrap_servers)
    yield made
    made.close()


def told(follower: GenerationsFollower) -> Directions:
    """The next directions."""
    deadline = time.monotonic() + WAIT_S
    while (directions := follower.poll(0.05)) is None:
        assert time.monotonic() < deadline, "nothing is told"
    return directions


def create(broker: EmbeddedKafka, topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result()
    deadline = time.monotonic() + WAIT_S
    while topic not in admin.list_topics(timeout=WAIT_S).topics:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def named(settings: Settings, *numbers: int) -> list[Generation]:
    return [Generation(number, name_of(number, settings)) for number in numbers]


def test_every_record_is_told_once_the_first_generation_where_there_is_none(
    broker: EmbeddedKafka, settings: Settings, first: Deployed, follower: GenerationsFollower
) -> None:
    assert told(follower) == Directions(first, None, None)
    assert follower.poll(0.05) is None
    candidate = create_generation(settings, broker.bootstrap_servers, 1)
    tell(settings, broker.bootstrap_servers, live=0, candidate=1)
    assert told(follower) == Directions(first, candidate, None)
    tell(settings, broker.bootstrap_servers, live=1, previous=0)
    assert told(follower) == Directions(candidate, None, first)
    assert follower.poll(0.05) is None
    assert (first.number, candidate.number) == (0, 1)


def test_nothing_is_told_before_the_newest_record_is_known(
    broker: EmbeddedKafka, settings: Settings, first: Deployed
) -> None:
    made = [create_generation(settings, broker.bootstrap_servers, number) for number in (1, 2)]
    for number in (1, 2):
        tell(settings, broker.bootstrap_servers, live=number, previous=number - 1)
    follower = GenerationsFollower(settings, broker.bootstrap_servers)
    assert follower.poll(0) is None
    assert told(follower) == Directions(made[1], None, made[0])
    follower.close()


def test_a_record_that_could_not_be_looked_up_is_told_once_it_can(
    broker: EmbeddedKafka, settings: Settings, follower: GenerationsFollower
) -> None:
    tell(settings, broker.bootstrap_servers, live=1)
    with pytest.raises(Fatal, match=rf"topic {name_of(1, settings)} of the live generation is gone; restart"):
        told(follower)
    live = create_generation(settings, broker.bootstrap_servers, 1)
    assert told(follower).live == live


def test_of_a_live_generation_without_a_usable_topic_nothing_can_be_served(
    broker: EmbeddedKafka, settings: Settings, first: Deployed
) -> None:
    [gone, odd] = named(settings, 1, 2)
    create(broker, odd.topic, PARTITIONS + 1)
    said = f"topic {gone.topic} of the live generation is gone; restart to create it, and rows are folded anew into it"
    with pytest.raises(Fatal, match=f"^{said}$"):
        look_up(settings, broker.bootstrap_servers, Generations(gone))
    with pytest.raises(Fatal, match=rf"need the same number of partitions.*{odd.topic} {PARTITIONS + 1}; mend them"):
        look_up(settings, broker.bootstrap_servers, Generations(odd))


def test_another_generation_without_a_usable_topic_is_none(
    broker: EmbeddedKafka, settings: Settings, first: Deployed
) -> None:
    live, gone, odd = named(settings, 0, 1, 2)
    create(broker, odd.topic, PARTITIONS + 1)
    for candidate, previous in [(gone, odd), (odd, gone), (None, odd), (odd, None)]:
        found = look_up(settings, broker.bootstrap_servers, Generations(live, candidate, previous))
        assert found == Directions(first, None, None)


def test_a_topic_that_was_dropped_and_made_again_is_another_generation(
    broker: EmbeddedKafka, settings: Settings, first: Deployed
) -> None:
    live, one = named(settings, 0, 1)
    record = Generations(live, one)
    before = create_generation(settings, broker.bootstrap_servers, 1)
    assert look_up(settings, broker.bootstrap_servers, record).candidate == before
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.delete_topics([one.topic])[one.topic].result()
    deadline = time.monotonic() + WAIT_S
    while one.topic in admin.list_topics(timeout=WAIT_S).topics:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    create(broker, one.topic, PARTITIONS)
    after = look_up(settings, broker.bootstrap_servers, record).candidate
    assert after is not None
    assert after.generation != before.generation
    assert replace(after, generation=before.generation) == before


def test_folders_of_generations_that_are_not_kept_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    delete_other_folders(tmp_path / "stock", {"a"})
    assert not (tmp_path / "stock").exists()
    for name in ("a", "b", "c", "d"):
        (tmp_path / "stock" / name / "0").mkdir(parents=True)
        (tmp_path / "stock" / name / "0" / "CURRENT").write_text("rows")
    (tmp_path / "stock" / "lock").write_text("ours")
    (tmp_path / "view").mkdir()
    delete_other_folders(tmp_path / "stock", {"a", "c", "nothing"})
    assert sorted(path.name for path in (tmp_path / "stock").iterdir()) == ["a", "c", "lock"]
    assert (tmp_path / "stock" / "c" / "0" / "CURRENT").read_text() == "rows"
    assert (tmp_path / "view").exists()
