"""Creates the catalogue's topics in a Kafka and tells their ids; safe to call from every process at its start."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from schemas.topics import CATALOGUE, Topic
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal, Retriable
from stockweave.settings import Settings

ANSWER_S = 3.0
WAIT_S = 15.0
CREATED_POLL_S = 0.05


@dataclass(frozen=True)
class Deployed:
    """A topic as it stands in the cluster. `generation`: names this very topic, not a namesake created later."""

    name: str
    partitions: int
    generation: str


def ensure_topics(settings: Settings, bootstrap_servers: str) -> dict[str, Deployed]:
    """Create what is missing of the catalogue; returns every topic by its catalogue name.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: a folded topic has another number of partitions than the others, or may not be created.
    """
    admin = AdminClient(client_config(bootstrap_servers), logger=CLIENT_LOGGER)
    new = [
        NewTopic(settings.topic(t.name), settings.partitions, settings.replication_factor, config=dict(t.config))
        for t in CATALOGUE
    ]
    try:
        present = set(admin.list_topics(timeout=ANSWER_S).topics)
    except KafkaException as error:
        raise _unanswered(bootstrap_servers, error) from error
    missing = [n for n in new if n.topic not in present]
    for name, created in admin.create_topics(missing, request_timeout=WAIT_S).items() if missing else ():
        try:
            created.result()
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError.TOPIC_ALREADY_EXISTS:
                continue  # another process of this deployment was quicker
            if error.args[0].retriable() or code in (KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT):
                raise Retriable(f"topic {name} could not be created yet: {error.args[0].str()}") from error
            raise Fatal(
                f"topic {name} cannot be created: {error.args[0].str()}; create it, or grant the right"
            ) from error
    return _describe(admin, settings, bootstrap_servers)


def generation_of(described: Any) -> str:  # noqa: ANN401 - untyped in confluent_kafka
    """The generation of a described topic."""
    return hashlib.sha256(str(described.topic_id).encode()).hexdigest()[:8]


def _describe(admin: AdminClient, settings: Settings, bootstrap_servers: str) -> dict[str, Deployed]:
    names = {topic.name: settings.topic(topic.name) for topic in CATALOGUE}
    deadline = time.monotonic() + WAIT_S
    while True:
        futures = admin.describe_topics(TopicCollection(list(names.values())), request_timeout=WAIT_S)
        try:
            described = {topic: futures[name].result() for topic, name in names.items()}
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                raise _unanswered(bootstrap_servers, error) from error
            time.sleep(CREATED_POLL_S)  # a broker hears of a topic a moment after the controller has created it
        else:
            break
    deployed = {
        topic: Deployed(names[topic], len(found.partitions), generation_of(found)) for topic, found in described.items()
    }
    _check_partitions(deployed)
    return deployed


def _check_partitions(deployed: dict[str, Deployed]) -> None:
    folded: list[Topic] = [t for t in CATALOGUE if t.folded]
    counts = {deployed[t.name].name: deployed[t.name].partitions for t in folded}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {n}" for name, n in counts.items())
        raise Fatal(f"topics that are folded together need the same number of partitions, and have: {said}; mend them")


def _unanswered(bootstrap_servers: str, error: KafkaException) -> Retriable:
    return Retriable(f"Kafka at {bootstrap_servers} does not answer: {error.args[0].str()}; is it running?")
