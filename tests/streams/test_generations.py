"""Workers as processes, and a record of generations that changes under load and while Kafka is away."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.admin import ensure_topics
from schemas.topics import STOCK
from streams.transaction import EXIT_HUNG
from tests.conftest import BrokerFactory
from tests.deployment import Deployment, expected_on_hand, some_updates
from tests.streams.test_standby import PARTITIONS, WAIT_S, copied, rows_of, say
from tests.streams.test_worker import await_log, log_of


@pytest.fixture
def spawned() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes of a test; none is left after it."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_workers_under_load_switch_there_and_back_and_count_every_update(
    deployment: Deployment, spawned: list[subprocess.Popen[bytes]]
) -> None:
    updates = some_updates(6_000, skus=200)
    chunks = [updates[i : i + 100] for i in range(0, len(updates), 100)]
    first = deployment.topics[STOCK.name]
    spawned += [deployment.spawn_worker("w1"), deployment.spawn_worker("w2")]
    await_log(deployment, "w1", "partition_ready", 2)
    await_log(deployment, "w2", "partition_ready", 2)
    at: dict[int, Callable[[], object]] = {
        10: lambda: copied(deployment, 1),
        15: lambda: say(deployment, live=0, candidate=1),
        25: lambda: say(deployment, live=1, previous=0),
        40: lambda: say(deployment, live=0, previous=1),
        45: lambda: say(deployment, live=1, previous=0),
    }
    for i, chunk in enumerate(chunks):
        deployment.publish(chunk)
        time.sleep(0.05)
        at.get(i, lambda: None)()
    second = ensure_topics(deployment.base, deployment.bootstrap_servers)[STOCK.name]
    assert second.number == 1
    for name in ("w1", "w2"):
        await_log(deployment, name, "generation_adopted", 3)
    left_at = rows_of(deployment, first)
    more = some_updates(200, skus=200, seed=2)
    deployment.publish(more)
    deployment.topics[STOCK.name] = second
    seen = deployment.wait_folded(len(updates) + len(more))
    assert seen.events == len(updates) + len(more)
    assert seen.on_hand() == expected_on_hand(updates + more)
    assert not seen.versions_fell
    for process, name in zip(spawned, ("w1", "w2"), strict=True):
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log_of(deployment, name)[-3000:]
    assert rows_of(deployment, first).events == left_at.events
    assert not left_at.versions_fell


def test_a_broker_that_goes_away_in_the_middle_of_a_switch_is_waited_for(
    broker_factory: BrokerFactory, tmp_path: Path, spawned: list[subprocess.Popen[bytes]]
) -> None:
    broker = broker_factory().start()
    deployment = Deployment(broker.bootstrap_servers, tmp_path)
    updates = some_updates(900)
    spawned.append(deployment.spawn_worker("w"))
    await_log(deployment, "w", "partition_ready", PARTITIONS)
    deployment.publish(updates[:300])
    deployment.wait_folded(300)
    second = copied(deployment, 1)
    say(deployment, live=0, candidate=1)
    await_log(deployment, "w", "generation_being_copied")
    broker.kill()
    time.sleep(3)
    broker.start()
    deployment.publish(updates[300:600])
    say(deployment, live=1, previous=0)
    broker.kill()
    time.sleep(1)
    broker.start()
    deployment.publish(updates[600:])
    deadline = time.monotonic() + WAIT_S
    while (seen := rows_of(deployment, second)).events < len(updates):
        assert time.monotonic() < deadline, log_of(deployment, "w")[-3000:]
        if spawned[-1].poll() is not None:  # as its supervisor does
            assert spawned[-1].returncode == EXIT_HUNG, log_of(deployment, "w")[-3000:]
            spawned.append(deployment.spawn_worker("w"))
        time.sleep(0.2)
    assert seen.events == len(updates)
    assert seen.on_hand() == expected_on_hand(updates)
    assert not seen.versions_fell
