"""Whether topics that are there already are set as the catalogue needs them: many are created by hand.

Looked at by every worker at its start, for what is wrong would show later and look like something else: a transaction
that is too large for a topic is aborted again and again, rows in a topic that is not compacted go away with time, and
who reads rows that are compacted at once misses some for a while.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from schemas.admin import Deployed
from schemas.topics import Topic
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal, Retriable

log = structlog.get_logger(__name__)

WAIT_S = 15.0
POLICY = "cleanup.policy"
AT_LEAST = ("max.message.bytes", "min.compaction.lag.ms")
UNTOLD = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)


def check_settings(bootstrap_servers: str, deployed: dict[str, Deployed], topics: Iterable[Topic]) -> None:
    """Look at the settings without which a worker cannot go on for long; what may not be read is taken to be right.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: one is wrong; the command that mends it is said.
    """
    admin = AdminClient(client_config(bootstrap_servers), logger=CLIENT_LOGGER)
    wanted = {deployed[topic.name].name: topic for topic in topics}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in wanted]
    for resource, future in admin.describe_configs(resources, request_timeout=WAIT_S).items():
        try:
            found = {name: entry.value for name, entry in future.result().items()}
        except KafkaException as raised:
            error = raised.args[0]
            if error.code() not in UNTOLD:
                raise Retriable(f"Kafka does not say how {resource.name} is set: {error.str()}") from raised
            log.info("topic_settings_not_readable", topic=resource.name)
            continue
        problem = _problem(found, wanted[resource.name])
        if problem is not None:
            name, value, needed = problem
            raise Fatal(
                f"topic {resource.name} has {name}={value} and needs {needed}: kafka-configs.sh --alter --entity-type "
                f"topics --entity-name {resource.name} --add-config {name}={needed}; docs/topics.md has them all"
            )


def _problem(found: dict[str, str], topic: Topic) -> tuple[str, str, str] | None:
    """A setting, its value and what it has to be; None if there is nothing wrong."""
    policy, needed = found.get(POLICY, ""), topic.config[POLICY]
    if policy != needed:
        return POLICY, policy, needed
    for name in AT_LEAST:
        at_least = topic.config.get(name, "0")
        if int(found.get(name, at_least)) < int(at_least):
            return name, found[name], at_least
    return None
