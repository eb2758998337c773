"""Topics that were created by hand are looked at before a worker relies on them."""

from __future__ import annotations

import re
import uuid

import pytest

from schemas.admin import Deployed, ensure_topics
from schemas.topic_settings import check_settings
from schemas.topics import DEAD_LETTERS, STOCK, Topic
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.errors import Fatal
from stockweave.settings import Settings
from tests.altered import alter

TOPICS = (STOCK, DEAD_LETTERS)


@pytest.fixture(scope="module")
def settings(broker: EmbeddedKafka) -> Settings:
    prefix = f"set-{uuid.uuid4().hex[:8]}."
    return Settings(_env_file=None, topic_prefix=prefix, partitions=1, bootstrap_servers=broker.bootstrap_servers)


@pytest.fixture(scope="module")
def made(settings: Settings) -> dict[str, Deployed]:
    return ensure_topics(settings, settings.bootstrap_servers or "")


def test_topics_that_were_created_here_pass(settings: Settings, made: dict[str, Deployed]) -> None:
    check_settings(settings.bootstrap_servers or "", made, TOPICS)


@pytest.mark.parametrize(
    ("topic", "setting", "value", "needed"),
    [
        (STOCK, "max.message.bytes", "1048588", "33554432"),
        (STOCK, "cleanup.policy", "delete", "compact"),
        (STOCK, "cleanup.policy", "compact,delete", "compact"),
        (DEAD_LETTERS, "max.message.bytes", "33554431", "33554432"),
        (DEAD_LETTERS, "cleanup.policy", "compact", "delete"),
    ],
)
def test_a_topic_that_is_set_otherwise_is_refused_with_what_mends_it(
    settings: Settings, made: dict[str, Deployed], topic: Topic, setting: str, value: str, needed: str
) -> None:
    bootstrap, name = settings.bootstrap_servers or "", made[topic.name].name
    alter(bootstrap, name, setting, value)
    said = f"topic {name} has {setting}={value} and needs {needed}: "
    with pytest.raises(Fatal, match=f"{re.escape(said)}.*--add-config {setting}={needed}"):
        check_settings(bootstrap, made, TOPICS)
    alter(bootstrap, name, setting, needed)
    check_settings(bootstrap, made, TOPICS)
