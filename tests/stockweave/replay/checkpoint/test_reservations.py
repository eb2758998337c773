"""Checkpoints where reservations were decided: holds travel with the rows, and facts go on from there."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from schemas import keys
from schemas.admin import ensure_topics
from schemas.reservations import HELD, decode_hold
from schemas.rows import encode
from schemas.topics import RESERVATIONS, STOCK, UPDATES
from stockweave.errors import Fatal
from stockweave.replay.checkpoint.load import load_partition
from stockweave.replay.checkpoint.trim import delete, planned
from stockweave.replay.ends import log_ends
from stockweave.replay.rebuild.plan import Wanted
from stockweave.replay.scratch import scratch_folder
from stockweave.replay.verify.verify import beginning, verify
from tests.deployment import Deployment, drive, drive_events
from tests.reservations import check
from tests.stockweave.replay.checkpoint.running import delete_topic, loaded, made
from tests.stockweave.replay.planted import Quiet
from tests.stockweave.replay.rebuild.rebuilt import rebuilt, settings_of
from tests.stockweave.replay.reserved import (
    SKUS,
    a_hold,
    counts,
    decide,
    drawn,
    partition_of,
    reserved,
    tamper,
    working,
)


def test_holds_orders_and_positions_travel_with_the_rows(deployment: Deployment, tmp_path: Path) -> None:
    reserved(deployment)
    seen = deployment.stock()
    checkpoint = made(deployment, verify=True, jobs=2)
    everything: dict[bytes, bytes] = {}
    for number in seen.positions:
        records, position = loaded(checkpoint.address, number, tmp_path / "loaded")
        assert position == seen.positions[number]
        assert records.items() <= seen.raw.items()
        everything |= records
    assert everything.keys() == seen.raw.keys() - {keys.POSITION}
    of_holds = [decode_hold(value) for key, value in everything.items() if key.startswith(keys.HOLD_PREFIX)]
    assert {hold.reservation_id: hold for hold in of_holds} == seen.holds


def test_replays_go_on_from_the_facts_of_a_checkpoint_when_the_updates_below_it_are_gone(
    deployment: Deployment,
) -> None:
    reserved(deployment)
    checkpoint = made(deployment, verify=True)
    facts = sum(part.position.facts for part in checkpoint.manifest.partitions)
    with working(deployment) as engine:
        deployment.publish(counts(2, 45))
        drive_events(engine, 2 * SKUS)
        decide(engine, deployment, drawn(3, 60))
    settings = settings_of(deployment)
    cuts = planned(settings, deployment.topics, checkpoint)
    of_facts = deployment.topics[RESERVATIONS.name].name
    before = log_ends(deployment.bootstrap_servers, of_facts, (0, 1))
    delete(settings, deployment.topics[UPDATES.name].name, {number: cut.offset for number, cut in cuts.items()})
    assert log_ends(deployment.bootstrap_servers, of_facts, (0, 1)) == before
    found = beginning(settings, None)
    assert found is not None
    assert found.address == checkpoint.address
    rebuilt(deployment)
    deployment.topics = ensure_topics(deployment.base, deployment.bootstrap_servers)
    seen = deployment.stock()
    check(seen, deployment)
    with scratch_folder(settings.data_dir) as folder:
        verdict = verify(settings, folder, 1, Quiet(), partial(load_partition, checkpoint.address))
    assert verdict.is_right
    assert verdict.facts == len(deployment.facts()) - facts > 0


def test_rows_that_are_lost_come_back_with_their_holds_and_what_was_decided_since(deployment: Deployment) -> None:
    reserved(deployment)
    checkpoint = made(deployment)
    with working(deployment) as engine:
        decide(engine, deployment, drawn(3, 60))
    delete_topic(deployment, deployment.topics[STOCK.name].name, again=True)
    rebuilt(deployment, Wanted(begin=checkpoint.name))
    deployment.topics = ensure_topics(deployment.base, deployment.bootstrap_servers)
    assert deployment.topics[STOCK.name].number == 1
    with working(deployment) as engine:
        facts = len(deployment.facts())
        drive(engine, lambda: sum(p.facts for p in deployment.stock().positions.values()) >= facts)
    check(deployment.stock(), deployment)


def test_rows_that_are_lost_are_made_by_workers_of_all_updates_and_facts(deployment: Deployment) -> None:
    """Facts come first then: their rows are made for them."""
    reserved(deployment)
    before = deployment.stock()
    delete_topic(deployment, deployment.topics[STOCK.name].name, again=True)
    with working(deployment) as engine:
        drive_events(engine, before.events)
    seen = deployment.stock()
    assert seen.holds == before.holds
    check(seen, deployment)


def test_a_hold_that_is_not_what_its_facts_say_makes_no_proven_checkpoint(deployment: Deployment) -> None:
    reserved(deployment)
    seen = deployment.stock()
    hold = a_hold(seen, HELD)
    number = partition_of(deployment, hold.sku)
    wrong = {keys.hold_key(hold.sku, hold.reservation_id): encode(replace(hold, quantity=99))}
    tamper(deployment, wrong, number, seen.positions[number])
    with pytest.raises(Fatal, match="0 rows are not what the updates say; 1 holds are not what the facts of"):
        made(deployment, verify=True)
