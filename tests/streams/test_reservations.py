"""Commands through a worker, against the real broker: decided once, with the rows, whatever happens between."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

import pytest
from confluent_kafka import Producer

from inventory.availability import availability
from inventory.policies import Policies
from schemas import keys
from schemas.reservations import COMMITTED, EXPIRED, HELD, HOLD, REFUSED, RELEASED, UNCHANGED, Hold
from schemas.rows import StockRow, encode
from schemas.topics import COMMANDS, RESERVATIONS, STOCK
from streams.assembly import Engine
from streams.identity import Identity
from tests.deployment import Deployment, Snapshot, drive, drive_events, header, ready, step
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.inventory.reservations.builders import command
from tests.reservations import check
from tests.streams.staging import PARTITIONS, crash, fail_once

MINUTE_MS = 60_000


def counted(deployment: Deployment, units: int, sku: str = "sku-1", supplier: str = "acme") -> int:
    return deployment.publish([update(Event("COUNT", "c1", 1_000, units), sku=sku, supplier_id=supplier)])


def hold(n: int, quantity: int = 1, sku: str = "sku-1", **fields: object) -> dict[str, object]:
    return dict(command(HOLD, reservation_id=f"r{n}", command_id=f"r{n}", quantity=quantity, sku=sku, **fields))


def decided(deployment: Deployment, commands: int) -> bool:
    positions = deployment.stock().positions.values()
    return sum(position.offsets.get(COMMANDS.name, 0) for position in positions) >= commands


def held(holds: Iterable[Hold]) -> int:
    return sum(hold.held for hold in holds)


def left(row: StockRow) -> int:
    return availability(row, Policies().rules(row.sku), 0).available


def stocked(deployment: Deployment, units: int) -> tuple[Engine, Identity]:
    """A worker that has folded the count."""
    counted(deployment, units)
    engine, identity = deployment.engine("w")
    drive_events(engine, 1)
    return engine, identity


def worked(deployment: Deployment, units: int, commands: Iterable[Mapping[str, object]]) -> None:
    """Once there are so many units, the commands are decided."""
    engine, identity = stocked(deployment, units)
    asked = deployment.ask(commands)
    drive(engine, lambda: decided(deployment, asked))
    engine.processor.close()
    identity.release()


def test_a_command_is_decided_with_the_rows_and_leaves_a_fact(deployment: Deployment) -> None:
    engine, identity = stocked(deployment, 5)
    asked = deployment.ask([hold(1, 3), hold(2, 3), hold(3, 2, order_id="o-3")])
    drive(engine, lambda: decided(deployment, asked))
    engine.processor.close()
    identity.release()
    seen = deployment.stock()
    assert [seen.holds[f"r{n}"].state for n in (1, 2, 3)] == [HELD, REFUSED, HELD]
    assert seen.holds["r2"].left == 2
    assert left(seen.rows["sku-1"]) == 0
    assert [fact["number"] for fact in deployment.facts()] == [0, 1, 2]
    check(seen, deployment)


def test_of_a_thousand_units_a_thousand_are_held_whatever_dies_in_between(deployment: Deployment) -> None:
    engine, identity = stocked(deployment, 1_000)
    rng = random.Random(7)
    asked = deployment.ask(hold(n, rng.choice((1, 1, 1, 2))) for n in range(2_500))
    fail_once(engine.processor, "commit_transaction")
    while not decided(deployment, 500):
        step(engine)
    crash(engine, deployment, "w", "again")
    engine, identity_again = deployment.engine("again")
    drive(engine, ready(engine, PARTITIONS), timeout_s=30)
    drive(engine, lambda: decided(deployment, asked))
    engine.processor.close()
    identity.release()
    identity_again.release()
    seen = deployment.stock()
    assert held(seen.holds.values()) == 1_000
    assert len(seen.holds) == asked
    check(seen, deployment)


def test_a_command_that_comes_twice_is_carried_out_once(deployment: Deployment) -> None:
    ship = dict(command("FULFIL", reservation_id="r1", command_id="ship-1", quantity=1))
    commit = dict(command("COMMIT", reservation_id="r1", command_id="commit", quantity=0))
    worked(deployment, 9, [hold(1, 4), hold(1, 4), commit, ship, ship, commit])
    seen = deployment.stock()
    assert [s.fact for s in seen.holds["r1"].steps] == [HELD, COMMITTED, "FULFILLED"]
    assert seen.holds["r1"].open_units == 3
    check(seen, deployment)


def test_a_repeat_of_a_refused_change_gets_the_first_answer_from_the_next_worker_too(deployment: Deployment) -> None:
    ship = dict(command("FULFIL", reservation_id="r1", command_id="ship-1", quantity=0))
    commit = dict(command("COMMIT", reservation_id="r1", command_id="commit", quantity=0))
    engine, identity = stocked(deployment, 9)
    asked = deployment.ask([hold(1, 4), ship, ship])
    drive(engine, lambda: decided(deployment, asked))
    first = deployment.stock().holds["r1"].unchanged
    assert [(one.command_id, one.state, one.open, one.there) for one in first] == [("ship-1", HELD, 4, 4)]
    crash(engine, deployment, "w", "again")
    engine, identity_again = deployment.engine("again")
    drive(engine, ready(engine, PARTITIONS), timeout_s=30)
    asked += deployment.ask([commit, ship])
    drive(engine, lambda: decided(deployment, asked))
    engine.processor.close()
    identity.release()
    identity_again.release()
    seen = deployment.stock()
    assert (seen.holds["r1"].state, seen.holds["r1"].open_units, seen.holds["r1"].unchanged) == (COMMITTED, 4, first)
    assert [fact["fact"] for fact in deployment.facts()] == [HELD, UNCHANGED, COMMITTED]
    check(seen, deployment)


def test_a_hold_lapses_by_itself_once_and_after_a_restart_too(deployment: Deployment) -> None:
    engine, identity = stocked(deployment, 2)
    asked = deployment.ask([hold(1, 1, expires_in_ms=300), hold(2, 1, expires_in_ms=4_000)])
    drive(engine, lambda: decided(deployment, asked))
    drive(engine, lambda: deployment.stock().holds["r1"].state == EXPIRED)
    assert deployment.stock().holds["r2"].state == HELD
    engine.processor.close()
    engine, identity = deployment.engine_after(identity, "w")
    drive(engine, lambda: deployment.stock().holds["r2"].state == EXPIRED)
    engine.processor.close()
    identity.release()
    seen = deployment.stock()
    assert [fact["fact"] for fact in deployment.facts()] == [HELD, HELD, EXPIRED, EXPIRED]
    assert seen.rows["sku-1"].reserved == {}
    check(seen, deployment)


def test_what_a_count_surely_knows_of_is_forgotten(deployment: Deployment) -> None:
    engine, identity = stocked(deployment, 5)
    done = [command(action, command_id=action, quantity=0) for action in ("HOLD", "COMMIT", "FULFIL")]
    done[0]["quantity"] = 3
    asked = deployment.ask([dict(one) for one in done])
    drive(engine, lambda: decided(deployment, asked))
    assert left(deployment.stock().rows["sku-1"]) == 2
    later = max(position.decided_at for position in deployment.stock().positions.values()) + MINUTE_MS
    event = Event("COUNT", "c2", later, 2)
    deployment.publish([update(event, sku="sku-1", supplier_id="acme", received_at=later)])
    drive_events(engine, 1)
    engine.processor.close()
    identity.release()
    row = deployment.stock().rows["sku-1"]
    assert (left(row), row.reserved) == (2, {})


def test_a_release_gives_back_what_the_next_command_takes(deployment: Deployment) -> None:
    release = dict(command("RELEASE", reservation_id="r1", command_id="x", quantity=0))
    worked(deployment, 1, [hold(1), hold(2), release, hold(3)])
    seen = deployment.stock()
    assert [seen.holds[f"r{n}"].state for n in (1, 2, 3)] == [RELEASED, REFUSED, HELD]
    check(seen, deployment)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ({"sku": "sku-1\0"}, "invalid_command"),
        ({"quantity": -1}, "invalid_command"),
        ({"expires_in_ms": 0}, "invalid_command"),
    ],
)
def test_a_command_that_cannot_be_decided_is_a_dead_letter(
    deployment: Deployment, spoil: dict[str, object], reason: str
) -> None:
    worked(deployment, 1, [hold(1) | spoil, hold(2)])
    [letter] = deployment.dead_letters()
    assert header(letter, "exception.class.name") == reason
    assert header(letter, "topic") == deployment.topics[COMMANDS.name].name
    assert deployment.stock().holds.keys() == {"r2"}


def test_commands_that_come_before_the_first_word_of_their_sku_are_refused(deployment: Deployment) -> None:
    worked(deployment, 1, [hold(1, sku="nobody-has-it")])
    [refused] = deployment.stock().holds.values()
    assert (refused.state, refused.reason, refused.left) == (REFUSED, "UNKNOWN_SKU", 0)


def test_facts_that_the_rows_do_not_have_are_applied_before_any_command(deployment: Deployment) -> None:
    """As where rows were rebuilt up to some moment: here the rows are put back to before the reservations."""
    engine, identity = stocked(deployment, 3)
    before = deployment.stock()
    commit = dict(command("COMMIT", reservation_id="r1", command_id="commit", quantity=0))
    asked = deployment.ask([hold(1), hold(2, 9), commit])
    drive(engine, lambda: decided(deployment, asked))
    engine.processor.close()
    after = deployment.stock()
    partition = next(n for n, position in after.positions.items() if position.facts)
    put_back(deployment, partition, before, after)
    engine, identity = deployment.engine_after(identity, "w")
    more = deployment.ask([hold(3, 2), hold(4, 1)])
    drive(engine, lambda: decided(deployment, asked + more))
    engine.processor.close()
    identity.release()
    seen = deployment.stock()
    assert [seen.holds[f"r{n}"].state for n in (1, 2, 3, 4)] == [COMMITTED, REFUSED, HELD, REFUSED]
    assert [fact["number"] for fact in deployment.facts()] == [0, 1, 2, 3, 4]
    check(seen, deployment)


def put_back(deployment: Deployment, partition: int, before: Snapshot, after: Snapshot) -> None:
    producer = Producer({"bootstrap.servers": deployment.bootstrap_servers})
    producer.produce(deployment.topics[RESERVATIONS.name].name, None, keys.UNDONE, partition)  # where an end was lost
    topic = deployment.topics[STOCK.name].name
    for key in after.raw.keys() - before.raw.keys():
        producer.produce(topic, None, key, partition)
    producer.produce(topic, before.raw[b"sku-1"], b"sku-1", partition)
    producer.produce(topic, encode(before.positions[partition]), keys.POSITION, partition)
    assert producer.flush(30) == 0
