"""Rows come back from a checkpoint: as a generation that begins with it, also where those that were live are lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.admin import ensure_topics
from schemas.topics import STOCK, UPDATES
from stockweave.errors import Fatal
from stockweave.replay.rebuild import dry_run
from stockweave.replay.rebuild.plan import Wanted
from tests.deployment import Deployment, drive_events, expected_on_hand, some_updates
from tests.stockweave.replay.checkpoint.running import delete_topic, delete_updates, made
from tests.stockweave.replay.rebuild.rebuilt import (
    content,
    environment,
    on_hand,
    rebuilt,
    record,
    settings_of,
    wrong_rows,
)
from tests.stockweave.replay.rebuild.writer import Writer


def restored(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command; nobody folds and no API runs, so that it waits for neither."""
    return subprocess.run(
        [sys.executable, "-m", "stockweave", "checkpoint", "restore", "--jobs", "1", *arguments],
        env={**environment(deployment, "engineer"), "STOCKWEAVE_PARTITIONS": "2"},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def test_a_rebuild_from_a_checkpoint_folds_only_what_came_after_it(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    updates = some_updates(1_000)
    deployment.publish(updates[:600])
    writer = Writer(deployment)
    writer.fold(100)
    checkpoint = made(deployment)
    deployment.publish(updates[600:])
    wrong_rows(deployment)
    live = content(deployment, deployment.topics[STOCK.name].name)
    delete_updates(deployment, {p.partition: p.offset for p in checkpoint.manifest.partitions})
    capsys.readouterr()
    dry_run.run(settings_of(deployment), Wanted(begin=checkpoint.name), 1)
    assert "400 updates were folded" in capsys.readouterr().out
    ended = rebuilt(deployment, Wanted(begin=checkpoint.address), jobs=2)
    assert on_hand(deployment, ended.live.topic) == expected_on_hand(updates)
    assert {p: c[1:] for p, c in content(deployment, ended.live.topic).items()} == {p: c[1:] for p, c in live.items()}


def test_a_rebuild_that_began_with_a_checkpoint_goes_on_with_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = some_updates(600)
    deployment.publish(updates)
    Writer(deployment).fold(100)
    checkpoint = made(deployment)
    with monkeypatch.context() as patch:
        patch.setattr("stockweave.replay.rebuild.rebuild.Rebuild.build", stop)
        with pytest.raises(KeyboardInterrupt):
            rebuilt(deployment, Wanted(begin=checkpoint.name))
    plan = record(deployment).plan
    assert plan is not None
    assert plan.begin == checkpoint.address
    other = made(deployment)
    with pytest.raises(Fatal, match=rf"was begun from {checkpoint.address}: go on without --from"):
        rebuilt(deployment, Wanted(begin=other.name))
    assert on_hand(deployment, rebuilt(deployment).live.topic) == expected_on_hand(updates)


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_rows_whose_topic_is_lost_come_back_and_workers_go_on_in_them(deployment: Deployment) -> None:
    updates = some_updates(900, skus=40)
    deployment.publish(updates[:500])
    Writer(deployment).fold(100)
    checkpoint = made(deployment)
    delete_updates(deployment, {p.partition: p.offset for p in checkpoint.manifest.partitions})
    deployment.publish(updates[500:])  # nobody has folded these yet
    delete_topic(deployment, deployment.topics[STOCK.name].name)
    with pytest.raises(Fatal, match=r"of the live generation 0 is not there"):
        rebuilt(deployment)
    done = restored(deployment, checkpoint.name)
    assert done.returncode == 0, done.stderr
    assert "40 rows of 500 updates in 2 partitions were folded" in done.stdout
    deployment.topics = ensure_topics(deployment.base, deployment.bootstrap_servers)
    assert deployment.topics[STOCK.name].number == 1
    engine, identity = deployment.engine("w")
    drive_events(engine, 400)
    engine.processor.close()
    identity.release()
    assert deployment.stock().on_hand() == expected_on_hand(updates)
    assert deployment.stock().events == 900


def test_rows_that_are_behind_the_checkpoint_are_overtaken_partition_by_partition(deployment: Deployment) -> None:
    """The topic was lost, and a worker began to fold the updates into it anew."""
    updates = some_updates(800, skus=40)
    deployment.publish(updates[:500])
    Writer(deployment).fold(100)
    checkpoint = made(deployment)
    deployment.publish(updates[500:])
    delete_topic(deployment, deployment.topics[STOCK.name].name, again=True)
    writer = Writer(deployment)
    writer.partitions = range(1)
    writer.fold(1_000)
    now = rebuilt(deployment, Wanted(begin=checkpoint.name))
    found = content(deployment, now.live.topic)
    assert found[0].offset == writer.positions[0].offsets[UPDATES.name]
    assert found[1].offset == checkpoint.manifest.partitions[1].offset
    assert found[0] == content(deployment, writer.stock)[0]


def test_a_log_that_begins_later_is_gone_on_from_even_where_the_rows_are_lost(deployment: Deployment) -> None:
    updates = some_updates(400)
    deployment.publish(updates)
    Writer(deployment).fold(100)
    checkpoint = made(deployment)
    delete_updates(deployment, {p.partition: p.offset for p in checkpoint.manifest.partitions})
    delete_topic(deployment, deployment.topics[STOCK.name].name, again=True)
    assert on_hand(deployment, rebuilt(deployment).live.topic) == expected_on_hand(updates)


def test_a_checkpoint_of_a_log_that_is_gone_is_refused_with_the_reason(deployment: Deployment) -> None:
    deployment.publish(some_updates(100))
    Writer(deployment).fold(100)
    checkpoint = made(deployment)
    delete_topic(deployment, deployment.topics[UPDATES.name].name, again=True)
    done = restored(deployment, checkpoint.name)
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
    log = deployment.topics[UPDATES.name]
    said = done.stderr.splitlines()[-1]
    assert f"is not of this deployment: it is of the log {log.name} (id " in said
    assert f"and here it is {log.name} (id {log.generation}); `stockweave checkpoint list` tells which fit" in said
    assert record(deployment).candidate is None


def test_nothing_is_begun_with_a_checkpoint_of_which_a_file_is_damaged(deployment: Deployment) -> None:
    deployment.publish(some_updates(100))
    Writer(deployment).fold(100)
    checkpoint = made(deployment)
    damaged = Path(checkpoint.address) / checkpoint.manifest.partitions[1].file
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    done = restored(deployment, checkpoint.name, "--yes")
    assert done.returncode == os.EX_CONFIG
    assert "partition-00001.parquet is damaged: its SHA-256 is" in done.stderr.splitlines()[-1]
    assert record(deployment).candidate is None
