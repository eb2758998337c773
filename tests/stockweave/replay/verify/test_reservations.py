"""Verify where reservations were decided: right ones are found right, and each wrong one is named."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from schemas import keys
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.reservations import COMMITTED, HELD, Step
from schemas.rows import encode, encode_row
from schemas.topics import COMMANDS, RESERVATIONS
from stockweave.errors import Fatal
from stockweave.replay.verify.report import as_json, reservation_lines, summary
from stockweave.replay.verify.verify import Verdict
from tests.deployment import Deployment, Snapshot
from tests.reservations import check
from tests.stockweave.replay.planted import verified
from tests.stockweave.replay.reserved import SKUS, a_hold, decide, drawn, partition_of, reserved, tamper, working


@pytest.fixture
def seen(deployment: Deployment) -> Snapshot:
    reserved(deployment)
    return deployment.stock()


def lines(verdict: Verdict) -> str:
    return "\n".join(reservation_lines(verdict))


@pytest.mark.parametrize("thorough", [False, True])
def test_rows_and_holds_are_what_updates_and_facts_say(
    deployment: Deployment, seen: Snapshot, *, thorough: bool
) -> None:
    check(seen, deployment)
    assert any(row.reserved for row in seen.rows.values())
    assert any(part.closed for hold in seen.holds.values() for part in hold.parts)
    verdict, parting = verified(deployment, 2, thorough=thorough)
    assert (verdict.is_right, parting, list(reservation_lines(verdict))) == (True, None, [])
    facts = sum(position.facts for position in seen.positions.values())
    assert (verdict.facts, verdict.holds) == (facts, len(seen.holds))
    said = f"verified {SKUS} rows in 2 partitions: 0 differ; {verdict.holds} holds of {facts} facts: 0 differ"
    assert summary(verdict) == said


def test_a_hold_that_no_fact_made_so_is_named_with_both_sides(deployment: Deployment, seen: Snapshot) -> None:
    hold = a_hold(seen, HELD)
    number = partition_of(deployment, hold.sku)
    committed = replace(hold, state=COMMITTED, expires_at=None, steps=[*hold.steps, Step(COMMITTED, 5, hold.held, "x")])
    changed = {keys.hold_key(hold.sku, hold.reservation_id): encode(committed)}
    tamper(deployment, changed, number, seen.positions[number])
    verdict, _ = verified(deployment)
    assert (verdict.differ, verdict.holds_differ, verdict.is_right) == (0, 1, False)
    said = lines(verdict)
    assert f"partition {number}: reservation {hold.reservation_id!r} of SKU {hold.sku!r} is not what its fa" in said
    assert f"  live: COMMITTED {hold.held}" in said
    assert f"  by the facts: HELD {hold.held}" in said
    assert "they differ in state, expires_at, steps" in said
    assert as_json(verdict, None)["holds_differ"] == 1


def test_a_fact_that_is_in_the_rows_and_not_in_the_log_is_found(deployment: Deployment, seen: Snapshot) -> None:
    number = max(seen.positions, key=lambda n: seen.positions[n].facts)
    before = seen.positions[number]
    tamper(deployment, {}, number, replace(before, facts=before.facts + 1))
    verdict, _ = verified(deployment)
    assert (verdict.holds_differ, verdict.is_right) == (0, False)
    topic = deployment.topics[RESERVATIONS.name].name
    assert lines(verdict) == f"partition {number}: facts {before.facts} are missing in {topic}"


def test_a_fact_that_is_there_twice_and_one_that_is_left_out_are_told_by_their_numbers(
    deployment: Deployment, seen: Snapshot
) -> None:
    number = max(seen.positions, key=lambda n: seen.positions[n].facts)
    before, codec = seen.positions[number], Codec("ReservationFact", FileRegistry())
    of_p = [fact for fact in deployment.facts() if partition_of(deployment, fact["sku"]) == number]
    producer = Producer({"bootstrap.servers": deployment.bootstrap_servers})
    topic = deployment.topics[RESERVATIONS.name].name
    for again in (2, before.facts + 1):
        fact = of_p[-1] | {"number": again}
        producer.produce(topic, codec.encode(fact), fact["sku"].encode(), number)
    assert producer.flush(30) == 0
    tamper(deployment, {}, number, replace(before, facts=before.facts + 2))
    said = lines(verified(deployment)[0])
    assert f"partition {number}: fact 2 is there twice, the second time at offset " in said
    assert f"partition {number}: facts {before.facts} are missing before offset " in said


def test_what_was_to_be_undone_and_was_not_is_no_fact(deployment: Deployment, seen: Snapshot) -> None:
    """A broker that loses the end of a start's own transaction may leave its records beside what is committed next."""
    producer = Producer({"bootstrap.servers": deployment.bootstrap_servers})
    for number in range(2):
        producer.produce(deployment.topics[RESERVATIONS.name].name, None, keys.UNDONE, number)
    assert producer.flush(30) == 0
    with working(deployment) as engine:
        decide(engine, deployment, drawn(3, 20))
    assert verified(deployment)[0].is_right


def test_a_fact_that_the_holds_lack_is_found_with_what_is_reserved(deployment: Deployment, seen: Snapshot) -> None:
    """As if a worker had counted a fact and not applied it."""
    hold = a_hold(seen, HELD)
    number = partition_of(deployment, hold.sku)
    gone = {keys.hold_key(hold.sku, hold.reservation_id): None}
    tamper(deployment, gone, number, seen.positions[number])
    verdict, _ = verified(deployment)
    assert verdict.holds_differ == 1
    said = lines(verdict)
    assert f"reservation {hold.reservation_id!r} of SKU {hold.sku!r}" in said
    assert "  live: none" in said
    assert f"the row of {hold.sku!r} has reserved" in said


def test_what_is_reserved_beyond_all_holds_is_shown_beside_the_facts(deployment: Deployment, seen: Snapshot) -> None:
    hold = a_hold(seen, HELD)
    number, row = partition_of(deployment, hold.sku), seen.rows[hold.sku]
    source, entries = next(iter(row.reserved.items()))
    row.reserved[source] = [replace(entries[0], units=entries[0].units + 3), *entries[1:]]
    tamper(deployment, {hold.sku.encode(): encode_row(row)}, number, seen.positions[number])
    verdict, parting = verified(deployment)
    assert (verdict.differ, verdict.holds_differ, parting) == (1, 0, None)
    assert f"the row of {hold.sku!r} has reserved " in lines(verdict)
    done = subprocess.run(
        [sys.executable, "-m", "stockweave", "verify"],
        env=deployment.environment("engineer"), capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == os.EX_DATAERR
    assert f"the first SKU that differs: {hold.sku!r}" in done.stdout
    assert "of the updates both say the same: what is reserved differs" in done.stdout


def test_a_record_of_an_order_that_is_gone_is_named(deployment: Deployment, seen: Snapshot) -> None:
    hold = next(h for h in seen.holds.values() if h.order_id is not None)
    number = partition_of(deployment, hold.sku)
    assert hold.order_id is not None
    key = keys.order_key(hold.order_id, hold.sku, hold.reservation_id)
    tamper(deployment, {key: None}, number, seen.positions[number])
    [line] = lines(verified(deployment)[0]).splitlines()
    assert (
        f"{hold.order_id!r} and {hold.sku!r} and {hold.reservation_id!r} is in the facts, and not in the store" in line
    )


def test_a_position_that_claims_more_or_less_than_its_facts_is_told(deployment: Deployment, seen: Snapshot) -> None:
    number = max(seen.positions, key=lambda n: seen.positions[n].facts)
    before = seen.positions[number]
    tamper(deployment, {}, number, replace(before, decided_at=5, offsets=before.offsets | {COMMANDS.name: 1}))
    said = lines(verified(deployment)[0])
    assert "the position's decision clock is 5, and a fact's is " in said
    assert "the position says that commands from offset 1 on are open: " in said


def test_a_log_of_facts_that_lost_its_beginning_says_so(deployment: Deployment, seen: Snapshot) -> None:
    number = max(seen.positions, key=lambda n: seen.positions[n].facts)
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers})
    cut = TopicPartition(deployment.topics[RESERVATIONS.name].name, number, 3)
    for deleted in admin.delete_records([cut]).values():
        deleted.result()
    with pytest.raises(Fatal, match=f"partition {number} no longer has the facts from offset 0 on"):
        verified(deployment)
