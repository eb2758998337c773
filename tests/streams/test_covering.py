"""What is held of a source that lacks it: how it is looked for, and moved by a worker against the real broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inventory.policies import Policies
from schemas.codec import Codec
from schemas.keys import hold_key, source_key
from schemas.policies import Policy
from schemas.registry import FileRegistry
from schemas.reservations import COMMITTED, HELD, RELEASED, Hold, Part
from schemas.rows import Count, Open, Position, Source, StockRow, encode, encode_row
from state.database import Resources
from state.store import PartitionStore
from streams import covering
from streams.alerts import Alerts
from streams.covering import Covering
from tests.deployment import Deployment, drive, drive_events, name_of
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.inventory.reservations.builders import command
from tests.reservations import check
from tests.streams.staging import crash
from tests.streams.test_alerts import Shop, kinds
from tests.streams.test_several import hold, of_lines, settled

NOW = 1_700_000_000_000
ACME, BOLT = source_key("acme", "default"), source_key("bolt", "default")
POSITION = Position({}, {})


@pytest.fixture(params=[0, 1 << 20])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PartitionStore]:
    """With and without rows that wait in memory."""
    opened = PartitionStore(tmp_path / "0", Resources(1 << 20, 1 << 20, request.param), "g")
    yield opened
    opened.close()


def alerts(policies: Policies | None = None) -> Alerts:
    return Alerts(Codec("StockAlert", FileRegistry()), lambda: policies or Policies(), lambda: NOW)


def put(store: PartitionStore, *holds: Hold, on_hand: int = 1, others: int = 9, sku: str = "sku-1") -> None:
    sources = {key: Source(Count(0, "c", NOW, n)) for key, n in ((ACME, on_hand), (BOLT, others))}
    held = sum(each.open_units for each in holds)
    row = StockRow(sku, 1, on_hand + others, NOW, sources, reserved={ACME: [Open(held, "default")]} if held else {})
    changed = {hold_key(each.sku, each.reservation_id): encode(each) for each in holds}
    store.write({**changed, sku.encode(): encode_row(row)}, 1)


def held(n: int, state: str = HELD, sku: str = "sku-1", **fields: Any) -> Hold:
    parts = [Part("acme", "default", 1)] if state in (HELD, COMMITTED) else []
    return Hold(sku, f"r{n:03}", state, parts=parts, created_at=NOW + n, **fields)


def found(one: Covering, store: PartitionStore, of: Alerts) -> tuple[list[str], int]:
    """What is found of what is noted, and in how many steps."""
    steps = 0
    while one.is_searching:
        one.step(store, of, POSITION)
        steps += 1
    return [key.decode()[-4:] for key in one.found], steps


def test_open_holds_of_the_sku_are_found_the_newest_first_and_a_few_at_a_time(
    store: PartitionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(covering, "HOLDS_MAX", 2)
    monkeypatch.setattr(covering, "MOVED_MAX", 4)
    put(store, held(0, COMMITTED), *(held(n, HELD if n % 2 else RELEASED) for n in range(1, 10)))
    put(store, held(20, sku="sku-10"), on_hand=0, sku="sku-10")
    one = Covering()
    one.note([b"sku-1"])
    assert found(one, store, alerts()) == (["r009", "r007", "r005", "r003"], 6)
    assert not one.is_searching, "until these are dealt with"
    one.note([b"sku-10"])
    one.settled()
    assert found(one, store, alerts()) == (["r020"], 1)


def test_nothing_is_looked_for_where_nobody_has_any_left(store: PartitionStore) -> None:
    put(store, held(1), held(2))
    for of, key in (
        (alerts(Policies({"default": Policy("default", 1, safety_units=100)})), b"sku-1"),
        (alerts(), b"unknown"),
    ):
        one = Covering()
        one.note([key])
        assert found(one, store, of) == ([], 1)
    put(store, held(1), on_hand=2)
    one = Covering()
    one.note([b"sku-1"])
    assert found(one, store, alerts()) == ([], 1), "it lacks nothing"


@pytest.fixture
def shop(deployment: Deployment) -> Iterator[Shop]:
    made = Shop(deployment)
    yield made
    made.close()


def parts_of(deployment: Deployment, name: str) -> dict[str, int]:
    return {part.supplier_id: part.quantity for part in deployment.stock().holds[name].parts}


def test_what_a_supplier_turns_out_not_to_have_comes_from_another_and_it_is_told(shop: Shop) -> None:
    shop.count(5, supplier_id="acme")
    shop.count(3, supplier_id="bolt")
    shop.deployment.ask([dict(command(quantity=4))])
    drive(shop.engine, lambda: len(shop.deployment.facts()) == 1)
    shop.count(2, supplier_id="acme")
    drive(shop.engine, lambda: len(shop.deployment.facts()) == 2)
    assert parts_of(shop.deployment, "r1") == {"acme": 2, "bolt": 2}
    assert kinds(shop.told(2)) == ["OVERSOLD_RISK", "OVERSOLD_RISK_CLEARED"]
    check(shop.deployment.stock(), shop.deployment)


def test_a_worker_that_dies_before_it_has_moved_it_is_followed_by_one_that_does(deployment: Deployment) -> None:
    deployment.publish(
        [update(Event("COUNT", f"c-{s}", 1_000, n), supplier_id=s) for s, n in (("acme", 5), ("bolt", 9))]
    )
    engine, identity = deployment.engine("w")
    drive_events(engine, 2)
    deployment.ask([dict(command(quantity=4, preferred_locations=["default"]))])
    drive(engine, lambda: len(deployment.facts()) == 1)
    assert parts_of(deployment, "r1") == {"bolt": 4}
    engine.processor._chores.settled = lambda assigned, folded: None  # type: ignore[method-assign]
    deployment.publish([update(Event("COUNT", "c2", 2_000, 1), supplier_id="bolt")])
    drive_events(engine, 1)
    assert parts_of(deployment, "r1") == {"bolt": 4}
    crash(engine, deployment, "w", "v")
    identity.release()
    engine, identity = deployment.engine("v")
    drive(engine, lambda: len(deployment.facts()) == 2)
    assert deployment.facts()[-1]["fact"] == "TRANSFERRED"
    assert parts_of(deployment, "r1") == {"bolt": 1, "acme": 3}
    engine.processor.close()
    identity.release()


def test_a_line_of_several_is_moved_and_its_reservation_knows(shop: Shop) -> None:
    for sku in ("sku-1", "sku-2"):
        shop.count(5, sku=sku, supplier_id="acme")
        shop.count(3, sku=sku, supplier_id="bolt")
    shop.deployment.ask([hold(units=2, skus=("sku-1", "sku-2"))])
    drive(shop.engine, settled(shop.deployment))
    shop.count(1, sku="sku-2", supplier_id="acme")

    def moved() -> bool:
        several = shop.deployment.stock().holds["r1"]
        return [step.fact for step in several.steps][-1] == "TRANSFERRED" and settled(shop.deployment)()

    drive(shop.engine, moved)
    assert parts_of(shop.deployment, name_of("r1", "sku-2")) == {"acme": 1, "bolt": 1}
    known = {line.sku: line.parts for line in shop.deployment.stock().holds["r1"].lines}
    assert known == {sku: line.parts for sku, line in of_lines(shop.deployment).items()}
    check(shop.deployment.stock(), shop.deployment)
