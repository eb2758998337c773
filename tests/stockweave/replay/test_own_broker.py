"""Verify where the broker's own doings matter: history that was compacted away, and a broker that does not run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.topics import STOCK
from stockweave.broker.kafka import EmbeddedKafka, kafka_answers
from stockweave.ports import free_port
from tests.altered import alter
from tests.conftest import BrokerFactory
from tests.deployment import Deployment
from tests.stockweave.replay.planted import VICTIM, at, offset_of, story, verified, without
from tests.stockweave.replay.rebuild.writer import Writer

QUICK_CLEANER = {"log.cleaner.dedupe.buffer.size": str(16 << 20), "log.cleaner.backoff.ms": "100"}
QUICK_TOPIC = {
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "0",
    "min.compaction.lag.ms": "0",
}
WAIT_S = 40.0


@pytest.fixture
def cleaning(tmp_path: Path) -> Iterator[Deployment]:
    data_dir = Path(tempfile.mkdtemp(prefix="stockweave-broker-"))
    broker = EmbeddedKafka(data_dir, free_port(), heap_mb=512, properties=QUICK_CLEANER)
    try:
        broker.start()
        yield Deployment(broker.bootstrap_servers, tmp_path, partitions=2)
    finally:
        broker.stop()
        shutil.rmtree(data_dir)


def clean_quickly(deployment: Deployment) -> None:
    for setting, value in QUICK_TOPIC.items():
        alter(deployment.bootstrap_servers, deployment.topics[STOCK.name].name, setting, value)


def await_compaction(deployment: Deployment, writer: Writer, partition: int) -> None:
    """Until of the victim's records the last alone is left; a record now and then makes the log begin a new segment."""
    deadline = time.monotonic() + WAIT_S
    while (left := sum(m.key() == VICTIM.encode() for m in deployment.read(STOCK.name))) > 1:
        assert time.monotonic() < deadline, f"{left} records are left"
        writer.write(partition, {}, writer.positions[partition])
        time.sleep(0.3)


def test_of_compacted_history_the_trace_still_names_the_update(cleaning: Deployment) -> None:
    cleaning.publish(story())
    writer = Writer(cleaning, at("sale-5", without("sale-5")))
    writer.fold(events_max=3)
    partition, offset = offset_of(cleaning, "sale-5")
    _, before = verified(cleaning)
    assert before is not None
    assert (before.offset, before.certain) == (offset, True)
    clean_quickly(cleaning)
    await_compaction(cleaning, writer, partition)
    verdict, after = verified(cleaning)
    assert verdict.differ == 1
    assert after is not None
    assert (after.offset, after.how, after.certain) == (offset, "missing in the live row", False)
    assert after.equal_until < before.equal_until
    assert after.candidates > before.candidates


def test_a_stopped_stack_is_verified_with_its_broker_alone(broker_factory: BrokerFactory, tmp_path: Path) -> None:
    broker = broker_factory().start()
    deployment = Deployment(broker.bootstrap_servers, tmp_path, partitions=2)
    deployment.publish(story())
    Writer(deployment, at("sale-5", without("sale-5"))).fold()
    _, offset = offset_of(deployment, "sale-5")
    broker.stop()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOCKWEAVE_")}
    done = subprocess.run(
        [sys.executable, "-m", "stockweave", "verify", "--data-dir", str(broker.data_dir)],
        env=environment | {"STOCKWEAVE_TOPIC_PREFIX": deployment.prefix},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == os.EX_DATAERR, done.stderr
    assert f"offset {offset}: update_id 'sale-5'" in done.stdout
    assert done.stdout.endswith("verified 21 rows in 2 partitions: 1 differ\n")
    assert "starting the broker" in done.stderr
    assert not kafka_answers(broker.bootstrap_servers, 0.5)
    assert not list((broker.data_dir / "scratch").glob("*/"))
    broker.start()  # its folder was let go of, and nothing in it was harmed


def test_a_folder_without_a_broker_says_so(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOCKWEAVE_")}
    done = subprocess.run(
        [sys.executable, "-m", "stockweave", "verify", "--data-dir", str(tmp_path / "none")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == os.EX_CONFIG
    [line] = done.stderr.splitlines()
    assert "there is no broker's data in" in line
    assert not (tmp_path / "none").exists()
