"""Rebuild against the real broker: what the new generation holds, and what is left of the old ones."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    ResourceType,
)

from inventory.stock import StockUpdate
from schemas import keys
from schemas.admin import ensure_topics, find_generation
from schemas.generations import PREVIOUS, name_of
from schemas.topics import STOCK, UPDATES
from stockweave.errors import Fatal
from stockweave.replay.rebuild import dry_run, rebuild
from stockweave.replay.rebuild.plan import Wanted
from stockweave.replay.rebuild.positions import offsets, positions
from tests.deployment import Deployment, expected_on_hand, some_updates
from tests.generations import read_partition
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.stockweave.replay.rebuild.rebuilt import (
    agree,
    content,
    environment,
    on_hand,
    rebuilt,
    record,
    settings_of,
    wrong_rows,
)
from tests.stockweave.replay.rebuild.writer import Writer


def topics_of(deployment: Deployment) -> dict[str, list[tuple[int, int]]]:
    """The ends of every partition of every topic of the deployment."""
    consumer = Consumer({"bootstrap.servers": deployment.bootstrap_servers, "group.id": "test-ends"})
    found = {}
    for name, topic in consumer.list_topics(timeout=10).topics.items():
        if name.startswith(deployment.prefix):
            ends = [consumer.get_watermark_offsets(TopicPartition(name, p), timeout=10) for p in topic.partitions]
            found[name] = [pair for pair in ends if pair is not None]
    consumer.close()
    return found


def refused(update_id: str) -> StockUpdate:
    """Observed long after it was received."""
    return update(Event("COUNT", update_id, 1_700_000_900_000, 5), received_at=1_700_000_000_000)


def config_of(deployment: Deployment, topic: str) -> dict[str, str]:
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers})
    [asked] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    return {name: entry.value for name, entry in asked.result().items()}


def test_a_rebuild_mends_every_row_and_keeps_the_generation_before(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    updates = some_updates(3_000, skus=100)
    deployment.publish(updates)
    deployment.publish([refused("f")])
    wrong_rows(deployment)
    before = content(deployment, name_of(0, deployment.base))
    now = rebuilt(deployment, jobs=2)
    assert (now.live.number, now.candidate, now.previous) == (1, None, record(deployment).previous)
    assert now.previous is not None
    assert now.previous.number == 0
    assert on_hand(deployment, now.live.topic) == expected_on_hand(updates)
    after = content(deployment, now.live.topic)
    assert [made[1:] for made in after.values()] == [made[1:] for made in before.values()]
    assert content(deployment, now.previous.topic) == before
    assert deployment.dead_letters() == []  # they are the workers' to write
    made = find_generation(deployment.base, deployment.bootstrap_servers, now.live)
    assert made is not None
    assert made.partitions == 2
    assert config_of(deployment, now.live.topic) == config_of(deployment, now.previous.topic)
    assert ensure_topics(deployment.base, deployment.bootstrap_servers)[STOCK.name] == made
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "generation 1: 100 rows of 3,001 updates in 2 partitions were folded, and read back the same"
    assert said[1] == "generation 1 is live; generation 0 is kept for the way back"
    assert said[2].startswith("workers: no update has come since")
    assert "was not reached" in said[3]


def test_only_the_named_partitions_are_folded_anew_and_the_others_are_as_they_were(deployment: Deployment) -> None:
    updates = some_updates(2_000, skus=60)
    deployment.publish(updates)
    wrong_rows(deployment)
    before = [read_partition(deployment.bootstrap_servers, name_of(0, deployment.base), p) for p in (0, 1)]
    now = rebuilt(deployment, Wanted(partitions=(1,)))
    after = [read_partition(deployment.bootstrap_servers, now.live.topic, p) for p in (0, 1)]
    assert after[0] == before[0]  # to the byte, position and all
    assert after[1] != before[1]
    right = expected_on_hand(updates)
    mended = on_hand(deployment, now.live.topic)
    in_0 = {key.decode() for key in before[0]} - {keys.POSITION.decode()}
    wrong = {sku for sku, number in mended.items() if number != right[sku]}
    assert wrong == {sku for sku in in_0 if sku.endswith("7")}
    assert wrong


def test_rows_that_are_taken_over_come_in_several_transactions(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.publish(some_updates(1_500, skus=80))
    wrong_rows(deployment)
    monkeypatch.setattr("stockweave.replay.rebuild.fold.COPY_BYTES_MAX", 2_000)
    before = content(deployment, name_of(0, deployment.base))
    now = rebuilt(deployment, Wanted(partitions=()))
    assert content(deployment, now.live.topic) == before


def test_what_came_after_the_last_fold_of_the_live_rows_is_left_to_the_workers(deployment: Deployment) -> None:
    """They have not refused it yet, and only they write dead letters."""
    updates = some_updates(1_000)
    deployment.publish(updates)
    wrong_rows(deployment)
    folded = content(deployment, name_of(0, deployment.base))
    deployment.publish([*some_updates(500, seed=2), refused("f")])
    now = rebuilt(deployment)
    made = content(deployment, now.live.topic)
    assert {p: c.offset for p, c in made.items()} == {p: c.offset for p, c in folded.items()}
    assert on_hand(deployment, now.live.topic) == expected_on_hand(updates)


def test_a_dry_run_says_what_would_change_and_writes_nothing(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    updates = some_updates(2_000, skus=60)
    deployment.publish(updates)
    wrong_rows(deployment)
    before, live = topics_of(deployment), on_hand(deployment, name_of(0, deployment.base))
    dry_run.run(settings_of(deployment), Wanted(), 2)
    assert topics_of(deployment) == before
    right = expected_on_hand(updates)
    wrong = sorted(sku for sku in right if right[sku] != live[sku])
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith(f"dry run: {len(wrong)} of 60 rows would change; 2,000 updates were folded in ")
    shown = [line.strip() for line in said if " -> " in line]
    assert sorted(shown) == sorted(f"{sku}: {live[sku]} -> {right[sku]}" for sku in wrong)
    assert [line.partition(":")[0] for line in said if line.startswith("partition")] == ["partition 0", "partition 1"]
    dry_run.run(settings_of(deployment), Wanted(partitions=(1,)), 1)
    assert "partition 0" not in capsys.readouterr().out


def test_the_way_back_brings_the_rows_of_before_with_what_came_since(deployment: Deployment) -> None:
    updates = some_updates(2_000, skus=60)
    deployment.publish(updates[:1_200])
    writer = wrong_rows(deployment)
    wrong_at_first = on_hand(deployment, name_of(0, deployment.base))
    first = rebuilt(deployment)
    deployment.publish(updates[1_200:])
    writer.stock, writer.spoil = first.live.topic, None  # a right worker, in the new generation
    for number, store in writer.stores.items():
        kept = read_partition(deployment.bootstrap_servers, first.live.topic, number)
        store.rows = {key: row for key, row in kept.items() if key != keys.POSITION}
    writer.fold()
    right = expected_on_hand(updates)
    assert on_hand(deployment, first.live.topic) == right
    back = rebuilt(deployment, Wanted(begin=PREVIOUS))
    assert (back.live.number, back.candidate) == (2, None)
    assert back.previous == first.live
    off = {sku: number - expected_on_hand(updates[:1_200])[sku] for sku, number in wrong_at_first.items()}
    assert any(off.values())
    assert on_hand(deployment, back.live.topic) == {sku: right[sku] + off.get(sku, 0) for sku in right}
    live, gone_back = (content(deployment, g.topic) for g in (first.live, back.live))
    assert {p: c[1:] for p, c in gone_back.items()} == {p: c[1:] for p, c in live.items()}
    assert name_of(0, deployment.base) not in topics_of(deployment)
    again = rebuilt(deployment, Wanted(begin=PREVIOUS))
    assert on_hand(deployment, again.live.topic) == right


def test_a_switch_deletes_the_generation_before_the_previous_one(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment.publish(some_updates(300))
    wrong_rows(deployment)
    rebuilt(deployment)
    second = rebuilt(deployment)
    left = {name for name in topics_of(deployment) if STOCK.name in name}
    assert left == {name_of(n, deployment.base) for n in (1, 2)}
    assert (second.live.number, second.previous and second.previous.number) == (2, 1)
    assert f"topic {name_of(0, deployment.base)} is deleted" in capsys.readouterr().out


def test_discarding_ends_the_candidate_first_and_then_the_way_back(deployment: Deployment) -> None:
    deployment.publish(some_updates(300))
    wrong_rows(deployment)
    settings = settings_of(deployment)
    rebuilt(deployment)
    with pytest.raises(KeyboardInterrupt):
        rebuild.run(settings, Wanted(), 1, stop_at_once)
    assert record(deployment).candidate is None  # whoever was asked said no before anything was made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuild.Rebuild, "build", stop_at_once)
        with pytest.raises(KeyboardInterrupt):
            rebuilt(deployment)
    begun = record(deployment)
    assert begun.candidate is not None
    with pytest.raises(Fatal, match="no"):
        rebuild.discard(settings, refuse)
    assert record(deployment) == begun
    rebuild.discard(settings, agree)
    now = record(deployment)
    assert (now.live, now.candidate, now.previous) == (begun.live, None, begun.previous)
    assert begun.candidate.topic not in topics_of(deployment)
    rebuild.discard(settings, agree)
    assert record(deployment).previous is None
    assert {name for name in topics_of(deployment) if STOCK.name in name} == {begun.live.topic}
    with pytest.raises(Fatal, match="nothing to discard: generation 1 is live"):
        rebuild.discard(settings, agree)
    assert rebuilt(deployment).live.number == 2


def stop_at_once(*_: object) -> None:
    raise KeyboardInterrupt


def refuse(_: str) -> None:
    raise Fatal("no")


def test_all_that_is_pushed_during_a_rebuild_is_counted_once_and_refused_once(deployment: Deployment) -> None:
    updates = some_updates(12_000, skus=200)
    deployment.publish(updates[:4_000])
    stop = threading.Event()
    pushed = 4_000
    rubbish = 0

    def push() -> None:
        nonlocal pushed, rubbish
        while not stop.is_set() and pushed < len(updates):
            deployment.publish(updates[pushed : pushed + 40])
            deployment.publish_raw(b"sku-1", b"rubbish")
            pushed, rubbish = pushed + 40, rubbish + 1
            stop.wait(0.05)

    worker = deployment.spawn_worker("w")
    pushing = threading.Thread(target=push)
    try:
        deployment.wait_folded(4_000)
        pushing.start()
        done = subprocess.run(
            [sys.executable, "-m", "stockweave", "rebuild", "--jobs", "2"],
            env=environment(deployment, "engineer"), capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "workers: they go on in it" in done.stdout
        stop.set()
        pushing.join()
        deployment.topics = ensure_topics(deployment.base, deployment.bootstrap_servers)
        assert deployment.topics[STOCK.name].number == 1
        seen = deployment.wait_folded(pushed + rubbish)
    finally:
        stop.set()
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
    assert pushed > 4_000
    assert seen.events == pushed + rubbish == deployment.end_of_updates()
    assert seen.on_hand() == expected_on_hand(updates[:pushed])
    assert len(deployment.dead_letters()) == rubbish
    assert sum(p.offsets[UPDATES.name] for p in seen.positions.values()) == pushed + rubbish


def test_a_position_is_found_behind_transactions_that_were_aborted(deployment: Deployment) -> None:
    deployment.publish(some_updates(200))
    writer = Writer(deployment)
    writer.fold()
    writer.producer.begin_transaction()
    for i in range(500):
        writer.producer.produce(writer.stock, b"never", b"sku-%d" % i, i % 2)
    writer.producer.flush(10)
    writer.producer.abort_transaction(10)
    found = positions(deployment.bootstrap_servers, writer.stock, (0, 1))
    assert found == writer.positions
    assert sum(offsets(found, (0, 1)).values()) == 200
    assert positions(deployment.bootstrap_servers, deployment.topics[UPDATES.name].name, (0, 1)) == {}
