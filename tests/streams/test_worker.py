"""Workers as processes: sharing, leaving, dying, and a broker that goes away."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.topics import UPDATES
from streams.transaction import EXIT_HUNG
from tests.conftest import BrokerFactory
from tests.deployment import Deployment, expected_on_hand, some_updates

Spawn = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def spawned() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes of a test; none is left after it."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def log_of(deployment: Deployment, name: str) -> str:
    return (deployment.folder / f"{name}.log").read_text()


def await_log(deployment: Deployment, name: str, text: str, count: int = 1, timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while log_of(deployment, name).count(text) < count:
        assert time.monotonic() < deadline, f"{text!r} not said {count} times:\n{log_of(deployment, name)[-3000:]}"
        time.sleep(0.05)


def test_workers_share_the_partitions_and_leave_no_lag_when_they_stop(
    deployment: Deployment, spawned: list[subprocess.Popen[bytes]]
) -> None:
    updates = some_updates(3_000, skus=50)
    spawned.append(deployment.spawn_worker("w1"))
    await_log(deployment, "w1", "partition_ready", 4)
    deployment.publish(updates[:1_000])
    spawned.append(deployment.spawn_worker("w2"))
    await_log(deployment, "w2", "partition_ready", 2)  # two of four came over
    deployment.publish(updates[1_000:2_000])
    deployment.wait_folded(2_000)
    spawned[0].send_signal(signal.SIGTERM)
    assert spawned[0].wait(30) == 0
    await_log(deployment, "w2", "partition_ready", 4)  # and the other two back
    deployment.publish(updates[2_000:])
    spawned[1].send_signal(signal.SIGTERM)  # at once: what is there is folded before it leaves
    assert spawned[1].wait(30) == 0
    seen = deployment.stock()
    assert seen.events == len(updates)
    assert seen.on_hand() == expected_on_hand(updates)
    assert not seen.versions_fell


def test_workers_killed_in_the_middle_of_a_feed_lose_and_double_nothing(
    deployment: Deployment, spawned: list[subprocess.Popen[bytes]]
) -> None:
    updates = some_updates(6_000, skus=50)
    spawned += [deployment.spawn_worker("w1"), deployment.spawn_worker("w2")]
    await_log(deployment, "w1", "partition_ready")
    for i in range(6):
        deployment.publish(updates[i * 1_000 : (i + 1) * 1_000])
        name = f"w{i % 2 + 1}"
        spawned[i % 2].kill()
        spawned[i % 2].wait()
        spawned[i % 2] = deployment.spawn_worker(name)
    seen = deployment.wait_folded(len(updates))
    assert seen.events == len(updates)
    assert seen.on_hand() == expected_on_hand(updates)


def test_a_broker_that_goes_away_is_waited_for(
    broker_factory: BrokerFactory, tmp_path: Path, spawned: list[subprocess.Popen[bytes]]
) -> None:
    broker = broker_factory().start()
    deployment = Deployment(broker.bootstrap_servers, tmp_path)
    updates = some_updates(2_000, skus=50)
    spawned.append(deployment.spawn_worker("w"))
    await_log(deployment, "w", "partition_ready", 4)
    deployment.publish(updates[:1_000])
    broker.kill()
    time.sleep(3)
    broker.start()
    deployment.publish(updates[1_000:])
    deadline = time.monotonic() + 90
    while (seen := deployment.stock()).events < len(updates):
        ended = spawned[-1].poll()
        if ended == EXIT_HUNG:  # a call of the library that does not come back; its supervisor starts a worker again
            spawned.append(deployment.spawn_worker("w"))
        else:
            assert ended is None, log_of(deployment, "w")[-3000:]
        assert time.monotonic() < deadline, log_of(deployment, "w")[-3000:]
    assert seen.on_hand() == expected_on_hand(updates)


def test_a_worker_in_the_middle_of_a_feed_stops_within_seconds_while_kafka_is_away(
    broker_factory: BrokerFactory, tmp_path: Path, spawned: list[subprocess.Popen[bytes]]
) -> None:
    broker = broker_factory().start()
    deployment = Deployment(broker.bootstrap_servers, tmp_path)
    deployment.publish(some_updates(20_000, skus=2_000))
    spawned.append(deployment.spawn_worker("w"))
    await_log(deployment, "w", "partition_ready", 4)
    broker.kill()
    time.sleep(1)
    assert spawned[0].poll() is None
    spawned[0].send_signal(signal.SIGTERM)
    assert spawned[0].wait(25) == 0, log_of(deployment, "w")[-3000:]
    assert "worker_left_the_group" in log_of(deployment, "w")


def test_a_worker_started_before_kafka_waits_for_it(
    broker_factory: BrokerFactory, tmp_path: Path, spawned: list[subprocess.Popen[bytes]]
) -> None:
    broker = broker_factory().start()
    deployment = Deployment(broker.bootstrap_servers, tmp_path)
    broker.stop()
    spawned.append(deployment.spawn_worker("w"))
    await_log(deployment, "w", "waiting_for_kafka")
    broker.start()
    await_log(deployment, "w", "partition_ready", 4)


def test_fausts_own_command_runs_the_same_worker(
    deployment: Deployment, spawned: list[subprocess.Popen[bytes]]
) -> None:
    faust = str(Path(sys.executable).with_name("faust"))
    spawned.append(deployment.spawn_worker("w", faust, "-A", "streams.app", "worker", "-l", "info", "--without-web"))
    updates = some_updates(500)
    deployment.publish(updates)
    assert deployment.wait_folded(len(updates)).on_hand() == expected_on_hand(updates)
    spawned[0].send_signal(signal.SIGTERM)
    spawned[0].wait(30)
    assert "worker_left_the_group" in log_of(deployment, "w")


def test_what_can_never_work_ends_the_worker_with_the_reason_as_its_last_line(
    deployment: Deployment, spawned: list[subprocess.Popen[bytes]]
) -> None:
    spawned.append(deployment.spawn_worker("w"))
    await_log(deployment, "w", "partition_ready", 4)
    spawned.append(deployment.spawn_worker("w"))  # the same folder
    assert spawned[1].wait(30) == 78
    assert "in use by another worker" in log_of(deployment, "w").splitlines()[-1]


def test_updates_that_are_gone_before_they_were_folded_stop_the_worker(
    deployment: Deployment, spawned: list[subprocess.Popen[bytes]]
) -> None:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    deployment.publish(some_updates(200))
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers})
    name = deployment.topics[UPDATES.name].name
    for deleted in admin.delete_records([TopicPartition(name, p, -1) for p in range(4)]).values():
        deleted.result()
    spawned.append(deployment.spawn_worker("w"))
    assert spawned[0].wait(30) == 78
    assert "no longer has the updates to go on from" in log_of(deployment, "w").splitlines()[-1]


@pytest.mark.parametrize("taken", ["port", "address"])
def test_a_port_for_metrics_that_cannot_be_had_is_fatal_and_says_which_setting(
    deployment: Deployment, spawned: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("STOCKWEAVE_METRICS_PORT", str(port))
        monkeypatch.setenv("STOCKWEAVE_METRICS_HOST", "127.0.0.1" if taken == "port" else "192.0.2.1")
        spawned.append(deployment.spawn_worker("w"))
        assert spawned[0].wait(25) == os.EX_CONFIG
    last = log_of(deployment, "w").splitlines()[-1]
    if taken == "port":
        assert f"port {port} on 127.0.0.1 is in use" in last
    else:
        assert f"metrics cannot be served on 192.0.2.1:{port}" in last
    assert "STOCKWEAVE_METRICS_PORT" in last
