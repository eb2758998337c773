"""The processor against the real broker, driven as the pump drives it: what was folded, and where it lies."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from schemas import keys
from schemas.topics import UPDATES
from stockweave.errors import Fatal
from streams.identity import Identity
from streams.transaction import is_member
from tests.deployment import (
    WAIT_S,
    Deployment,
    drive,
    drive_events,
    expected_on_hand,
    ready,
    some_updates,
    sources_of,
    step,
)
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.inventory.reservations.builders import command
from tests.streams.staging import PARTITIONS, Replaced, stores


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


def test_a_folder_that_cannot_keep_the_workers_id_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "worker-id.new").symlink_to("/dev/full")
    with pytest.raises(Fatal, match=r"worker-id: No space left on device; free some space .* STOCKWEAVE_DATA_DIR"):
        Identity(tmp_path)
    (tmp_path / "worker-id.new").unlink()
    with Identity(tmp_path) as identity:
        assert identity.worker_id


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


def test_what_the_last_fetch_did_not_see_is_folded_before_a_worker_leaves(deployment: Deployment) -> None:
    updates = some_updates(100)
    engine, identity = deployment.engine("w")
    drive(engine, ready(engine, PARTITIONS))
    processor = engine.processor
    processor._consumer = Replaced(processor._consumer, "get_watermark_offsets", lambda *_, **__: (0, 0))
    assert processor.has_folded_all()
    deployment.publish(updates)
    assert not processor.has_folded_all()
    drive_events(engine, len(updates))
    assert processor.has_folded_all()
    processor.close()
    identity.release()


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

    assert is_member(metadata(3, b"m"))
    assert not is_member(metadata(-1, b"m"))
    assert not is_member(metadata(3, b""))


def test_a_folder_serves_one_worker_at_a_time(deployment: Deployment) -> None:
    with Identity(deployment.folder / "w") as first, pytest.raises(Fatal, match="in use by another worker"):
        Identity(deployment.folder / "w")
    with Identity(deployment.folder / "w") as second:
        assert second.worker_id == first.worker_id


def test_for_a_while_after_a_command_a_batch_has_no_more_updates_than_their_share(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes next waits for the batch that is under way."""
    monkeypatch.setattr("streams.processor.UPDATES_BESIDE_MAX", 5)
    updates = some_updates(60)
    engine, identity = deployment.engine("w")
    drive(engine, ready(engine, PARTITIONS))
    deployment.ask([dict(command())])
    drive(engine, lambda: bool(deployment.facts()))
    deployment.publish(updates)
    deadline = time.monotonic() + WAIT_S
    while sum(engine.processor.lag().values()) < len(updates):  # all of them are there to be fetched
        assert time.monotonic() < deadline
    sizes: list[int] = []
    while sum(sizes) < len(updates) // 2:
        sizes.append(step(engine))
    assert max(sizes) == 5
    monkeypatch.setattr("streams.processor.COMMANDS_RECENT_S", -1.0)  # a long time passes
    while sum(sizes) < len(updates):
        sizes.append(step(engine))
    assert max(sizes) > 5
    engine.processor.close()
    identity.release()
