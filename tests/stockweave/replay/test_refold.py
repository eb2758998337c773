"""Folding again: the same rows as the workers', however the log is cut and wherever the rows wait."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from inventory.digest import digest
from inventory.stock import Limits, StockUpdate
from schemas import keys
from schemas.rows import Position, decode_position, decode_row
from schemas.topics import UPDATES
from state.database import Resources
from state.store import PartitionStore
from stockweave.replay import skim as skimming
from stockweave.replay.ends import log_ends
from stockweave.replay.facts import Facts
from stockweave.replay.refold import WaitingRows, no_cycle_search, refold
from stockweave.replay.skim import skim
from streams.batch import Folder
from tests.deployment import Deployment, expected_on_hand, some_updates
from tests.stockweave.replay.rebuild.writer import Writer, folder

PARTITION = 1


class Scratch:
    """Scratch stores of one partition, and its log."""

    def __init__(self, deployment: Deployment, path: Path) -> None:
        self.deployment = deployment
        self.topic = deployment.topics[UPDATES.name].name
        self.path = path
        self.resources = Resources(1 << 20, 1 << 20)
        self.opened: list[PartitionStore] = []

    def store(self) -> PartitionStore:
        self.opened.append(PartitionStore(self.path / str(len(self.opened)), self.resources, "scratch"))
        return self.opened[-1]

    def end(self) -> int:
        return log_ends(self.deployment.bootstrap_servers, self.topic, [PARTITION])[PARTITION][1]

    def facts(self, start: int, end: int) -> Facts:
        return Facts(self.deployment.bootstrap_servers, self.topic, PARTITION, start, end)


@pytest.fixture
def scratch(deployment: Deployment, tmp_path: Path) -> Iterator[Scratch]:
    made = Scratch(deployment, tmp_path / "scratch")
    yield made
    for store in made.opened:
        store.close()


def meanings(store: PartitionStore) -> dict[bytes, bytes]:
    return {key: digest(row) for key, row in store.rows()}


def test_the_rows_are_the_workers_and_the_position_too(deployment: Deployment, scratch: Scratch) -> None:
    updates = some_updates(2_000)
    deployment.publish(updates)
    writer = Writer(deployment)
    writer.fold(events_max=7)
    store = scratch.store()
    position = refold(scratch.facts(0, scratch.end()), folder(), store)
    assert meanings(store) == {key: digest(row) for key, row in writer.stores[PARTITION].rows.items()}
    assert position == store.position
    assert (position.offsets, position.outcomes) == (
        writer.positions[PARTITION].offsets,
        writer.positions[PARTITION].outcomes,
    )
    expected = expected_on_hand(updates)
    assert {row.sku: row.on_hand for row in map(decode_row, dict(store.rows()).values())} == {
        sku: on_hand for sku, on_hand in expected.items() if sku.encode() in writer.stores[PARTITION].rows
    }


def test_batches_and_memory_change_nothing(
    deployment: Deployment, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.publish(some_updates(3_000, skus=200))
    roomy, cramped = scratch.store(), scratch.store()
    refold(scratch.facts(0, scratch.end()), folder(), roomy)
    flushed_at: list[Position] = []
    flush = WaitingRows.flush

    def counted(waiting: WaitingRows, position: Position) -> None:
        flushed_at.append(position)
        flush(waiting, position)

    monkeypatch.setattr(WaitingRows, "flush", counted)
    monkeypatch.setattr("stockweave.replay.refold.WAITING_BYTES_MAX", 60_000)
    monkeypatch.setattr("stockweave.replay.refold.EVENTS_MAX", 50)
    refold(scratch.facts(0, scratch.end()), folder(), cramped)
    assert 3 < len(flushed_at) < 20  # and 30 batches: some find their rows in memory, some below
    assert meanings(cramped) == meanings(roomy)
    assert cramped.position is not None
    assert roomy.position is not None
    assert cramped.position.outcomes == roomy.position.outcomes


def test_going_on_from_a_seed_ends_as_from_the_beginning(deployment: Deployment, scratch: Scratch) -> None:
    deployment.publish(some_updates(1_000))
    whole, parted = scratch.store(), scratch.store()
    end = scratch.end()
    result = refold(scratch.facts(0, end), folder(), whole)
    told: list[int] = []
    half = refold(scratch.facts(0, end // 2), folder(), parted, on_events=told.append)
    assert (half.offsets[UPDATES.name], sum(told)) == (end // 2, end // 2)
    assert refold(scratch.facts(end // 2, end), folder(), parted, half).outcomes == result.outcomes
    assert meanings(parted) == meanings(whole)


def test_waiting_rows_are_read_first_and_those_below_too(scratch: Scratch) -> None:
    store = scratch.store()
    store.write({b"a": b"1", b"b": b"1"}, 0)
    waiting = WaitingRows(store, 1 << 20)
    waiting.put({b"b": b"2", b"c": b"2"}, Position({}, {}))
    assert waiting.get_many([b"a", b"b", b"c", b"d"]) == [b"1", b"2", b"2", None]
    assert store.get_many([b"b", b"c"]) == [b"1", None]
    waiting.flush(Position({UPDATES.name: 9}, {}))
    assert store.get_many([b"b", b"c"]) == [b"2", b"2"]
    assert decode_position(store.get(keys.POSITION) or b"").offsets == {UPDATES.name: 9}
    assert waiting.get_many([b"a", b"b", b"c", b"d"]) == [b"1", b"2", b"2", None]


def test_the_search_for_cycles_comes_back() -> None:
    def fail() -> None:
        with no_cycle_search():
            assert not gc.isenabled()
            raise ValueError("staged")

    with pytest.raises(ValueError, match="staged"):
        fail()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(("chunk", "stretch"), [(50_000, 750_000), (64, 300), (1, 1)])
def test_a_skim_ends_with_the_rows_of_a_whole_fold(
    deployment: Deployment, scratch: Scratch, monkeypatch: pytest.MonkeyPatch, chunk: int, stretch: int
) -> None:
    """Among updates that cannot be decoded, late ones, and counts that are rejected."""
    monkeypatch.setattr(skimming, "CHUNK_EVENTS_MAX", chunk)
    monkeypatch.setattr(skimming, "STRETCH_EVENTS_MAX", stretch)
    updates = some_updates(1_200)
    for i, one in enumerate(updates):
        late = cast("StockUpdate", {**one, "observed_at": one["observed_at"] - 700_000}) if i % 7 == 0 else one
        deployment.publish([late])
        if i % 300 == 100:
            deployment.publish_raw(one["sku"].encode(), b"\0junk", flush=False)
            deployment.publish_raw(b"sku-0", deployment.codec.encode(cast("dict[str, object]", one)), flush=False)
    assert deployment.producer.flush(10) == 0
    limits = Limits(horizon_ms=60_000, entries_max=5)
    whole, skimmed = scratch.store(), scratch.store()
    end = scratch.end()
    folded = refold(scratch.facts(0, end), Folder(deployment.codec, limits), whole)
    position = skim(scratch.facts(0, end), deployment.codec, limits, skimmed)
    assert meanings(skimmed) == meanings(whole)
    assert position.offsets == folded.offsets
    assert sum(tally[3] for tally in folded.outcomes.values()) > 0  # some were rejected
