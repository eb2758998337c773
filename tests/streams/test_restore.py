"""What a start finds, on disk and in Kafka, and how it goes on from there; against the real broker."""

from __future__ import annotations

import shutil

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from structlog.testing import capture_logs

from schemas import keys
from schemas.rows import Position, encode
from schemas.topics import STOCK, UPDATES
from stockweave.errors import Fatal
from streams.restore import Stage
from tests.deployment import Deployment, drive, drive_events, expected_on_hand, ready, some_updates, step
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.streams.staging import PARTITIONS, Replaced, open_store, recreate, stores


def test_a_store_with_a_commit_that_kafka_lost_is_read_again(deployment: Deployment) -> None:
    updates = some_updates(200)
    deployment.publish(updates)
    engine, identity = deployment.engine("w")
    drive_events(engine, len(updates))
    engine.processor.close()
    torn = open_store(deployment, "w", 0)
    assert torn.position is not None
    for tally in torn.position.outcomes.values():
        tally[0] += 7
    rows_of_it: dict[bytes, bytes | None] = {b"sku-never": b"junk", keys.POSITION: encode(torn.position)}
    torn.write(rows_of_it, torn.mark.next_offset + 3, torn.mark.anchor + 3)
    torn.close()
    engine, again = deployment.engine_after(identity, "w")
    drive(engine, ready(engine, PARTITIONS))
    engine.processor.close()
    again.release()
    seen = deployment.stock()
    assert stores(deployment, "w") == {k: v for k, v in seen.raw.items() if k != keys.POSITION}


def test_deleted_stores_are_read_again_from_the_topic(deployment: Deployment) -> None:
    updates = some_updates(200)
    deployment.publish(updates[:150])
    engine, identity = deployment.engine("w")
    drive_events(engine, 150)
    engine.processor.close()
    shutil.rmtree(deployment.folder / "w" / "stock")
    engine, again = deployment.engine_after(identity, "w")
    deployment.publish(updates[150:])
    drive_events(engine, 50)
    engine.processor.close()
    again.release()
    seen = deployment.stock()
    assert seen.on_hand() == expected_on_hand(updates)
    assert stores(deployment, "w") == {k: v for k, v in seen.raw.items() if k != keys.POSITION}


def test_a_start_after_the_folded_updates_were_deleted_goes_on_every_time(deployment: Deployment) -> None:
    """Of six, for the consumer has to be quicker than what restores the partition, to fetch what is gone."""
    updates = some_updates(600)
    deployment.publish(updates)
    engine, identity = deployment.engine("w")
    drive_events(engine, len(updates))
    engine.processor.close()
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers})
    name = deployment.topics[UPDATES.name].name
    offsets = {p: position.offsets[UPDATES.name] for p, position in deployment.stock().positions.items()}
    trimmed = [TopicPartition(name, p, offset - 5) for p, offset in offsets.items()]
    for deleted in admin.delete_records(trimmed).values():
        deleted.result()
    for seed in range(2, 8):
        engine, identity = deployment.engine_after(identity, "w")
        drive(engine, ready(engine, PARTITIONS))
        for _ in range(3):
            step(engine)
        more = some_updates(50, seed=seed)
        updates += more
        deployment.publish(more)
        drive_events(engine, len(more))
        engine.processor.close()
    identity.release()
    assert deployment.stock().on_hand() == expected_on_hand(updates)


def test_updates_that_were_created_anew_are_not_taken_for_those_that_the_rows_stand_for(
    deployment: Deployment,
) -> None:
    deployment.publish(some_updates(200))
    engine, identity = deployment.engine("w")
    drive_events(engine, 200)
    engine.processor.close()
    identity.release()
    generation = deployment.topics[UPDATES.name].generation
    assert {p.updates_generation for p in deployment.stock().positions.values()} == {generation}
    recreate(deployment, UPDATES)
    new = some_updates(800, seed=2)
    deployment.publish(new)
    engine, identity = deployment.engine("w")
    with pytest.raises(Fatal, match=r"created anew.*delete the topic .*inventory\.stock"):
        drive(engine, ready(engine, PARTITIONS))
    engine.processor.close()
    identity.release()
    recreate(deployment, STOCK)  # the remedy
    engine, identity = deployment.engine("w")
    drive_events(engine, len(new))
    engine.processor.close()
    identity.release()
    assert deployment.stock().on_hand() == expected_on_hand(new)


def test_a_position_that_names_no_generation_of_the_updates_gets_the_present_one(deployment: Deployment) -> None:
    count = update(Event("COUNT", "c1", 1_000, 5))
    deployment.publish([count])
    partition = keys.partition_of(b"sku-1", PARTITIONS)
    writer = Producer({"bootstrap.servers": deployment.bootstrap_servers})
    before = Position({UPDATES.name: 1}, {"acme": [1, 0, 0, 0]})
    writer.produce(deployment.topics[STOCK.name].name, encode(before), keys.POSITION, partition)
    assert writer.flush(10) == 0
    deployment.publish([count])
    engine, identity = deployment.engine("w")
    drive_events(engine, 1)
    engine.processor.close()
    identity.release()
    after = deployment.stock().positions[partition]
    assert (after.events(), after.updates_generation) == (2, deployment.topics[UPDATES.name].generation)


def test_a_partition_that_stays_in_one_stage_is_told_again_and_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, identity = deployment.engine("w")
    drive(engine, lambda: len(engine.processor.stages()) == PARTITIONS)
    monkeypatch.setattr("streams.restore.STUCK_S", 0.2)
    restorer = engine.processor._restorer
    restorer._ends = Replaced(restorer._ends, "offsets_for_times", lambda *_, **__: [])
    engine.processor.rewind()
    for assigned in engine.processor._assigned.values():
        assigned.stage = Stage.BARRIER
    with capture_logs() as logs:
        drive(engine, lambda: len([line for line in logs if line["event"] == "partition_waits"]) >= 2 * PARTITIONS)
    waits = [line for line in logs if line["event"] == "partition_waits"]
    assert {line["partition"] for line in waits} == set(range(PARTITIONS))
    assert {(line["stage"], line["log_level"]) for line in waits} == {("TARGET", "warning")}
    assert max(line["for_s"] for line in waits) > 0.3
    engine.processor.close()
    identity.release()


def test_a_consumer_that_sits_at_the_end_is_sent_back_to_where_folding_goes_on(deployment: Deployment) -> None:
    """As librdkafka was seen to do, when an assignment's look for the end is answered after the seek."""
    updates = some_updates(300)
    engine, identity = deployment.engine("w")
    drive(engine, ready(engine, PARTITIONS))
    deployment.publish(updates[:100])
    name = deployment.topics[UPDATES.name].name
    for partition, (_, end) in enumerate(deployment._watermarks(UPDATES.name)):
        engine.processor._consumer.seek(TopicPartition(name, partition, end))
    drive_events(engine, 100)
    deployment.publish(updates[100:])
    drive_events(engine, 200)
    engine.processor.close()
    identity.release()
    assert deployment.stock().on_hand() == expected_on_hand(updates)
