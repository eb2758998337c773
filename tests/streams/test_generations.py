"""Workers as processes, and a record of generations that changes under load and while Kafka is away."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
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
    updates = some_updates(20_000, skus=200)
    first = deployment.topics[STOCK.name]
    spawned += [deployment.spawn_worker("w1"), deployment.spawn_worker("w2")]
    await_log(deployment, "w1", "partition_ready", 2)
    await_log(deployment, "w2", "partition_ready", 2)
    switched, published = threading.Event(), 0

    def publish() -> None:
        nonlocal published
        while not switched.is_set() and published < len(updates):
            published += deployment.publish(updates[published : published + 100])
            switched.wait(0.05)

    publishing = threading.Thread(target=publish)
    publishing.start()
    try:
        second = copied(deployment, 1)
        say(deployment, live=0, candidate=1)
        for name in ("w1", "w2"):
            await_log(deployment, name, "generation_being_copied")
        for adopted, live in enumerate((1, 0, 1), start=1):
            say(deployment, live=live, previous=1 - live)
            for name in ("w1", "w2"):
                await_log(deployment, name, "generation_adopted", adopted)
    finally:
        switched.set()
        publishing.join()
    assert 1_000 < published < len(updates)
    assert ensure_topics(deployment.base, deployment.bootstrap_servers)[STOCK.name] == second
    left_at = rows_of(deployment, first)
    more = some_updates(200, skus=200, seed=2)
    deployment.publish(more)
    deployment.topics[STOCK.name] = second
    seen = deployment.wait_folded(published + len(more))
    assert seen.events == published + len(more)
    assert seen.on_hand() == expected_on_hand(updates[:published] + more)
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
            said = log_of(deployment, "w")[-3000:]  # Kafka may have given its transaction up meanwhile, and fenced it
            assert spawned[-1].returncode == EXIT_HUNG or "the worker has to start again" in said, said
            spawned.append(deployment.spawn_worker("w"))
        time.sleep(0.2)
    assert seen.events == len(updates)
    assert seen.on_hand() == expected_on_hand(updates)
    assert not seen.versions_fell
