"""Rebuild where holds that were over long ago are forgotten: it brings none of them back."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest

from schemas.admin import ensure_topics
from schemas.reservations import HELD
from schemas.topics import STOCK
from stockweave.replay import reservations
from stockweave.replay.checkpoint.load import load_partition
from stockweave.replay.rebuild import dry_run, follow, rebuild
from stockweave.replay.rebuild.plan import Wanted
from stockweave.replay.scratch import scratch_folder
from stockweave.replay.verify.verify import verify
from tests.deployment import Deployment, Snapshot, drive
from tests.reservations import check
from tests.stockweave.replay.checkpoint.running import made
from tests.stockweave.replay.planted import Quiet, verified
from tests.stockweave.replay.rebuild.rebuilt import rebuilt, settings_of
from tests.stockweave.replay.rebuild.test_reservations import after, follows
from tests.stockweave.replay.reserved import again, decide, drawn, forget, partition_of, reserved, working


def the_same(deployment: Deployment, seen: Snapshot, due: Snapshot) -> None:
    """Holds but for those that may be forgotten, what is reserved, and how far holds are forgotten."""
    for name in seen.holds.keys() | due.holds.keys():
        hold = due.holds.get(name) or seen.holds[name]
        to_ms = due.positions[partition_of(deployment, hold.sku)].forgotten_to
        if hold.ended_at is None or hold.ended_at > to_ms:
            assert seen.holds.get(name) == due.holds.get(name)
        else:
            assert name not in seen.holds
    for sku, row in due.rows.items():
        assert seen.rows[sku].reserved == row.reserved
    assert {n: p.forgotten_to for n, p in seen.positions.items()} == {
        n: p.forgotten_to for n, p in due.positions.items()
    }


@pytest.mark.parametrize("at_once", [2, 20_000])
def test_what_is_forgotten_stays_so_and_rows_keep_what_it_took(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    reserved(deployment)
    forget(deployment)
    due = deployment.stock()
    monkeypatch.setattr(reservations, "REMOVED_MAX", at_once)
    rebuilt(deployment)
    seen = after(deployment)
    check(seen, deployment)
    the_same(deployment, seen, due)
    assert verified(deployment)[0].is_right


def test_a_dry_run_does_not_take_them_for_changes(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    reserved(deployment)
    forget(deployment)
    capsys.readouterr()
    dry_run.run(settings_of(deployment), Wanted(), 1)
    changed = re.findall(r"(\d+) of \d+ holds of reservations would change", capsys.readouterr().out)
    assert changed == ["0", "0"]


def test_one_that_was_forgotten_and_held_anew_after_the_last_fold_is_heard_of(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new rows have the former one still: it was forgotten in the old ones only after they were folded."""
    reserved(deployment)
    monkeypatch.setattr(follow, "WAIT_S", 0.1)
    switch = rebuild.Rebuild.switch
    gone: set[str] = set()

    def late_switch(self: rebuild.Rebuild) -> None:
        before = forget(deployment)
        gone.update(before.holds.keys() - deployment.stock().holds.keys())
        with working(deployment) as engine:
            decide(engine, deployment, again(gone))
        switch(self)

    monkeypatch.setattr(rebuild.Rebuild, "switch", late_switch)
    rebuilt(deployment)
    old = deployment.stock()
    with working(deployment) as engine:
        drive(engine, follows(engine, 1))
        deployment.topics = ensure_topics(deployment.base, deployment.bootstrap_servers)
        decide(engine, deployment, drawn(7, 20))
    assert deployment.topics[STOCK.name].number == 1
    seen = after(deployment)
    check(seen, deployment)
    assert gone
    for name in gone & {name for name, hold in old.holds.items() if hold.state == HELD}:
        assert seen.holds[name].order_id == "another"
    assert verified(deployment)[0].is_right


def test_a_checkpoint_of_before_they_were_forgotten_brings_none_back_and_one_of_after_has_none(
    deployment: Deployment,
) -> None:
    reserved(deployment)
    whole = made(deployment, verify=True)
    forget(deployment)
    due = deployment.stock()
    checkpoint = made(deployment, verify=True)
    positions = {part.partition: part.position.forgotten_to for part in checkpoint.manifest.partitions}
    assert positions == {n: p.forgotten_to for n, p in due.positions.items()}
    for begin in (whole, checkpoint):
        rebuilt(deployment, Wanted(begin=begin.address))
        seen = after(deployment)
        check(seen, deployment)
        the_same(deployment, seen, due)
        assert verified(deployment)[0].is_right
        for seed in (whole, checkpoint):
            with scratch_folder(Path(deployment.folder)) as folder:
                verdict = verify(deployment.base, folder, 1, Quiet(), partial(load_partition, seed.address))
            assert verdict.is_right
