"""Faults put into a worker that a test drives, and what it left on its disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from schemas.admin import ensure_topics
from schemas.topics import STOCK, Topic
from state.database import Resources
from state.store import PartitionStore
from stockweave.world import Clock, SystemClock
from streams.assembly import Engine
from streams.forgetting import Forgetting
from streams.processor import Processor
from streams.sweep import Sweep
from tests.deployment import Deployment

PARTITIONS = 4
ABORTABLE = KafkaError(KafkaError._TIMED_OUT_QUEUE, "staged", txn_requires_abort=True)


def recreate(deployment: Deployment, topic: Topic) -> None:
    """Delete a topic, and create a namesake."""
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers})
    [deleted] = admin.delete_topics([deployment.topics[topic.name].name]).values()
    deleted.result()
    before, deadline = deployment.topics[topic.name].generation, time.monotonic() + 20
    while deployment.topics[topic.name].generation == before:  # the broker hears of it a moment later
        assert time.monotonic() < deadline
        time.sleep(0.1)
        deployment.topics = ensure_topics(deployment.base, deployment.bootstrap_servers)


def stores_of(engine: Engine) -> dict[int, dict[bytes, bytes]]:
    """All rows of a running worker."""
    return {n: dict(assigned.store.rows()) for n, assigned in engine.processor._assigned.items()}


class Replaced:
    """The real producer, but for one call."""

    def __init__(self, real: Any, call: str, function: Callable[..., Any]) -> None:
        self._real, self._call, self._function = real, call, function

    def __getattr__(self, name: str) -> Any:
        return self._function if name == self._call else getattr(self._real, name)


class FailOnce(Replaced):
    """The real producer, but for one call that fails once, before it reaches Kafka."""

    def __init__(self, real: Any, call: str, error: KafkaError) -> None:
        super().__init__(real, call, self._fail_once)
        self._error = error
        self.failed = 0

    def _fail_once(self, *arguments: Any) -> Any:
        if not self.failed:
            self.failed += 1
            raise KafkaException(self._error)
        return getattr(self._real, self._call)(*arguments)


def fail_once(
    processor: Processor,
    call: str,
    error: KafkaError = ABORTABLE,
) -> FailOnce:
    transaction = processor._transaction
    transaction._producer = FailOnce(transaction._producer, call, error)
    return transaction._producer


class Stopped(SystemClock):
    """Time of day that stands still."""

    def __init__(self, at_ms: int) -> None:
        self._at_ms = at_ms

    def now_ms(self) -> int:
        return self._at_ms


def keep_for(engine: Engine, kept_ms: int, clock: Clock | None = None) -> None:
    """Holds after their end: no setting is as short as a test, and rounds by the setting rest for hours."""
    for assigned in engine.processor._assigned.values():
        assigned.sweep = Sweep()
    engine.processor._chores.forgetting = Forgetting(kept_ms, clock or SystemClock())


def open_store(deployment: Deployment, name: str, partition: int) -> PartitionStore:
    generation = deployment.topics[STOCK.name].generation
    path = deployment.folder / name / "stock" / generation / str(partition)
    return PartitionStore(path, Resources(1 << 20, 1 << 20), generation)


def stores(deployment: Deployment, name: str) -> dict[bytes, bytes | None]:
    """All rows on the disk of a worker that has stopped."""
    found: dict[bytes, bytes | None] = {}
    for partition in range(PARTITIONS):
        store = open_store(deployment, name, partition)
        found |= dict(store.rows())
        store.close()
    return found


def crash(engine: Engine, deployment: Deployment, name: str, copy: str) -> None:
    """End a worker without a commit or a flush, and leave in `copy` what it has on disk, under the same identity.

    Its member leaves the group, or it would go on beating in this process; its transaction stays open.
    """
    engine.processor._consumer.close()
    shutil.copytree(deployment.folder / name, deployment.folder / copy, ignore=shutil.ignore_patterns("LOCK"))
