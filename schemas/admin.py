"""Creates the catalogue's topics in a Kafka and tells their ids; safe to call from every process at its start.

The rows are those of the live generation: `STOCK` stands for whichever topic the record of generations names.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from schemas.generation_log import read
from schemas.generations import Generation, first, name_of
from schemas.topics import CATALOGUE, GENERATIONS, STOCK, UPDATES, Topic
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal, Retriable
from stockweave.settings import Settings

ANSWER_S = 3.0
WAIT_S = 15.0
CREATED_POLL_S = 0.05


@dataclass(frozen=True)
class Deployed:
    """A topic as it stands in the cluster.

    `generation`: names this very topic, not a namesake created later; `number`: of the generation of the rows, 0 for
    every other topic.
    """

    name: str
    partitions: int
    generation: str
    number: int = 0


def ensure_topics(settings: Settings, bootstrap_servers: str) -> dict[str, Deployed]:
    """Create what is missing of the catalogue; returns every topic by its catalogue name, the live rows as `STOCK`.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: a folded topic has another number of partitions than the others, may not be created, or the record of
            generations cannot be read.
    """
    return _ensured(settings, bootstrap_servers, begin=True)


def topics_in_use(settings: Settings, bootstrap_servers: str) -> dict[str, Deployed]:
    """As `ensure_topics`, where there are updates: for commands that look at a deployment and are to begin none.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: as `ensure_topics`, or there is no topic of updates.
    """
    return _ensured(settings, bootstrap_servers, begin=False)


def find_topics(settings: Settings, bootstrap_servers: str) -> dict[str, Deployed]:
    """As `ensure_topics`, of those that are there; creates nothing.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: a folded topic has another number of partitions than the others, the record of generations cannot be
            read, or there is no topic of updates.
    """
    admin = AdminClient(client_config(bootstrap_servers), logger=CLIENT_LOGGER)
    present = _present(admin, bootstrap_servers)
    names, live = _names(settings, bootstrap_servers, present)
    _check_begun(names, present, bootstrap_servers)
    found = {topic: name for topic, name in names.items() if name in present}
    return _numbered(_describe(admin, found, bootstrap_servers), live)


def create_generation(settings: Settings, bootstrap_servers: str, number: int) -> Deployed:
    """Create the topic of a generation, like that of the live one; one that is there already is left as it is.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: it may not be created, or is there with another number of partitions.
    """
    admin = AdminClient(client_config(bootstrap_servers), logger=CLIENT_LOGGER)
    names = {UPDATES.name: settings.topic(UPDATES.name)}
    updates = _describe(admin, names, bootstrap_servers)[UPDATES.name]
    topic = name_of(number, settings)
    if topic not in _present(admin, bootstrap_servers):
        _create(admin, [NewTopic(topic, updates.partitions, settings.replication_factor, config=dict(STOCK.config))])
    created = replace(_describe(admin, {STOCK.name: topic}, bootstrap_servers)[STOCK.name], number=number)
    _check_partitions({UPDATES.name: updates, STOCK.name: created})
    return created


def find_generation(settings: Settings, bootstrap_servers: str, generation: Generation) -> Deployed | None:
    """A generation as it stands in the cluster, None when its topic is not there.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: it has another number of partitions than the updates that are folded into it.
    """
    admin = AdminClient(client_config(bootstrap_servers), logger=CLIENT_LOGGER)
    if generation.topic not in _present(admin, bootstrap_servers):
        return None
    names = {UPDATES.name: settings.topic(UPDATES.name), STOCK.name: generation.topic}
    found = _describe(admin, names, bootstrap_servers)
    found[STOCK.name] = replace(found[STOCK.name], number=generation.number)
    _check_partitions(found)
    return found[STOCK.name]


def generation_of(described: Any) -> str:  # noqa: ANN401 - untyped in confluent_kafka
    """The generation of a described topic."""
    return hashlib.sha256(str(described.topic_id).encode()).hexdigest()[:8]


def _ensured(settings: Settings, bootstrap_servers: str, *, begin: bool) -> dict[str, Deployed]:
    admin = AdminClient(client_config(bootstrap_servers), logger=CLIENT_LOGGER)
    present = _present(admin, bootstrap_servers)
    names, live = _names(settings, bootstrap_servers, present)
    if not begin:
        _check_begun(names, present, bootstrap_servers)
    missing = [
        NewTopic(names[t.name], t.partitions or settings.partitions, settings.replication_factor, config=dict(t.config))
        for t in CATALOGUE
        if names[t.name] not in present
    ]
    _create(admin, missing)
    return _numbered(_describe(admin, names, bootstrap_servers), live)


def _check_begun(names: dict[str, str], present: set[str], bootstrap_servers: str) -> None:
    if names[UPDATES.name] not in present:
        raise Fatal(
            f"there is no topic {names[UPDATES.name]} at {bootstrap_servers}: is STOCKWEAVE_TOPIC_PREFIX right? "
            "`stockweave up` makes it"
        )


def _names(settings: Settings, bootstrap_servers: str, present: set[str]) -> tuple[dict[str, str], Generation]:
    """Every topic's deployed name by its catalogue name, and the live generation."""
    recorded = settings.topic(GENERATIONS.name) in present
    live = (read(settings, bootstrap_servers) if recorded else first(settings)).live
    return {t.name: settings.topic(t.name) for t in CATALOGUE} | {STOCK.name: live.topic}, live


def _numbered(deployed: dict[str, Deployed], live: Generation) -> dict[str, Deployed]:
    if STOCK.name in deployed:
        deployed[STOCK.name] = replace(deployed[STOCK.name], number=live.number)
    _check_partitions(deployed)
    return deployed


def _present(admin: AdminClient, bootstrap_servers: str) -> set[str]:
    try:
        return set(admin.list_topics(timeout=ANSWER_S).topics)
    except KafkaException as error:
        raise _unanswered(bootstrap_servers, error) from error


def _create(admin: AdminClient, missing: Iterable[NewTopic]) -> None:
    wanted = list(missing)
    for name, created in admin.create_topics(wanted, request_timeout=WAIT_S).items() if wanted else ():
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


def _describe(admin: AdminClient, names: dict[str, str], bootstrap_servers: str) -> dict[str, Deployed]:
    """Topics by their catalogue names; waits for those that were created a moment ago."""
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
    return {
        topic: Deployed(names[topic], len(found.partitions), generation_of(found)) for topic, found in described.items()
    }


def _check_partitions(deployed: dict[str, Deployed]) -> None:
    folded: list[Topic] = [t for t in CATALOGUE if t.folded and t.name in deployed]
    counts = {deployed[t.name].name: deployed[t.name].partitions for t in folded}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {n}" for name, n in counts.items())
        raise Fatal(f"topics that are folded together need the same number of partitions, and have: {said}; mend them")


def _unanswered(bootstrap_servers: str, error: KafkaException) -> Retriable:
    return Retriable(f"Kafka at {bootstrap_servers} does not answer: {error.args[0].str()}; is it running?")
