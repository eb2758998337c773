"""Reservations of several SKUs through workers, against the real broker: all lines or none, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from schemas.keys import partition_of
from schemas.reservations import (
    CLOSED,
    COMMIT,
    COMMITTED,
    EXPIRED,
    FULFIL,
    FULFILLED,
    HELD,
    HOLD,
    NO_SKU,
    PENDING,
    REFUSED,
    RELEASED,
    TRANSFER,
    Hold,
)
from schemas.topics import COMMANDS
from streams.assembly import Engine
from tests.deployment import Deployment, drive, drive_events, name_of, ready, step
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.inventory.reservations.builders import command
from tests.reservations import check
from tests.streams.staging import PARTITIONS, crash, fail_once, keep_for

MINUTE_MS = 60_000
SKUS = ("sku-1", "sku-2", "sku-3", "sku-4")
Asked = dict[str, object]


def lines(*skus: str, units: int = 0) -> list[Asked]:
    return [{"sku": sku, "quantity": units, "location_id": None, "supplier_id": None} for sku in skus]


def several(action: str, command_id: str, n: int = 1, **fields: object) -> Asked:
    given = {"sku": NO_SKU, "quantity": 0, "reservation_id": f"r{n}", "command_id": command_id}
    return dict(command(action, **given | fields))


def hold(n: int = 1, units: int = 1, skus: tuple[str, ...] = SKUS, **fields: object) -> Asked:
    return several(HOLD, f"r{n}", n, lines=lines(*skus, units=units), **fields)


@pytest.fixture
def engine(deployment: Deployment) -> Iterator[Engine]:
    """A worker that has folded five units of each SKU."""
    counts = [update(Event("COUNT", "c1", 1_000, 5), sku=sku) for sku in SKUS]
    deployment.publish(counts)
    engine, identity = deployment.engine("w")
    drive_events(engine, len(counts))
    yield engine
    engine.processor.close()
    identity.release()


def settled(deployment: Deployment, n: int = 1, asked: int = 1) -> Callable[[], bool]:
    """Whether so many commands are decided, and no line of a reservation has anything to say."""

    def look() -> bool:
        seen = deployment.stock()
        decided = sum(position.offsets.get(COMMANDS.name, 0) for position in seen.positions.values())
        hold = seen.holds.get(f"r{n}")
        return decided >= asked and hold is not None and not any(line.asked for line in hold.lines)

    return look


def of_lines(deployment: Deployment, n: int = 1) -> dict[str, Hold]:
    holds = deployment.stock().holds
    return {sku: holds[name_of(f"r{n}", sku)] for sku in SKUS if name_of(f"r{n}", sku) in holds}


def test_lines_in_every_partition_are_held_committed_shipped_and_each_leaves_its_facts(
    deployment: Deployment, engine: Engine
) -> None:
    deployment.ask([hold(units=2)])
    drive(engine, settled(deployment))
    assert deployment.stock().holds["r1"].state == HELD
    assert {line.state for line in of_lines(deployment).values()} == {HELD}
    deployment.ask([several(COMMIT, "c"), several(FULFIL, "f", lines=lines("sku-2", units=1))])
    drive(engine, settled(deployment, asked=3))
    lines_after = of_lines(deployment)
    assert {line.state for line in lines_after.values()} == {COMMITTED}
    assert lines_after["sku-2"].open_units == 1
    deployment.ask([several(FULFIL, "g")])
    drive(engine, settled(deployment, asked=4))
    assert deployment.stock().holds["r1"].state == FULFILLED
    assert {line.state for line in of_lines(deployment).values()} == {FULFILLED}
    check(deployment.stock(), deployment)


def test_if_one_line_lacks_the_others_are_given_back(deployment: Deployment, engine: Engine) -> None:
    deployment.ask([hold(1, units=5, skus=SKUS[:2]), hold(2, units=1)])
    drive(engine, lambda: settled(deployment, 1, 2)() and settled(deployment, 2, 2)())
    seen = deployment.stock()
    assert sorted(seen.holds[name].state for name in ("r1", "r2")) in ([HELD, REFUSED], [REFUSED, REFUSED])
    lapsed = [hold for hold in seen.holds.values() if hold.coordinated and hold.state in (RELEASED, REFUSED)]
    assert lapsed
    check(seen, deployment)


def test_what_lapses_is_given_back_once_through_the_log(deployment: Deployment, engine: Engine) -> None:
    deployment.ask([hold(expires_in_ms=300)])
    drive(engine, lambda: settled(deployment)() and deployment.stock().holds["r1"].state == EXPIRED)
    assert {line.state for line in of_lines(deployment).values()} == {EXPIRED}
    facts = [fact["fact"] for fact in deployment.facts()]
    assert facts.count("EXPIRED") == 1 + len(SKUS)
    assert all(not row.reserved for row in deployment.stock().rows.values())


def test_a_line_goes_to_another_location(deployment: Deployment, engine: Engine) -> None:
    deployment.publish([update(Event("COUNT", "c2", 1_000, 3), sku="sku-1", location_id="north")])
    drive_events(engine, 1)
    deployment.ask([hold(units=2)])
    drive(engine, settled(deployment))
    deployment.ask([several(TRANSFER, "t", lines=lines("sku-1"), to_location="north")])
    drive(engine, settled(deployment, asked=2))
    assert [part.location_id for part in of_lines(deployment)["sku-1"].parts] == ["north"]
    assert deployment.stock().holds["r1"].units_of("t") == 2
    check(deployment.stock(), deployment)


@pytest.mark.parametrize("lines_as_well", [True, False])
def test_one_that_was_over_for_long_is_forgotten_bit_by_bit_and_is_made_anew_with_lines_of_its_own(
    deployment: Deployment, engine: Engine, *, lines_as_well: bool
) -> None:
    deployment.ask([hold(units=2)])
    drive(engine, settled(deployment))
    deployment.ask([several(COMMIT, "c"), several(FULFIL, "f")])
    drive(engine, lambda: settled(deployment, asked=3)() and deployment.stock().holds["r1"].state == FULFILLED)
    drive(engine, lambda: all(hold.state == FULFILLED for hold in of_lines(deployment).values()))
    keep_for(engine, 300)
    home = partition_of(b"r1", PARTITIONS)
    for number, assigned in engine.processor._assigned.items():
        if number != home and not lines_as_well:
            assigned.sweep._next_ms = 1 << 62  # its turn comes later
    away = [sku for sku in SKUS if lines_as_well or partition_of(sku.encode(), PARTITIONS) == home]
    drive(engine, lambda: not {"r1", *(name_of("r1", sku) for sku in away)} & deployment.stock().holds.keys())
    assert of_lines(deployment).keys() == set(SKUS) - set(away)
    check(deployment.stock(), deployment)
    for assigned in engine.processor._assigned.values():
        assigned.sweep._next_ms = 1 << 62
    deployment.ask([hold(units=3, order_id="another")])
    drive(engine, lambda: settled(deployment, asked=4)() and deployment.stock().holds["r1"].state == HELD)
    lines_after = of_lines(deployment)
    assert {(line.state, line.open_units, len(line.steps)) for line in lines_after.values()} == {(HELD, 3, 1)}
    deployment.ask([hold(2, units=1)])
    drive(engine, settled(deployment, 2, asked=5))
    assert deployment.stock().holds["r2"].state == REFUSED, "two were shipped, and three are held"
    check(deployment.stock(), deployment)


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_a_worker_that_dies_between_any_two_messages_leaves_nothing_half_held(
    deployment: Deployment, engine: Engine, steps: int
) -> None:
    deployment.ask([hold(n, units=2) for n in (1, 2, 3)])
    identities = []
    for life in range(3):
        fail_once(engine.processor, ("commit_transaction", "send_offsets_to_transaction", "flush")[life])
        for _ in range(steps):
            step(engine)
        crash(engine, deployment, f"w{life or ''}", f"w{life + 1}")
        engine, identity = deployment.engine(f"w{life + 1}")
        identities.append(identity)
        drive(engine, ready(engine, PARTITIONS), timeout_s=30)
    drive(engine, lambda: all(settled(deployment, n, 3)() for n in (1, 2, 3)))
    seen = deployment.stock()
    states = [seen.holds[f"r{n}"].state for n in (1, 2, 3)]
    assert PENDING not in states
    check(seen, deployment)
    held = sum(hold.open_units for hold in seen.holds.values() if hold.coordinated)
    assert held == 2 * len(SKUS) * states.count(HELD) <= 2 * 2 * len(SKUS)
    engine.processor.close()
    for identity in identities:
        identity.release()


def test_what_suppliers_ship_closes_lines_and_their_reservation_hears_of_it(
    deployment: Deployment, engine: Engine
) -> None:
    deployment.ask([hold(units=2, order_id="o1")])
    drive(engine, settled(deployment))
    deployment.ask([several(COMMIT, "c")])
    drive(engine, settled(deployment, asked=2))
    parcels = [update(Event("DELTA", f"d-{sku}", 2_000, -2), sku=sku, order_ref="o1") for sku in SKUS]
    drive_events(engine, deployment.publish([parcels[0], parcels[0]]))
    drive(engine, lambda: deployment.stock().holds["r1"].open_units == 2 * len(SKUS) - 2)
    assert deployment.stock().holds["r1"].state == COMMITTED
    drive_events(engine, deployment.publish(parcels))
    drive(engine, lambda: deployment.stock().holds["r1"].state == FULFILLED)
    seen = deployment.stock()
    assert {line.state for line in of_lines(deployment).values()} == {FULFILLED}
    assert [step.fact for step in seen.holds["r1"].steps][-len(SKUS) :] == [CLOSED] * len(SKUS)
    assert all(not row.reserved and row.on_hand == 3 for row in seen.rows.values())
    check(seen, deployment)
