"""Holds that were over long ago go, with the records of their orders: at a bounded rate; against the real broker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from schemas import keys
from schemas.keys import hold_key, order_key
from schemas.reservations import COMMITTED, FULFILLED, HELD, RELEASED, Hold
from schemas.rows import Position, encode
from schemas.topics import STOCK
from state.database import Resources
from state.store import PartitionStore
from stockweave import metrics
from stockweave.settings import Settings
from stockweave.world import SystemClock
from streams import sweep
from streams.assembly import Engine
from streams.forgetting import BUSY_S, IDLE_S, Forgetting, forgotten
from streams.identity import Identity
from streams.restore import Assigned
from streams.sweep import Past
from tests.deployment import Deployment, drive
from tests.deployment import ready as is_ready
from tests.inventory.reservations.builders import command
from tests.streams.staging import PARTITIONS, fail_once, keep_for
from tests.streams.test_reservations import decided, hold, put_back, stocked

KEPT_MS = 1_000
NOW_MS = 100_000


class Clock:
    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1_000


def over(n: int, ended_at: int = 1) -> Hold:
    return Hold("sku-1", f"r{n}", RELEASED, f"o{n}", ended_at=ended_at)


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[dict[int, Assigned]]:
    """Two partitions that are served, with six holds that are past and one that is not."""
    stores = {n: PartitionStore(tmp_path / str(n), Resources(1 << 20, 1 << 20), "g") for n in range(2)}
    assigned = {}
    for number, store in stores.items():
        holds = [*(over(n) for n in range(6)), Hold("sku-1", "r6", COMMITTED, created_at=1)]
        store.write({hold_key(h.sku, h.reservation_id): encode(h) for h in holds}, 1)
        assigned[number] = Assigned(number, store, 0.0)
        assigned[number].cursor.next_offset = 0
    yield assigned
    for store in stores.values():
        store.close()


def looked(forgetting: Forgetting, ready: dict[int, Assigned], *, idle: bool) -> list[int]:
    """What is done with at once: a partition for each hold."""
    found = forgetting.look(ready, idle=idle)
    for number, past in found.items():
        forgetting.settled(ready[number], past)
    return [number for number, past in found.items() for _ in past.holds]


@pytest.mark.parametrize(("idle", "every_s"), [(True, IDLE_S), (False, BUSY_S)])
def test_a_few_holds_of_one_partition_after_the_other_are_looked_at_and_then_it_waits(
    ready: dict[int, Assigned], monkeypatch: pytest.MonkeyPatch, *, idle: bool, every_s: float
) -> None:
    monkeypatch.setattr(sweep, "HOLDS_MAX", 3)
    clock = Clock()
    forgetting = Forgetting(KEPT_MS, clock)
    found = []
    for _ in range(4):
        found.append(looked(forgetting, ready, idle=idle))
        assert looked(forgetting, ready, idle=idle) == [], "at the same moment"
        clock.ms += int(every_s * 1_000) - 1
        assert looked(forgetting, ready, idle=idle) == [], "too early"
        clock.ms += 1
    assert sorted(map(tuple, found)) == [(0, 0, 0), (0, 0, 0), (1, 1, 1), (1, 1, 1)]
    assert found[0] != found[1], "in turn"


def test_nothing_is_forgotten_in_a_partition_that_may_not_decide(ready: dict[int, Assigned]) -> None:
    ready[0].missed = [{"number": 0}]
    clock = Clock()
    forgetting = Forgetting(KEPT_MS, clock)
    assert forgetting.look(ready, idle=True).keys() == {1}
    clock.ms += 1_000
    assert forgetting.look(ready, idle=True).keys() == {1}


def test_what_comes_with_facts_that_were_missed_and_is_past_already_is_forgotten_in_the_next_round(
    ready: dict[int, Assigned],
) -> None:
    assigned, clock = ready[0], Clock()
    assigned.missed = [{"number": 0}]
    forgetting = Forgetting(KEPT_MS, clock)
    for _ in range(3):
        looked(forgetting, {0: assigned}, idle=True)
        clock.ms += int(IDLE_S * 1_000)
    late = Hold("sku-0", "late", RELEASED, ended_at=1)
    assigned.store.write({hold_key(late.sku, late.reservation_id): encode(late)}, 2)
    assigned.missed = []
    found = set()
    for _ in range(3):
        found |= {
            hold.reservation_id for past in forgetting.look({0: assigned}, idle=True).values() for hold in past.holds
        }
        assigned.sweep.settled()
        clock.ms += int(IDLE_S * 1_000)
    assert "late" in found


def test_the_decision_clock_says_how_old_a_hold_is_where_it_is_ahead_of_the_machines(
    ready: dict[int, Assigned],
) -> None:
    clock = Clock()
    clock.ms = KEPT_MS
    assert Forgetting(KEPT_MS, clock).look(ready, idle=True) == {}
    ready[0].store.write({keys.POSITION: encode(Position({}, {}, decided_at=NOW_MS))}, 2)
    forgetting = Forgetting(KEPT_MS, clock)
    ready.pop(1)
    ready[0].sweep = sweep.Sweep()
    assert forgetting.look(ready, idle=True)[0].now_ms == NOW_MS


def test_the_position_says_how_far_holds_may_be_gone_and_by_when_that_was_decided() -> None:
    holds = [over(1, 70), over(2, 90), over(3, 80)]
    before = Position({}, {}, decided_at=500, forgotten_to=20)
    touched = {hold_key("sku-1", "r2"): b""}
    removed, after = forgotten(Past(holds, 400), touched, before)
    assert set(removed) == {
        key for n in (1, 3) for key in (hold_key("sku-1", f"r{n}"), order_key(f"o{n}", "sku-1", f"r{n}"))
    }
    assert (after.forgotten_to, after.decided_at) == (80, 500)
    assert (before.forgotten_to, before.decided_at) == (20, 500), "it may yet be undone"
    _, after = forgotten(Past([over(1, 10)], 600), {}, before)
    assert (after.forgotten_to, after.decided_at) == (20, 600)


def test_the_setting_is_whole_days_and_thirty_of_them_unless_it_is_changed() -> None:
    assert Settings().reservation_retention_days == 30
    for days in (0, -1):
        with pytest.raises(ValueError, match="greater than or equal to 1"):
            Settings(reservation_retention_days=days)


# -- against the broker


def ask(engine: Engine, deployment: Deployment, *commands: dict[str, object]) -> None:
    before = sum(p.offsets.get("inventory.commands", 0) for p in deployment.stock().positions.values())
    asked = deployment.ask(commands)
    drive(engine, lambda: decided(deployment, before + asked))


def change(action: str, n: int, **fields: object) -> dict[str, object]:
    return dict(command(action, reservation_id=f"r{n}", command_id=f"{action}-{n}", quantity=0, **fields))


def gone(deployment: Deployment, *numbers: int) -> bool:
    return not deployment.stock().holds.keys() & {f"r{n}" for n in numbers}


def three_kinds(deployment: Deployment) -> tuple[Engine, Identity]:
    """One that was shipped and one that was given back, among others that are open or refused."""
    engine, identity = stocked(deployment, 9)
    ask(engine, deployment, *(hold(n, 2, order_id=f"o{n}") for n in range(4)), hold(4, 50, order_id="o4"))
    ask(engine, deployment, change("COMMIT", 0), change("FULFIL", 0), change("RELEASE", 1), change("COMMIT", 2))
    return engine, identity


def test_what_is_over_is_gone_with_its_order_and_rows_and_open_holds_are_as_they_were(deployment: Deployment) -> None:
    engine, identity = three_kinds(deployment)
    before, counted = deployment.stock(), metrics.HOLDS_FORGOTTEN._value.get()
    keep_for(engine, 300)
    drive(engine, lambda: gone(deployment, 0, 1, 4))
    engine.processor.close()
    identity.release()
    seen = deployment.stock()
    assert metrics.HOLDS_FORGOTTEN._value.get() - counted == 3
    assert {name: one.state for name, one in seen.holds.items()} == {"r2": COMMITTED, "r3": HELD}
    there = {key for key, value in seen.raw.items() if value is not None and key.startswith(keys.ORDER_PREFIX)}
    assert there == {order_key(f"o{n}", "sku-1", f"r{n}") for n in (2, 3)}
    assert seen.rows == before.rows
    assert seen.rows["sku-1"].reserved, "what was shipped comes off until a count knows of it"
    [number] = [n for n, position in seen.positions.items() if position.facts]
    last = max(one.ended_at or 0 for one in before.holds.values())
    assert seen.positions[number].forgotten_to == last
    assert seen.positions[number].decided_at >= last + 300
    assert len(deployment.facts()) == seen.positions[number].facts == before.positions[number].facts


def test_who_asks_for_a_forgotten_one_again_gets_another_and_who_changes_it_nothing(deployment: Deployment) -> None:
    engine, identity = three_kinds(deployment)
    keep_for(engine, 300)
    drive(engine, lambda: gone(deployment, 0, 1, 4))
    facts = len(deployment.facts())
    ask(engine, deployment, change("RELEASE", 0), hold(1, 1, order_id="other"))
    seen = deployment.stock()
    assert (seen.holds["r1"].state, seen.holds["r1"].held, len(seen.holds["r1"].steps)) == (HELD, 1, 1)
    [added] = deployment.facts()[facts:]
    assert (added["reservation_id"], added["fact"], added["number"]) == ("r1", HELD, facts)
    assert order_key("other", "sku-1", "r1") in seen.raw
    engine.processor.close()
    identity.release()


def test_an_abort_takes_nothing_away_and_a_store_that_begins_anew_has_the_same(deployment: Deployment) -> None:
    engine, identity = three_kinds(deployment)
    failing = fail_once(engine.processor, "send_offsets_to_transaction")
    keep_for(engine, 300)
    drive(engine, lambda: failing.failed == 1)
    assert not gone(deployment, 0, 1, 4), "undone"
    drive(engine, lambda: gone(deployment, 0, 1, 4))
    stores = [assigned.store for assigned in engine.processor._assigned.values()]
    told = {key: value for store in stores for key, value in store.records()}
    engine.processor.close()
    identity.release()
    shutil.rmtree(deployment.folder / "w" / "stock")
    engine, identity = deployment.engine("w")
    drive(engine, is_ready(engine, PARTITIONS))
    stores = [assigned.store for assigned in engine.processor._assigned.values()]
    again = {key: value for store in stores for key, value in store.records()}
    engine.processor.close()
    identity.release()
    assert told == again
    assert not {key for key in told if b"r0" in key or b"r1" in key or b"r4" in key}


def test_nothing_is_forgotten_before_its_time(deployment: Deployment) -> None:
    engine, identity = three_kinds(deployment)
    before = deployment.stock()
    keep_for(engine, 600_000)
    sweeps = [assigned.sweep for assigned in engine.processor._assigned.values()]
    drive(engine, lambda: not any(one.is_due(SystemClock().now_ms()) for one in sweeps))
    assert deployment.stock().raw == before.raw
    engine.processor.close()
    identity.release()


def test_facts_of_one_that_began_anew_take_the_place_of_a_forgotten_one_that_is_there_still(
    deployment: Deployment,
) -> None:
    """As where rows were rebuilt up to a moment before it was forgotten: here they are put back to that moment."""
    engine, identity = three_kinds(deployment)
    before = deployment.stock()
    keep_for(engine, 300)
    drive(engine, lambda: gone(deployment, 0, 1, 4))
    ask(engine, deployment, hold(0, 1, order_id="other"))
    engine.processor.close()
    after = deployment.stock()
    [number] = [n for n, position in after.positions.items() if position.facts]
    put_back(deployment, number, before, after)
    producer = Producer({"bootstrap.servers": deployment.bootstrap_servers})
    topic = deployment.topics[STOCK.name].name
    for key in before.raw.keys() - {keys.POSITION}:
        producer.produce(topic, before.raw[key], key, number)
    producer.produce(topic, encode(before.positions[number]), keys.POSITION, number)
    assert producer.flush(30) == 0
    assert deployment.stock().holds["r0"].state == FULFILLED
    engine, identity = deployment.engine_after(identity, "w")
    drive(engine, lambda: deployment.stock().holds["r0"].state == HELD)
    engine.processor.close()
    identity.release()
    seen = deployment.stock()
    assert seen.holds["r0"] == after.holds["r0"]
    assert seen.rows["sku-1"].reserved == after.rows["sku-1"].reserved
    assert seen.raw[order_key("o0", "sku-1", "r0")] is None
    assert seen.raw[order_key("other", "sku-1", "r0")] is not None
