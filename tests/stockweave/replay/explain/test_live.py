"""The present number beside the live row: of one moment, of the live generation, and without a trace in Kafka."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from schemas.generation_log import write
from schemas.generations import Generation, Generations
from schemas.keys import partition_of
from schemas.rows import decode_row, encode_row
from schemas.topics import STOCK, UPDATES
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.errors import Fatal, Rejected
from stockweave.replay.explain import explain as module
from stockweave.replay.explain.explain import Beside, Explainer
from stockweave.settings import Settings
from tests.deployment import Deployment, some_updates
from tests.generations import copy_rows
from tests.stockweave.replay.rebuild.writer import Writer

SKUS = ["sku-1", "sku-2", "sku-3"]


def besides(deployment: Deployment, skus: Sequence[str] = SKUS) -> dict[str, Beside | None]:
    """What is said of the live row of each SKU."""
    with Explainer(deployment.base) as explainer:
        return {sku: explainer.explain(sku).beside for sku in skus}


def told(beside: Beside | None) -> tuple[bool | None, int]:
    assert beside is not None
    return beside.same, beside.behind


def test_the_live_row_is_held_against_the_updates_that_it_stands_for(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = some_updates(400, skus=6)
    deployment.publish(updates[:300])
    assert besides(deployment, SKUS[:1]) == {SKUS[0]: None}
    writer = Writer(deployment)
    writer.fold(20)
    assert {told(beside) for beside in besides(deployment, SKUS[:1]).values()} == {(True, 0)}
    deployment.publish(updates[300:])
    late = {sku: sum(u["sku"] == sku for u in updates[300:]) for sku in SKUS}
    monkeypatch.setattr(module, "LIVE_STRETCH_EVENTS", 4)  # so that row and position are found in several stretches
    assert {sku: told(beside) for sku, beside in besides(deployment).items()} == {s: (True, n) for s, n in late.items()}
    number = partition_of(b"sku-3", 2)
    row = decode_row(writer.stores[number].rows[b"sku-3"])
    right = row.on_hand
    for more in (7, -6):  # by something that writes no positions; the later one is the live row
        row.on_hand += more
        writer.write(number, {b"sku-3": encode_row(row)})
        writer.write(number, {b"other": encode_row(row)})
    found = besides(deployment)
    assert [sku for sku, beside in found.items() if not told(beside)[0]] == ["sku-3"]
    wrong = found["sku-3"]
    assert wrong is not None
    assert wrong.replayed is not None
    assert (wrong.replayed.on_hand, wrong.behind) == (right, late["sku-3"])
    assert wrong.live.row == encode_row(row)
    monkeypatch.undo()
    moved(deployment, writer)


def moved(deployment: Deployment, writer: Writer) -> None:
    """And in the generation that is live now, where that row is right again."""
    rows = {p: store.rows for p, store in writer.stores.items()}

    def mended(key: bytes, value: bytes) -> bytes:
        row = decode_row(value)
        row.on_hand -= key == b"sku-3"
        return encode_row(row)

    assert any(b"sku-3" in held for held in rows.values())
    stock = deployment.topics[STOCK.name]
    made = copy_rows(deployment.base, deployment.bootstrap_servers, stock, 1, mended)
    now = Generations(Generation(1, made.name), previous=Generation(0, stock.name))
    write(deployment.base, deployment.bootstrap_servers, now)
    found = besides(deployment)
    assert {told(beside)[0] for beside in found.values()} == {True}
    assert {beside.live.topic for beside in found.values() if beside} == {made.name}


def test_row_and_position_are_of_one_moment_while_a_worker_writes(deployment: Deployment) -> None:
    deployment.publish(some_updates(1_800, skus=2))
    writer = Writer(deployment)
    folding = threading.Thread(target=writer.fold, args=(4,))
    folding.start()
    offsets, same = set(), set()
    try:
        with Explainer(deployment.base) as explainer:
            while folding.is_alive():
                beside = explainer.explain("sku-1").beside
                if beside is not None:
                    offsets.add(beside.live.offset)
                    same.add(beside.same)
    finally:
        folding.join()
    assert len(offsets) > 3
    assert same == {True}


def test_no_topic_is_made_where_there_is_none(broker: EmbeddedKafka, tmp_path: Path) -> None:
    prefix = f"t{uuid.uuid4().hex[:8]}."
    settings = Settings(bootstrap_servers=broker.bootstrap_servers, topic_prefix=prefix, data_dir=tmp_path)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})

    def topics() -> list[str]:
        return [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]

    with pytest.raises(Fatal, match=r"there is no topic .*inventory\.updates at .*STOCKWEAVE_TOPIC_PREFIX"):
        Explainer(settings)
    assert topics() == []
    updates = settings.topic(UPDATES.name)
    admin.create_topics([NewTopic(updates, 1, 1)])[updates].result()
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    producer.produce(updates, b"?", b"sku-1")
    assert producer.flush(10) == 0
    with Explainer(settings) as explainer:
        found = explainer.explain("sku-1")
        assert (found.row, found.beside, found.history.outcomes) == (None, None, [0, 0, 0, 1])
        for unknown, why in (
            ("sku-2", "check the spelling"),
            (" x", "begins or ends with a space"),
            ("\udcff", "UTF-8"),
        ):
            with pytest.raises(Rejected, match=why):
                explainer.explain(unknown)
    assert topics() == [updates]
