"""A rebuild that is stopped, killed, overtaken or left without Kafka: the next one ends with the same rows."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from schemas.generations import Generations, name_of
from schemas.rows import encode
from schemas.topics import UPDATES
from stockweave.errors import Fatal, Retriable
from stockweave.folder_lock import lock_folder
from stockweave.replay.rebuild.plan import Wanted
from stockweave.replay.rebuild.positions import offsets, positions
from stockweave.replay.rebuild.rebuild import Rebuild
from stockweave.replay.rebuild.record import Record, rebuild_writer
from stockweave.writer import Produce, Writer
from tests.conftest import BrokerFactory
from tests.deployment import Deployment, expected_on_hand, some_updates
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.stockweave.replay.rebuild import writer
from tests.stockweave.replay.rebuild.rebuilt import (
    agree,
    content,
    environment,
    on_hand,
    rebuilt,
    record,
    settings_of,
    slowly,
    wrong_rows,
)

WAIT_S = 60.0


def stopping_at(commit: int, *, before: bool) -> Callable[[Writer, Callable[[Produce], None]], None]:
    """`Writer.commit` that is left by Ctrl-C, before or after that transaction."""
    seen = 0
    plain = Writer.commit

    def stopped(self: Writer, records: Callable[[Produce], None]) -> None:
        nonlocal seen
        seen += 1
        if seen == commit and before:
            raise KeyboardInterrupt
        plain(self, records)
        if seen == commit:
            raise KeyboardInterrupt

    return stopped


def folded(deployment: Deployment, topic: str) -> int:
    """Updates that a generation is folded up to."""
    partitions = range(deployment.topics[UPDATES.name].partitions)
    return sum(offsets(positions(deployment.bootstrap_servers, topic, partitions), partitions).values())


def await_folded(deployment: Deployment, process: subprocess.Popen[bytes], least: int) -> None:
    """Until the candidate's position is past so many updates."""
    deadline = time.monotonic() + WAIT_S
    while True:
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < deadline
        candidate = record(deployment).candidate
        if candidate is not None and folded(deployment, candidate.topic) >= least:
            return
        time.sleep(0.02)


def test_a_rebuild_that_is_stopped_anywhere_ends_with_the_same_rows(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment.publish(some_updates(2_000, skus=50))
    wrong_rows(deployment)
    in_one_go = content(deployment, rebuilt(deployment).live.topic)
    monkeypatch.setattr("stockweave.replay.rebuild.fold.STRETCH_EVENTS", 250)
    begun: Generations | None = None
    for commit, before in ((2, False), (3, True), (1, True)):  # the first is the record's when a candidate is new
        with monkeypatch.context() as patch:
            patch.setattr(Writer, "commit", stopping_at(commit, before=before))
            with pytest.raises(KeyboardInterrupt):
                rebuilt(deployment)
        assert "the same command goes on" in capsys.readouterr().out
        now = record(deployment)
        assert now.live.number == 1
        assert now.candidate is not None
        assert begun in (None, now)
        begun = now
        assert 0 < folded(deployment, now.candidate.topic) < 2_000
    assert begun is not None
    ended = rebuilt(deployment, jobs=2)
    assert ended.live == begun.candidate
    assert content(deployment, ended.live.topic) == in_one_go


def test_a_rebuild_that_is_killed_again_and_again_ends_with_the_same_rows(deployment: Deployment) -> None:
    updates = some_updates(6_000, skus=300)
    deployment.publish(updates)
    writer.Writer(deployment).fold(1_000)
    commands = [slowly(100), slowly(100), [sys.executable, "-m", "stockweave", "rebuild", "--jobs", "2"]]
    for command, least in zip(commands, (500, 4_000, 4_000), strict=True):
        process = subprocess.Popen(
            command, env=environment(deployment, "e"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await_folded(deployment, process, least)
        process.kill()
        process.wait()
    now = record(deployment)
    assert (now.live.number, now.candidate and now.candidate.number) == (0, 1)
    ended = rebuilt(deployment, name="e")
    assert ended.live.number == 1
    assert content(deployment, ended.live.topic) == content(deployment, name_of(0, deployment.base))
    assert on_hand(deployment, ended.live.topic) == expected_on_hand(updates)
    assert not list((deployment.folder / "e" / "scratch").glob("*/"))


def test_rows_that_were_taken_over_in_part_are_taken_over_as_they_are_later(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live rows have gone on in between, and one is gone."""
    deployment.publish(some_updates(1_500, skus=80))
    live = wrong_rows(deployment)
    monkeypatch.setattr("stockweave.replay.rebuild.fold.COPY_BYTES_MAX", 2_000)
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "commit", stopping_at(4, before=True))
        with pytest.raises(KeyboardInterrupt):
            rebuilt(deployment, Wanted(partitions=()))
    begun = record(deployment).candidate
    assert begun is not None
    assert folded(deployment, begun.topic) == 0
    partly = on_hand(deployment, begun.topic)
    assert 0 < len(partly) < 80
    gone = min(partly)
    deployment.publish(some_updates(500, skus=80, seed=2))
    live.fold()
    [number] = [n for n, store in live.stores.items() if gone.encode() in store.rows]
    live.write(number, {gone.encode(): None}, live.positions[number])
    ended = rebuilt(deployment)
    assert content(deployment, ended.live.topic) == content(deployment, name_of(0, deployment.base))
    assert gone not in on_hand(deployment, ended.live.topic)


def test_a_second_rebuild_takes_the_first_over_and_the_first_is_told(deployment: Deployment) -> None:
    updates = some_updates(6_000, skus=300)
    deployment.publish(updates)
    wrong_rows(deployment)
    first = subprocess.Popen(
        slowly(50), env=environment(deployment, "one"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    await_folded(deployment, first, 300)
    ended = rebuilt(deployment, name="two")
    _, told = first.communicate(timeout=WAIT_S)
    assert first.returncode == 78, told.decode()
    assert "another rebuild has begun and taken this one over" in told.decode().splitlines()[-1]
    assert (record(deployment), ended.live.number) == (ended, 1)
    assert on_hand(deployment, ended.live.topic) == expected_on_hand(updates)


def test_a_rebuild_that_was_overtaken_cannot_move_the_record(deployment: Deployment, tmp_path: Path) -> None:
    deployment.publish(some_updates(300))
    wrong_rows(deployment)
    settings, quiet = settings_of(deployment, "one"), Console(quiet=True)
    with closing(Record(settings)) as its_record:
        overtaken = Rebuild(settings, its_record, tmp_path / "scratch", 1, quiet, quiet)
        overtaken.begin(Wanted(), agree, restart=False)
        overtaken.build()
        ended = rebuilt(deployment, name="two")
        with pytest.raises(Fatal, match="another rebuild has begun and taken this one over"):
            overtaken.switch()
    assert record(deployment) == ended
    assert ended.live.number == 1


def test_a_folder_has_one_rebuild_at_a_time(deployment: Deployment) -> None:
    settings = settings_of(deployment)
    with (
        lock_folder(settings.data_dir.absolute() / "rebuild", "rebuild"),
        pytest.raises(Fatal, match="rebuild is in use by another rebuild: stop that one"),
    ):
        rebuilt(deployment)


def test_a_writer_that_was_overtaken_writes_nothing_more(deployment: Deployment) -> None:
    topic = name_of(0, deployment.base)
    settings = settings_of(deployment)
    first, second = rebuild_writer(settings, "0"), rebuild_writer(settings, "0")
    row = encode(update(Event("COUNT", "c", 1, 1)))
    first.take_over()
    first.commit(lambda produce: produce(topic, row, b"a", 0))
    second.take_over()
    for _ in range(2):
        with pytest.raises(Fatal, match="another rebuild has begun"):
            first.commit(lambda produce: produce(topic, row, b"b", 0))
    second.commit(lambda produce: produce(topic, row, b"c", 0))
    assert [message.key() for message in deployment.read("inventory.stock")] == [b"a", b"c"]
    first.close()
    second.close()


def test_a_rebuild_that_kafka_left_alone_says_so_and_goes_on_later(
    broker_factory: BrokerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = broker_factory().start()
    deployment = Deployment(broker.bootstrap_servers, tmp_path, partitions=2)
    updates = some_updates(2_000, skus=50)
    deployment.publish(updates)
    wrong_rows(deployment)
    monkeypatch.setattr("stockweave.replay.rebuild.fold.STRETCH_EVENTS", 250)
    monkeypatch.setattr("stockweave.writer.PATIENCE_S", 2.0)
    plain = Writer.commit
    commits = 0

    def last(self: Writer, records: Callable[[Produce], None]) -> None:
        nonlocal commits
        commits += 1
        if commits == 4:
            broker.kill()
        plain(self, records)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "commit", last)
        with pytest.raises(Retriable, match="is Kafka running"):
            rebuilt(deployment)
    broker.start()
    begun = record(deployment)
    assert begun.candidate is not None
    assert folded(deployment, begun.candidate.topic) > 0
    monkeypatch.setattr("stockweave.writer.PATIENCE_S", 60.0)
    ended = rebuilt(deployment)
    assert ended.live == begun.candidate
    assert on_hand(deployment, ended.live.topic) == expected_on_hand(updates)
