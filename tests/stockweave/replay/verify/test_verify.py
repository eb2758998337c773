"""Verify against the real broker: nothing to say of right rows, and the first wrong one by its update."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.rows import Position, StockRow, decode_row, encode_row
from schemas.topics import UPDATES
from stockweave.errors import Fatal
from stockweave.replay.verify.report import difference
from tests.deployment import Deployment, drive_events, some_updates
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.stockweave.replay.planted import (
    BASE_MS,
    VICTIM,
    at,
    offset_of,
    quantity,
    story,
    twice,
    verified,
    without,
)
from tests.stockweave.replay.rebuild.writer import Spoil, Writer


def command(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as an engineer runs it."""
    return subprocess.run(
        [sys.executable, "-m", "stockweave", "verify", *arguments],
        env=deployment.environment("engineer"),
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_right_rows_are_found_right_while_a_worker_folds(deployment: Deployment) -> None:
    updates = some_updates(6_000, skus=300)
    deployment.publish(updates[:3_000])
    worker = deployment.spawn_worker("w")
    try:
        deployment.wait_folded(1_000)
        deployment.publish(updates[3_000:])
        under_way = command(deployment, "--json", "--jobs", "2")
        deployment.wait_folded(len(updates))
        done = command(deployment, "--verbose")
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
    assert (under_way.returncode, done.returncode) == (0, 0), under_way.stderr + done.stderr
    said = json.loads(under_way.stdout)
    assert (said["differ"], said["tallies"], said["first"]) == (0, [], None)
    assert said["events"] >= 1_000
    lines = done.stdout.splitlines()
    assert lines[-1] == "verified 300 rows in 2 partitions: 0 differ"
    assert [line.split(":")[0] for line in lines[:2]] == ["partition 0", "partition 1"]
    assert "6,000 updates in" in lines[2]
    assert "records" in done.stderr  # progress
    assert not list((deployment.folder / "engineer" / "scratch").glob("*/"))


def test_digests_are_the_same_however_many_processes_fold(deployment: Deployment) -> None:
    deployment.publish(some_updates(2_000, skus=100))
    Writer(deployment).fold()
    digests = [
        [(p.compared.live_digest, p.compared.replayed_digest) for p in verified(deployment, jobs)[0].partitions]
        for jobs in (1, 2)
    ]
    assert digests[0] == digests[1]
    assert all(live == replayed for live, replayed in digests[0])
    assert digests[0][0] != digests[0][1]


@pytest.mark.parametrize(
    ("spoil", "named", "how"),
    [
        (at("sale-5", without("sale-5")), "sale-5", "missing in the live row"),
        (at("sale-5", twice("sale-5")), "sale-5", "2 times in the live row"),
        (at("sale-5", quantity("sale-5", -60)), "sale-5", "in the live row with quantity -60"),
    ],
    ids=["missed", "doubled", "wrong quantity"],
)
def test_an_update_that_was_folded_wrongly_is_named(deployment: Deployment, spoil: Spoil, named: str, how: str) -> None:
    deployment.publish(story())
    Writer(deployment, spoil).fold(events_max=3)
    verdict, parting = verified(deployment)
    assert (verdict.differ, verdict.tallies, verdict.is_right) == (1, [], False)
    assert parting is not None
    assert parting.update is not None
    partition, offset = offset_of(deployment, named)
    first = verdict.first
    assert first is not None
    assert first.compared.first is not None
    assert (first.partition, first.compared.first.key) == (partition, VICTIM.encode())
    assert (parting.offset, parting.update["update_id"], parting.how) == (offset, named, how)
    assert parting.equal_until <= offset < parting.differ_at
    assert parting.certain  # no transaction had two updates of this SKU
    assert first.compared.live_digest != first.compared.replayed_digest


@pytest.mark.parametrize("events_max", [3, 1_000], ids=["each in a batch of its own", "both in one"])
def test_a_repeat_that_was_counted_is_named_and_not_the_first_of_them(deployment: Deployment, events_max: int) -> None:
    updates = story()
    repeated = next(u for u in updates if u["update_id"] == "sale-3")
    updates.insert(-20, repeated)
    deployment.publish(updates)
    batches = 0

    def spoil(rows: dict[str, StockRow], ids: list[str]) -> None:
        nonlocal batches
        if "sale-3" in ids:
            batches += 1
            if (
                batches == 2 or events_max == 1_000
            ):  # the rule leaves the row alone, so it is not among the changed ones
                if VICTIM not in rows:
                    stored = writer.stores[offset_of(deployment, "sale-3")[0]].rows[VICTIM.encode()]
                    rows[VICTIM] = decode_row(stored)
                at("sale-3", twice("sale-3"))(rows, ids)

    writer = Writer(deployment, spoil)
    writer.fold(events_max)
    verdict, parting = verified(deployment)
    assert verdict.differ == 1
    assert parting is not None
    assert (parting.offset, parting.how) == (offset_of(deployment, "sale-3", repeat=1)[1], "2 times in the live row")
    assert parting.certain == (events_max == 3)


def test_a_row_that_is_missing_parts_at_its_first_update(deployment: Deployment) -> None:
    deployment.publish(story())

    def spoil(rows: dict[str, StockRow], ids: list[str]) -> None:
        rows.pop(VICTIM, None)

    Writer(deployment, spoil).fold()
    verdict, parting = verified(deployment)
    assert (verdict.differ, verdict.rows) == (1, 21)
    assert parting is not None
    assert (parting.offset, parting.record) == (offset_of(deployment, "count")[1], None)
    assert parting.how == "missing in the live row"


def test_a_row_that_no_update_explains_is_told_by_its_record(deployment: Deployment) -> None:
    deployment.publish(story())

    def spoil(rows: dict[str, StockRow], ids: list[str]) -> None:
        if "sale-2" in ids:
            rows["0-ghost"] = StockRow("0-ghost", 1, 5, 0, {})

    Writer(deployment, spoil).fold()
    verdict, parting = verified(deployment)
    assert verdict.differ == 1
    assert verdict.first is not None
    assert verdict.first.compared.first is not None
    assert verdict.first.compared.first.replayed is None
    assert parting is not None
    assert (parting.offset, parting.candidates) == (None, 0)
    assert parting.record is not None
    assert "no update of this SKU is in the log" in "\n".join(difference(verdict, verdict.first, parting))


def test_a_row_that_was_written_past_the_fold_is_told_with_the_update_that_it_lacks(deployment: Deployment) -> None:
    deployment.publish(story())
    writer = Writer(deployment)
    writer.fold()
    partition, offset = offset_of(deployment, "sale-4")
    row = decode_row(writer.stores[partition].rows[VICTIM.encode()])
    without("sale-4")(row.sources["acme\x1fdefault"])
    writer.write(partition, {VICTIM.encode(): encode_row(row)})
    verdict, parting = verified(deployment)
    assert parting is not None
    assert (verdict.differ, parting.offset, parting.candidates, parting.certain) == (1, offset, 0, False)
    assert verdict.first is not None
    lines = "\n".join(difference(verdict, verdict.first, parting))
    assert "written by something else than the fold" in lines
    assert "'sale-4'" in lines


def test_a_sum_that_is_wrong_alone_is_bounded_by_what_the_topic_still_tells(deployment: Deployment) -> None:
    deployment.publish(story())

    def spoil(rows: dict[str, StockRow], ids: list[str]) -> None:
        if "sale-6" in ids:
            rows[VICTIM].on_hand += 1

    Writer(deployment, spoil).fold(events_max=60)
    verdict, parting = verified(deployment)
    assert verdict.differ == 1
    assert parting is not None
    _, offset = offset_of(deployment, "sale-6")
    assert parting.equal_until <= offset < parting.differ_at
    assert (parting.how, parting.certain) == ("", False)
    assert parting.candidates > 1
    assert verdict.first is not None
    assert "at the latest" in "\n".join(difference(verdict, verdict.first, parting))


def test_a_row_that_was_wrong_once_and_came_right_is_not_held_against_the_present_one(deployment: Deployment) -> None:
    updates = story()
    recount = update(Event("COUNT", "recount", 1_700_000_000_000 + 8_500, 50), sku=VICTIM)
    updates.insert([u["update_id"] for u in updates].index("sale-8"), recount)
    deployment.publish(updates)
    early, late = at("sale-2", without("sale-2")), at("sale-10", without("sale-10"))

    def spoil(rows: dict[str, StockRow], ids: list[str]) -> None:
        early(rows, ids)
        late(rows, ids)

    Writer(deployment, spoil).fold(events_max=3)
    _, parting = verified(deployment)
    assert parting is not None
    assert (parting.offset, parting.certain) == (offset_of(deployment, "sale-10")[1], True)


def test_of_many_wrong_rows_the_lowest_of_the_lowest_partition_is_shown(deployment: Deployment) -> None:
    deployment.publish(some_updates(600, skus=60))

    def spoil(rows: dict[str, StockRow], ids: list[str]) -> None:
        for row in rows.values():
            row.on_hand += 7

    writer = Writer(deployment, spoil)
    writer.fold(events_max=1_000)
    verdict, _ = verified(deployment, jobs=2)
    assert verdict.differ == verdict.rows == 60
    first = verdict.first
    assert first is not None
    assert first.compared.first is not None
    assert (first.partition, first.compared.first.key) == (0, min(writer.stores[0].rows))


@pytest.mark.parametrize("thorough", [False, True])
def test_what_workers_refused_for_its_partition_or_supplier_is_refused_by_the_replay(
    deployment: Deployment, thorough: bool
) -> None:
    foreign = Producer({"bootstrap.servers": deployment.bootstrap_servers})  # with librdkafka's own partitioner
    told = [update(Event("COUNT", f"c{i}", BASE_MS + i, 5), sku=f"sku-{i % 20}") for i in range(60)]
    told += [update(Event("COUNT", "c", BASE_MS, 5), sku=f"sku-{i}", supplier_id="x" * 1_000) for i in range(5)]
    for one in told:
        name, key = deployment.topics[UPDATES.name].name, one["sku"].encode()
        foreign.produce(name, deployment.codec.encode(dict(one)), key)
    assert foreign.flush(10) == 0
    engine, identity = deployment.engine("w")
    drive_events(engine, len(told))
    engine.processor.close()
    identity.release()
    assert 5 < len(deployment.dead_letters()) < 60
    verdict, parting = verified(deployment, thorough=thorough)
    assert (verdict.differ, parting, verdict.tallies) == (0, None, [])


def test_outcomes_that_do_not_add_up_are_told(deployment: Deployment) -> None:
    deployment.publish(story())
    writer = Writer(deployment)
    writer.fold()
    partition, _ = offset_of(deployment, "count")
    right = writer.positions[partition]
    writer.write(partition, {}, Position(right.offsets, right.outcomes | {"acme": [11, 0, 0, 0]}))
    verdict, parting = verified(deployment)
    assert (verdict.differ, parting, verdict.is_right) == (0, None, False)
    events = right.events()
    assert verdict.tallies == [
        f"partition {partition}: the position's outcomes add up to {events - 2}, and {events} updates were read"
    ]
    writer.write(partition, {}, Position(right.offsets, right.outcomes | {"acme": [12, 1, 0, 0]}))
    [problem] = verified(deployment, thorough=True)[0].tallies
    assert "supplier 'acme' differ: live 12 applied, 1 duplicate, 0 superseded, 0 rejected, replayed 13" in problem
    done = command(deployment, "--thorough")
    assert (done.returncode, problem in done.stdout) == (os.EX_DATAERR, True)


def test_the_command_shows_both_rows_and_the_offset_and_fails(deployment: Deployment) -> None:
    deployment.publish(story())
    Writer(deployment, at("sale-5", without("sale-5"))).fold()
    partition, offset = offset_of(deployment, "sale-5")
    updates = deployment.topics[UPDATES.name].name
    done = command(deployment)
    assert done.returncode == os.EX_DATAERR
    lines = done.stdout.splitlines()
    assert lines[0] == f"the first SKU that differs: '{VICTIM}' in partition {partition}"
    assert lines[1] == "  live: on hand 28, 1 sources"
    assert "100 ('count'" in lines[2]
    assert lines[3] == "  replayed: on hand 22, 1 sources"
    assert "here alone: -6 ('sale-5', 2023-11-14T22:13:26.000Z)" in lines[4]
    assert f"they part at {updates} partition {partition} offset {offset}: update_id 'sale-5'" in done.stdout
    assert "DELTA -6, observed 2023-11-14T22:13:26.000Z, received 2023-11-14T22:13:26.000Z" in done.stdout
    assert lines[-1] == "verified 21 rows in 2 partitions: 1 differ"
    said = json.loads(command(deployment, "--json").stdout)
    assert (said["differ"], said["first"]["offset"], said["first"]["update"]["update_id"]) == (1, offset, "sale-5")
    assert (said["first"]["live"]["on_hand"], said["first"]["replayed"]["on_hand"]) == (28, 22)


def test_a_log_that_was_trimmed_says_what_to_start_from(deployment: Deployment) -> None:
    deployment.publish(story())
    Writer(deployment).fold()
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers})
    topic = deployment.topics[UPDATES.name].name
    for deleted in admin.delete_records([TopicPartition(topic, 0, 3)]).values():
        deleted.result()
    with pytest.raises(Fatal, match=r"partition 0 no longer has the updates from offset 0 on: .* checkpoint"):
        verified(deployment)
    done = command(deployment)
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
    assert done.stderr.splitlines()[-1].startswith(f"stockweave: {topic} partition 0 no longer has the updates")


def test_nothing_folded_yet_is_nothing_that_differs(deployment: Deployment) -> None:
    deployment.publish(story())
    done = command(deployment)
    assert (done.returncode, done.stdout) == (0, "verified 0 rows in 2 partitions: 0 differ\n")


def test_ctrl_c_leaves_no_process_and_no_scratch(deployment: Deployment, tmp_path: Path) -> None:
    deployment.publish(some_updates(100_000, skus=2_000))
    Writer(deployment).fold(events_max=100_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "stockweave", "verify", "--jobs", "2"],
        env=deployment.environment("engineer"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        scratch = deployment.folder / "engineer" / "scratch"
        deadline = time.monotonic() + 30
        while not list(scratch.glob("*/*/replayed")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "Traceback" not in errors
    assert not list(scratch.glob("*/"))
    await_no_group(process.pid)


def await_no_group(group: int) -> None:
    deadline = time.monotonic() + 10
    with contextlib.suppress(ProcessLookupError):  # what is waited for
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        raise AssertionError(f"the process group {group} lives on")
