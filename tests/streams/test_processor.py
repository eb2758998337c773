"""The processor against the real broker, driven as the pump drives it, so that faults can be put between two steps."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import keys
from schemas.admin import ensure_topics
from schemas.rows import OUTCOMES, Position, encode
from schemas.topics import STOCK, UPDATES, Topic
from state.store import PartitionStore, Resources
from stockweave.errors import Fatal
from streams.assembly import Engine
from streams.identity import Identity
from streams.processor import Processor, _is_member
from tests.deployment import (
    Deployment,
    drive,
    drive_events,
    expected_on_hand,
    header,
    ready,
    some_updates,
    sources_of,
    step,
)
from tests.inventory.builders import update
from tests.inventory.reference import Event

PARTITIONS = 4
ABORTABLE = KafkaError(KafkaError._TIMED_OUT_QUEUE, "staged", txn_requires_abort=True)


def test_rows_positions_and_stores_say_the_same(deployment: Deployment) -> None:
    updates = some_updates(500)
    deployment.publish(updates)
    engine, identity = deployment.engine("w")
    drive_events(engine, len(updates))
    engine.processor.close()
    identity.release()
    seen = deployment.stock()
    assert seen.on_hand() == expected_on_hand(updates)
    assert seen.events == len(updates)
    assert not seen.versions_fell
    assert stores(deployment, "w") == {k: v for k, v in seen.raw.items() if k != keys.POSITION}


def test_a_duplicate_changes_no_row_and_moves_the_position(deployment: Deployment) -> None:
    count = update(Event("COUNT", "c1", 1_000, 5))
    deployment.publish([count])
    engine, identity = deployment.engine("w")
    drive_events(engine, 1)
    before = deployment.stock()
    deployment.publish([count, count])
    drive_events(engine, 2)
    after = deployment.stock()
    assert after.rows["sku-1"].version == before.rows["sku-1"].version == 1
    [moved] = [p for p in after.positions.values() if p.events()]
    assert moved.outcomes == {"acme": [1, 2, 0, 0]}
    assert moved.offsets[UPDATES.name] == 3
    engine.processor.close()
    identity.release()


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


def test_suppliers_beyond_the_cap_share_a_tally_whatever_the_batches(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.batch.SUPPLIERS_MAX", 3)
    told = [update(Event("COUNT", "c", 1_000 + i, 5), supplier_id=f"supplier-{i % 6}") for i in range(18)]
    told[0] = update(Event("COUNT", "c", 1_000, 5), supplier_id="x" * 900_000)
    told[1] = update(Event("COUNT", "c", 1_000, -1), supplier_id="")
    other = Deployment(deployment.bootstrap_servers, tmp_path / "other")
    other.base = other.base.model_copy(update={"batch_events_max": 2})
    for each in (deployment, other):
        each.publish(told)
        each.publish_raw(b"sku-1", b"junk")
        engine, identity = each.engine("w")
        drive_events(engine, len(told) + 1)
        engine.processor.close()
        identity.release()
        [moved] = [p for p in each.stock().positions.values() if p.events()]
        assert moved.outcomes == {
            "": [0, 0, 0, 3],
            "supplier-2": [3, 0, 0, 0],
            "supplier-3": [3, 0, 0, 0],
            "supplier-4": [3, 0, 0, 0],
            " others": [7, 0, 0, 0],
        }


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


def test_a_crash_after_the_commit_and_before_the_disk_loses_and_doubles_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = some_updates(400)
    deployment.publish(updates[:200])
    engine, identity = deployment.engine("w")
    drive_events(engine, 200)
    deployment.publish(updates[200:])

    def power_cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PartitionStore, "write", power_cut)
        with pytest.raises(KeyboardInterrupt):
            drive_events(engine, 200)
    crash(engine, deployment, "w", "again")
    engine, identity_again = deployment.engine("again")
    drive(engine, ready(engine, PARTITIONS), timeout_s=30)
    drive(engine, lambda: deployment.stock().events == len(updates))
    seen = deployment.stock()
    assert seen.on_hand() == expected_on_hand(updates)
    engine.processor.close()
    assert stores(deployment, "again") == {k: v for k, v in seen.raw.items() if k != keys.POSITION}
    identity.release()
    identity_again.release()


def test_an_aborted_transaction_is_invisible_and_its_events_are_folded_again(deployment: Deployment) -> None:
    updates = some_updates(300)
    deployment.publish(updates)
    engine, identity = deployment.engine("w")
    producer = fail_once(engine.processor, "commit_transaction")
    drive_events(engine, len(updates))
    assert producer.failed == 1
    engine.processor.close()
    identity.release()
    seen = deployment.stock()
    assert seen.on_hand() == expected_on_hand(updates)
    assert seen.events == len(updates)


def test_a_retriable_error_is_the_same_call_again_and_nothing_is_doubled(deployment: Deployment) -> None:
    updates = some_updates(300)
    deployment.publish(updates)
    engine, identity = deployment.engine("w")
    timed_out = KafkaError(KafkaError._TIMED_OUT, "staged", retriable=True)
    producer = fail_once(engine.processor, "send_offsets_to_transaction", timed_out)
    drive_events(engine, len(updates))
    assert producer.failed == 1
    engine.processor.close()
    identity.release()
    assert deployment.stock().on_hand() == expected_on_hand(updates)


def test_a_fatal_error_stops_with_the_reason_and_acknowledges_nothing(deployment: Deployment) -> None:
    deployment.publish(some_updates(50))
    engine, identity = deployment.engine("w")
    fail_once(engine.processor, "commit_transaction", KafkaError(KafkaError._FENCED, "staged", fatal=True))
    with pytest.raises(Fatal, match="commit_transaction failed for good"):
        drive_events(engine, 50)
    assert deployment.stock().events == 0
    identity.release()


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


def test_a_takeover_ends_the_transaction_that_a_killed_worker_left_open(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = some_updates(200)
    deployment.publish(updates)
    engine, identity = deployment.engine("w")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("streams.transaction.Transaction.commit", killed)
        with pytest.raises(KeyboardInterrupt):
            drive_events(engine, len(updates))
    crash(engine, deployment, "w", "again")
    engine, again = deployment.engine("again")
    drive(engine, lambda: deployment.stock().events == len(updates))
    engine.processor.close()
    identity.release()
    again.release()
    assert deployment.stock().on_hand() == expected_on_hand(updates)


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


def test_a_commit_below_what_the_store_has_read_stops_the_worker(deployment: Deployment) -> None:
    """Kafka lost the end of the rows while the worker ran, as an unclean election does."""
    deployment.publish(some_updates(100))
    engine, identity = deployment.engine("w")
    drive_events(engine, 100)
    before = stores_of(engine)
    for assigned in engine.processor._assigned.values():
        assigned.store.mark = msgspec.structs.replace(assigned.store.mark, next_offset=10_000)
    deployment.publish(some_updates(100, seed=2))
    with pytest.raises(Fatal, match=r"lost the end of .*; the worker has to start again"):
        drive_events(engine, 100)
    assert stores_of(engine) == before
    assert deployment.stock().events == 100
    engine.processor.close()
    identity.release()


def test_a_position_record_whose_offset_is_not_told_stops_the_worker(deployment: Deployment) -> None:
    deployment.publish(some_updates(50))
    engine, identity = deployment.engine("w")
    transaction = engine.processor._transaction
    real = transaction._producer.produce

    class Untold:
        def offset(self) -> None:
            return None

    def produce(*arguments: Any, on_delivery: Any = None, **named: Any) -> None:
        if on_delivery is not None:
            named["on_delivery"] = lambda error, _: on_delivery(error, Untold())
        real(*arguments, **named)

    transaction._producer = Replaced(transaction._producer, "produce", produce)
    with pytest.raises(Fatal, match=r"does not say at which offset .*; the worker has to start again"):
        drive_events(engine, 50)
    assert deployment.stock().events == 0
    engine.processor.close()
    identity.release()


def test_offsets_without_an_event_are_passed(deployment: Deployment) -> None:
    """A producer's transaction leaves a marker in the updates, which takes an offset and is no event."""
    transactional = Producer(
        {
            "bootstrap.servers": deployment.bootstrap_servers,
            "transactional.id": deployment.prefix + "import",
            "partitioner": "murmur2_random",
        }
    )
    transactional.init_transactions(10)
    updates = some_updates(60)
    for chunk in (updates[:20], updates[20:40], updates[40:]):
        transactional.begin_transaction()
        for one in chunk:
            transactional.produce(
                deployment.topics[UPDATES.name].name, deployment.codec.encode(dict(one)), one["sku"].encode()
            )
        transactional.commit_transaction(10)
    engine, identity = deployment.engine("w")
    drive_events(engine, len(updates))
    engine.processor.close()
    identity.release()
    assert deployment.stock().on_hand() == expected_on_hand(updates)


def test_a_row_larger_than_kafkas_usual_message_is_committed(deployment: Deployment) -> None:
    """Many stores that sell one article hundreds of times within the horizon: 2 MB, and Kafka's own limit is 1."""
    updates = [
        update(Event("DELTA", f"{i:0120d}", 1_700_000_000_000 + i, -1), supplier_id=f"store-{store}")
        for i in range(250)
        for store in range(64)
    ]
    deployment.publish(updates)
    engine, identity = deployment.engine("w")
    drive_events(engine, len(updates))
    engine.processor.close()
    identity.release()
    seen = deployment.stock()
    assert seen.rows["sku-1"].on_hand == -len(updates)
    assert len(seen.raw[b"sku-1"] or b"") > 2_000_000


def test_a_batch_that_is_aborted_again_and_again_stops_the_worker(deployment: Deployment) -> None:
    deployment.publish(some_updates(20))
    engine, identity = deployment.engine("w")
    transaction = engine.processor._transaction

    def refuse(*_: Any) -> None:
        raise KafkaException(ABORTABLE)

    transaction._producer = Replaced(transaction._producer, "commit_transaction", refuse)
    with pytest.raises(Fatal, match=r"aborted \d+ times in a row"):
        drive_events(engine, 20)
    assert deployment.stock().events == 0
    engine.processor.close()
    identity.release()


def test_no_meaning_depends_on_how_the_batches_fell(deployment: Deployment, tmp_path: Path) -> None:
    updates = some_updates(400)
    deployment.publish(updates)
    engine, identity = deployment.engine("w")
    drive_events(engine, len(updates))
    engine.processor.close()
    identity.release()
    other = Deployment(deployment.bootstrap_servers, tmp_path / "other")
    other.base = other.base.model_copy(update={"batch_events_max": 7})
    other.publish(updates)
    engine, identity = other.engine("w")
    drive_events(engine, len(updates))
    engine.processor.close()
    identity.release()
    assert sources_of(deployment.stock()) == sources_of(other.stock())


def test_metadata_without_a_member_or_a_generation_is_refused() -> None:
    def metadata(generation: int, member: bytes) -> bytes:
        return b"CGMDv2:" + generation.to_bytes(4, "little", signed=True) + b"group\0" + member + b"\0\0"

    assert _is_member(metadata(3, b"m"))
    assert not _is_member(metadata(-1, b"m"))
    assert not _is_member(metadata(3, b""))


def test_a_folder_serves_one_worker_at_a_time(deployment: Deployment) -> None:
    with Identity(deployment.folder / "w") as first, pytest.raises(Fatal, match="in use by another worker"):
        Identity(deployment.folder / "w")
    with Identity(deployment.folder / "w") as second:
        assert second.worker_id == first.worker_id


# -- staging


def recreate(deployment: Deployment, topic: Topic) -> None:
    """Delete a topic, and create a namesake."""
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers})
    [deleted] = admin.delete_topics([deployment.topics[topic.name].name]).values()
    deleted.result()
    before, deadline = deployment.topics[topic.name].generation, time.monotonic() + 20
    while deployment.topics[topic.name].generation == before:  # the broker hears of it a moment later
        assert time.monotonic() < deadline
        time.sleep(0.1)
        deployment.topics = ensure_topics(deployment.base, deployment.bootstrap_servers)


def stores_of(engine: Engine) -> dict[int, dict[bytes, bytes]]:
    """All rows of a running worker."""
    return {n: dict(assigned.store.rows()) for n, assigned in engine.processor._assigned.items()}


class Replaced:
    """The real producer, but for one call."""

    def __init__(self, real: Any, call: str, function: Callable[..., Any]) -> None:
        self._real, self._call, self._function = real, call, function

    def __getattr__(self, name: str) -> Any:
        return self._function if name == self._call else getattr(self._real, name)


class FailOnce(Replaced):
    """The real producer, but for one call that fails once, before it reaches Kafka."""

    def __init__(self, real: Any, call: str, error: KafkaError) -> None:
        super().__init__(real, call, self._fail_once)
        self._error = error
        self.failed = 0

    def _fail_once(self, *arguments: Any) -> Any:
        if not self.failed:
            self.failed += 1
            raise KafkaException(self._error)
        return getattr(self._real, self._call)(*arguments)


def fail_once(
    processor: Processor,
    call: str,
    error: KafkaError = ABORTABLE,
) -> FailOnce:
    transaction = processor._transaction
    transaction._producer = FailOnce(transaction._producer, call, error)
    return transaction._producer


def open_store(deployment: Deployment, name: str, partition: int) -> PartitionStore:
    generation = deployment.topics[STOCK.name].generation
    path = deployment.folder / name / "stock" / generation / str(partition)
    return PartitionStore(path, Resources(1 << 20, 1 << 20), generation)


def stores(deployment: Deployment, name: str) -> dict[bytes, bytes | None]:
    """All rows on the disk of a worker that has stopped."""
    found: dict[bytes, bytes | None] = {}
    for partition in range(PARTITIONS):
        store = open_store(deployment, name, partition)
        found |= dict(store.rows())
        store.close()
    return found


def crash(engine: Engine, deployment: Deployment, name: str, copy: str) -> None:
    """End a worker without a commit or a flush, and leave in `copy` what it has on disk, under the same identity.

    Its member leaves the group, or it would go on beating in this process; its transaction stays open.
    """
    engine.processor._consumer.close()
    shutil.copytree(deployment.folder / name, deployment.folder / copy, ignore=shutil.ignore_patterns("LOCK"))
