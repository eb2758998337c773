"""Rebuild where reservations were decided, or are while it runs: none is lost, none counted twice."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping

import pytest
from msgspec.structs import replace

from inventory.alerts import never_looked_at
from schemas import keys
from schemas.admin import ensure_topics
from schemas.generations import PREVIOUS, name_of
from schemas.reservations import COMMITTED, HELD
from schemas.rows import encode, encode_row
from schemas.topics import COMMANDS, STOCK
from stockweave.errors import Fatal
from stockweave.replay.rebuild import dry_run, follow, rebuild
from stockweave.replay.rebuild.fold import PublishedStore
from stockweave.replay.rebuild.plan import Wanted
from streams.assembly import Engine
from tests.deployment import Deployment, Snapshot, drive, drive_events
from tests.generations import read_partition
from tests.inventory.reservations.builders import command
from tests.reservations import check
from tests.stockweave.replay.planted import verified
from tests.stockweave.replay.rebuild.rebuilt import environment, rebuilt, settings_of
from tests.stockweave.replay.reserved import (
    SKUS,
    a_hold,
    counts,
    decide,
    decided,
    drawn,
    partition_of,
    reserved,
    tamper,
    working,
)


def after(deployment: Deployment) -> Snapshot:
    """What the generation says that is live now."""
    deployment.topics = ensure_topics(deployment.base, deployment.bootstrap_servers)
    return deployment.stock()


def follows(engine: Engine, number: int) -> Callable[[], bool]:
    return lambda: engine.processor._stock.endswith(f".g{number}")


def test_rows_holds_and_positions_are_made_anew_of_updates_and_facts(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    reserved(deployment)
    before = deployment.stock()
    hold = a_hold(before, HELD)
    number, row = partition_of(deployment, hold.sku), before.rows[hold.sku]
    row.reserved = {}
    key = keys.hold_key(hold.sku, hold.reservation_id)
    wrong = {key: encode(replace(hold, state=COMMITTED)), hold.sku.encode(): encode_row(row)}
    tamper(deployment, wrong, number, before.positions[number])
    capsys.readouterr()  # the worker's
    rebuilt(deployment, jobs=2)
    seen = after(deployment)
    check(seen, deployment)
    assert seen.holds == before.holds
    facts = deployment.facts()
    for p, position in seen.positions.items():
        of_p = [fact for fact in facts if partition_of(deployment, fact["sku"]) == p]
        assert (position.facts, position.decided_at) == (len(of_p), max(fact["decided_at"] for fact in of_p))
        offsets = [fact["command_offset"] for fact in of_p if fact["command_offset"] is not None]
        assert position.offsets[COMMANDS.name] == max(offsets) + 1 <= before.positions[p].offsets[COMMANDS.name]
        assert position.facts_from >= before.positions[p].facts_from
    assert verified(deployment)[0].is_right
    said = capsys.readouterr().out.splitlines()[0]
    held = f", and {len(before.holds)} holds of {len(facts)} facts, in 2 partitions were folded, and read back the same"
    assert said == f"generation 1: {SKUS} rows of {before.events} updates{held}"


def test_a_dry_run_tells_how_many_holds_would_change(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    reserved(deployment)
    before = deployment.stock()
    hold = a_hold(before, HELD)
    number = partition_of(deployment, hold.sku)
    row = before.rows[hold.sku]
    row.reserved = {}
    wrong = {keys.hold_key(hold.sku, hold.reservation_id): None, hold.sku.encode(): encode_row(row)}
    tamper(deployment, wrong, number, before.positions[number])
    dry_run.run(settings_of(deployment), Wanted(partitions=(number,)), 1)
    said = capsys.readouterr().out
    holds = sum(partition_of(deployment, h.sku) == number for h in before.holds.values())
    assert f"{hold.sku}: {row.on_hand} -> {row.on_hand}, of other sources or otherwise reserved" in said
    assert f"1 of {holds} holds of reservations would change" in said


def test_holds_go_along_where_a_partition_is_taken_over_and_where_it_goes_back(deployment: Deployment) -> None:
    reserved(deployment)
    topic = name_of(0, deployment.base)
    before = [read_partition(deployment.bootstrap_servers, topic, p) for p in (0, 1)]
    now = rebuilt(deployment, Wanted(partitions=(1,)))
    taken_over = {k: never_looked_at(v) if k >= keys.ROW_FIRST else v for k, v in before[0].items()}
    assert read_partition(deployment.bootstrap_servers, now.live.topic, 0) == taken_over
    with working(deployment) as engine:
        drive(engine, follows(engine, 1))
        deployment.topics = ensure_topics(deployment.base, deployment.bootstrap_servers)
        decide(engine, deployment, drawn(3, 60))
    rebuilt(deployment, Wanted(begin=PREVIOUS))
    seen = after(deployment)
    check(seen, deployment)
    assert verified(deployment)[0].is_right


def test_what_is_decided_between_the_last_fold_and_the_switch_is_applied_before_any_command(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the candidate does not even have the row: its first count comes after the last fold."""
    reserved(deployment)
    monkeypatch.setattr(follow, "WAIT_S", 0.1)
    switch = rebuild.Rebuild.switch
    with working(deployment) as engine:
        late = counts(2, skus=SKUS + 3)[2 * SKUS :]

        def late_switch(self: rebuild.Rebuild) -> None:
            deployment.publish(late)
            drive_events(engine, len(late))
            decide(engine, deployment, drawn(4, 60, SKUS + 3))
            switch(self)

        monkeypatch.setattr(rebuild.Rebuild, "switch", late_switch)
        rebuilt(deployment)
        drive(engine, follows(engine, 1))
        deployment.topics = ensure_topics(deployment.base, deployment.bootstrap_servers)
        decide(engine, deployment, drawn(5, 60, SKUS + 3))
        drive(engine, lambda: len(deployment.stock().rows) == SKUS + 3)
    seen = after(deployment)
    assert deployment.topics[STOCK.name].number == 1
    assert any(f"sku-{SKUS + i}" in {h.sku for h in seen.holds.values() if h.state == HELD} for i in range(3))
    check(seen, deployment)
    assert verified(deployment)[0].is_right


def test_a_log_of_facts_that_lost_a_part_is_no_base_for_new_holds(deployment: Deployment) -> None:
    reserved(deployment)
    before = deployment.stock()
    number = max(before.positions, key=lambda n: before.positions[n].facts)
    had = before.positions[number]
    tamper(deployment, {}, number, replace(had, facts=had.facts + 2))
    with pytest.raises(Fatal, match=rf"facts {had.facts} to {had.facts + 1} are missing .* lost a part"):
        rebuilt(deployment)


def test_a_topic_that_lacks_a_hold_does_not_become_live(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserved(deployment, 30)
    whole = PublishedStore.write

    def lossy(self: PublishedStore, changed: Mapping[bytes, bytes | None], next_offset: int) -> None:
        """A hold is kept here that Kafka never got."""
        kept_here = {key: value for key, value in changed.items() if key.startswith(keys.HOLD_PREFIX)}
        whole(self, {key: value for key, value in changed.items() if key not in kept_here}, next_offset)
        self.store.write(kept_here, self.store.mark.next_offset)

    monkeypatch.setattr(PublishedStore, "write", lossy)
    with pytest.raises(Fatal, match=r"read back otherwise than it was folded \(3 rows, 0 holds, "):
        rebuilt(deployment)


def test_commands_that_come_during_a_rebuild_are_decided_once(deployment: Deployment) -> None:
    reserved(deployment, 40)
    stop = threading.Event()
    asked = 0

    def ask() -> None:
        nonlocal asked
        while not stop.is_set():
            asked += deployment.ask(drawn(1_000 + asked, 20))
            deployment.publish(counts(10 + asked, 60))
            stop.wait(0.05)

    worker = deployment.spawn_worker("w")
    asking = threading.Thread(target=ask)
    try:
        asking.start()
        done = subprocess.run(
            [sys.executable, "-m", "stockweave", "rebuild", "--jobs", "2"],
            env=environment(deployment, "engineer"), capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        during = verified(deployment)[0]
        assert during.is_right
        stop.set()
        asking.join()
        deployment.ask([dict(command(reservation_id="last", sku="sku-1"))])
        deployment.topics = ensure_topics(deployment.base, deployment.bootstrap_servers)
        assert deployment.topics[STOCK.name].number == 1
        for _ in range(300):
            if decided(deployment) and deployment.stock().events == deployment.end_of_updates():
                break
            stop.wait(0)
            threading.Event().wait(0.2)
    finally:
        stop.set()
        worker.terminate()
        worker.wait(30)
    assert asked >= 20
    seen = after(deployment)
    assert "last" in seen.holds
    check(seen, deployment)
    assert verified(deployment)[0].is_right
