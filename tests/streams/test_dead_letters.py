"""What a worker cannot use is a dead letter, and the rest goes on; against the real broker."""

from __future__ import annotations

from typing import cast

import pytest
from confluent_kafka import Message, Producer

from schemas import keys
from schemas.rows import OUTCOMES
from schemas.topics import STOCK, UPDATES
from tests.deployment import Deployment, drive_events, header
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.streams.staging import PARTITIONS


def test_what_cannot_be_used_is_a_dead_letter_with_its_bytes_and_the_rest_goes_on(deployment: Deployment) -> None:
    good = update(Event("COUNT", "c1", 1_000, 5))
    framed = deployment.codec.encode(dict(good))
    bad: list[tuple[bytes | None, bytes | None, str]] = [
        (b"sku-1", b"not avro at all", "not_framed"),
        (b"sku-1", framed[:20], "undecodable"),
        (b"sku-1", b"\0\0\0\x03\xe7" + framed[5:], "unknown_schema_id"),
        (b"other", framed, "key_is_not_sku"),
        (None, framed, "key_is_not_sku"),
        (b"sku-1", None, "empty"),
        (b"sku-1", deployment.codec.encode({**good, "quantity": -1}), "invalid_update"),
        (b"sku-1", deployment.codec.encode({**good, "observed_at": 10**13}), "observed_in_future"),
        (b"sku-1", deployment.codec.encode({**good, "observed_at": 999}), "update_id_conflict"),
    ]
    deployment.publish([good])
    for key, value, _ in bad:
        deployment.publish_raw(key, value)
    deployment.publish([update(Event("DELTA", "d1", 2_000, -1))])
    engine, identity = deployment.engine("w")
    drive_events(engine, len(bad) + 2)
    engine.processor.close()
    identity.release()
    letters = {(m.key(), m.value(), header(m, "exception.class.name")) for m in deployment.dead_letters()}
    assert letters == set(bad)
    for letter in deployment.dead_letters():
        assert header(letter, "topic") == deployment.topics[UPDATES.name].name
        assert int(header(letter, "offset")) >= 0
        assert header(letter, "exception.message")
    seen = deployment.stock()
    assert seen.rows["sku-1"].on_hand == 4
    rejected = sum(t[OUTCOMES.index("rejected")] for p in seen.positions.values() for t in p.outcomes.values())
    assert rejected == len(bad)


@pytest.mark.parametrize("key", [b"sku-1", b"k" * 900_000])
def test_a_dead_letter_that_is_too_large_for_its_topic_keeps_its_beginning_and_says_where_all_of_it_is(
    deployment: Deployment, key: bytes
) -> None:
    sender = Producer(
        {
            "bootstrap.servers": deployment.bootstrap_servers,
            "message.max.bytes": 100_000_000,
            "compression.type": "zstd",
        }
    )
    sender.produce(deployment.topics[UPDATES.name].name, b"\x01" * 40_000_000, key, headers=[("h", b"\x02" * 900_000)])
    assert sender.flush(30) == 0
    good = update(Event("COUNT", "c1", 1_000, 5))
    deployment.publish_raw(b"o" * 900_000, deployment.codec.encode(dict(good)))
    engine, identity = deployment.engine("w")
    drive_events(engine, 2)
    engine.processor.close()
    identity.release()
    small, large = sorted(deployment.dead_letters(), key=lambda m: len(m.value() or b""))
    assert (small.key(), header(small, "exception.class.name")) == (b"o" * 900_000, "key_is_not_sku")
    assert len(header(small, "exception.message")) < 1_000
    assert header(large, "exception.class.name") == "not_framed"
    assert (large.value() or b"").ljust(40_000_000, b"\x01") == b"\x01" * 40_000_000
    assert 1_000 < len(large.value() or b"") < 40_000_000
    assert key.startswith(large.key() or b"")
    said = dict(cast("list[tuple[str, bytes]]", large.headers()))["stockweave.truncated"]
    assert b"value of 40000000 bytes" in said
    assert b"offset" in said
    assert "stockweave.truncated" not in dict(small.headers() or [])


def test_updates_in_a_partition_where_nobody_looks_are_dead_letters(deployment: Deployment) -> None:
    deployment.publish([update(Event("COUNT", "c1", 1_000, 5), sku="sku-0")])
    foreign = Producer({"bootstrap.servers": deployment.bootstrap_servers})  # with librdkafka's own partitioner
    told = [update(Event("COUNT", "c2", 2_000, 6), sku=f"sku-{i}") for i in range(20)]
    misplaced = []
    for one in told:
        key = one["sku"].encode()

        def delivered(_: object, message: Message, key: bytes = key) -> None:
            if message.partition() != keys.partition_of(key, PARTITIONS):
                misplaced.append(key)

        foreign.produce(
            deployment.topics[UPDATES.name].name, deployment.codec.encode(dict(one)), key, on_delivery=delivered
        )
    assert foreign.flush(10) == 0
    assert 0 < len(misplaced) < 20
    engine, identity = deployment.engine("w")
    drive_events(engine, 21)
    engine.processor.close()
    identity.release()
    letters = deployment.dead_letters()
    assert sorted(m.key() or b"" for m in letters) == sorted(misplaced)
    assert {header(m, "exception.class.name") for m in letters} == {"wrong_partition"}
    assert "murmur2_random" in header(letters[0], "exception.message")
    placed = {m.key(): m.partition() for m in deployment.read(STOCK.name) if (m.key() or b"\0")[0] >= 0x20}
    assert placed == {key: keys.partition_of(key or b"", PARTITIONS) for key in placed}
