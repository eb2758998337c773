"""Which rows are looked through for alerts, when, and how often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from inventory.alerts import IN_STOCK, LOW, OUT_OF_STOCK, TIMED
from inventory.policies import Policies
from schemas import keys
from schemas.codec import Codec
from schemas.policies import Policy
from schemas.registry import FileRegistry
from schemas.rows import Count, Position, Source, StockRow, decode_row, encode_row
from state.database import Resources
from state.store import PartitionStore
from streams import passes
from streams.alerts import Alerts
from streams.passes import EVERY_S, PAUSE_S, Pass, Passes

NOW = 1_700_000_000_000
CODEC = Codec("StockAlert", FileRegistry())


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now_ms(self) -> int:
        return NOW + int(self.passed_s * 1_000)

    def monotonic_s(self) -> float:
        return self.passed_s


@dataclass
class Served:
    """A partition that is ready."""

    store: PartitionStore
    rows_pass: Pass = field(default_factory=Pass)

    @property
    def position(self) -> Position:
        return Position({}, {})


class Worker:
    """What looks through its partitions; policies and time are the test's to change."""

    def __init__(self, *stores: PartitionStore, rows_max: int = 500) -> None:
        self.clock = Hand()
        self.policies = Policies()
        self.alerts = Alerts(CODEC, lambda: self.policies, self.clock.now_ms)
        self.passes = Passes(self.alerts, self.clock)
        self.passes.rows_max = rows_max
        self.ready = dict(enumerate(map(Served, stores)))

    def decide(self, **fields: int) -> None:
        policy = Policy("default", 1, **fields)  # type: ignore[arg-type]
        self.policies = self.policies.changed(policy, revision=self.policies.revision + 1)

    def look(self, after_s: float = EVERY_S) -> dict[int, list[bytes]]:
        self.clock.passed_s += after_s
        return self.passes.found(self.ready)

    def looks(self, count: int, after_s: float = EVERY_S) -> list[bytes]:
        """All that some looks find, each dealt with at once."""
        every = []
        for _ in range(count):
            for number, found in self.look(after_s).items():
                every += found
                self.commit(number, found)
        return every

    def commit(self, number: int, found: list[bytes]) -> None:
        served = self.ready[number]
        looked = self.alerts.look(served.store, {}, found, served.position)
        served.store.write(looked.rows, 1)
        served.rows_pass.committed(found, timed=looked.timed)


def row(sku: str, units: int, alert: int = IN_STOCK, stale_after_ms: int | None = None) -> dict[bytes, bytes | None]:
    source = Source(Count(0, "c", NOW, units), stale_after_ms=stale_after_ms)
    return {sku.encode(): encode_row(StockRow(sku, 1, units, NOW, {"acme\x1fdefault": source}, {}, alert))}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PartitionStore]:
    opened = PartitionStore(tmp_path / "0", Resources(1 << 20, 1 << 20, row_cache_bytes=1 << 20), "g1")
    yield opened
    opened.close()


def counted(store: PartitionStore, *units: int) -> list[bytes]:
    for n, each in enumerate(units):
        store.write(row(f"sku-{n}", each), n + 1)
    return [f"sku-{n}".encode() for n in range(len(units))]


def test_where_every_row_is_in_its_state_nothing_is_found_and_nothing_written(store: PartitionStore) -> None:
    counted(store, 5, 6, 7)
    assert Worker(store).looks(50) == []


def test_a_row_that_was_never_looked_at_is_found_once(store: PartitionStore) -> None:
    store.write(row("sku-0", 5, alert=0), 1)
    worker = Worker(store)
    assert worker.looks(50) == [b"sku-0"]
    assert decode_row(store.get(b"sku-0") or b"").alert == IN_STOCK


def test_a_change_of_policies_leads_through_all_rows_some_at_a_time(store: PartitionStore) -> None:
    every = counted(store, 5, 6, 7, 8, 9, 10, 11)
    worker = Worker(store, rows_max=3)
    worker.looks(10)
    worker.decide(safety_units=20)
    assert [worker.looks(1) for _ in range(4)] == [every[:3], every[3:6], every[6:], []]
    worker.decide(low_stock_units=0, safety_units=8)
    assert worker.looks(50) == every[4:]
    assert decode_row(store.get(every[0]) or b"").alert == OUT_OF_STOCK


def test_what_was_found_is_found_again_until_that_is_committed(store: PartitionStore) -> None:
    every = counted(store, 5, 6, 7)
    worker = Worker(store, rows_max=2)
    worker.decide(low_stock_units=9)
    assert worker.look() == worker.look() == {0: every[:2]}
    worker.ready[0].rows_pass.committed([], timed=False)  # of a batch without them
    assert worker.look() == {0: every[:2]}
    worker.commit(0, every[:2])
    assert worker.look() == {0: every[2:]}
    assert decode_row(store.get(every[0]) or b"").alert == LOW


def test_rows_that_were_passed_before_a_change_are_looked_at_again_after_it(store: PartitionStore) -> None:
    every = counted(store, 5, 6, 7, 8)
    worker = Worker(store, rows_max=2)
    worker.look()
    worker.decide(safety_units=20)
    assert sorted(worker.looks(20)) == every


def test_a_row_is_looked_at_as_it_is_and_not_as_it_is_on_disk(store: PartitionStore) -> None:
    counted(store, 50, 5)
    worker = Worker(store, rows_max=1)
    worker.decide(low_stock_units=9)
    assert worker.look() == {}
    store.write(row("sku-1", 60), 9)  # this waits for the disk
    assert worker.looks(20) == []


def test_a_look_that_comes_too_soon_is_none(store: PartitionStore) -> None:
    counted(store, 5)
    worker = Worker(store)
    worker.decide(low_stock_units=9)
    worker.look()
    assert worker.look(EVERY_S / 2) == {}
    assert worker.look(EVERY_S) == {0: [b"sku-0"]}


def test_a_look_ends_before_it_has_too_many_bytes(store: PartitionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    every = counted(store, 5, 6, 7)
    monkeypatch.setattr(passes, "BYTES_MAX", 1)
    worker = Worker(store)
    worker.decide(safety_units=20)
    assert [worker.looks(1) for _ in every] == [[key] for key in every]


def test_where_time_alone_may_change_a_number_rows_are_looked_at_again_and_again(store: PartitionStore) -> None:
    counted(store, 5, 6)
    store.write(row("sku-0", 5, IN_STOCK | TIMED, stale_after_ms=20_000), 9)
    worker = Worker(store)
    assert worker.looks(150) == []
    assert worker.looks(150) == [b"sku-0"]
    assert decode_row(store.get(b"sku-0") or b"").alert == OUT_OF_STOCK | TIMED


def test_between_two_passes_that_time_asks_for_there_is_a_pause(
    store: PartitionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(store, 5)
    worker = Worker(store)
    worker.decide(stale_after_ms=10_000_000)
    began_s, some_rows = [], store.some_rows

    def noted(first: bytes, rows_max: int, bytes_max: int) -> list[tuple[bytes, bytes]]:
        if first == keys.ROW_FIRST:
            began_s.append(worker.clock.passed_s)
        return some_rows(first, rows_max, bytes_max)

    monkeypatch.setattr(store, "some_rows", noted)
    worker.looks(200)
    assert len(began_s) == 4
    assert min(after - before for before, after in pairwise(began_s)) >= PAUSE_S


def test_a_policy_by_which_sources_become_stale_is_such_a_case(store: PartitionStore) -> None:
    every = counted(store, 5, 6)
    worker = Worker(store)
    worker.decide(stale_after_ms=20_000)
    assert worker.looks(150) == []
    assert sorted(worker.looks(150)) == every


def test_a_source_that_gets_a_limit_of_its_own_is_heard_of_from_the_batch(store: PartitionStore) -> None:
    counted(store, 5)
    worker = Worker(store)
    worker.looks(20)
    store.write(row("sku-0", 5, IN_STOCK | TIMED, stale_after_ms=1_000), 9)
    assert worker.looks(20) == []
    worker.ready[0].rows_pass.committed([], timed=True)
    assert worker.looks(20, PAUSE_S) == [b"sku-0"]


def test_partitions_take_turns(tmp_path: Path) -> None:
    resources = Resources(1 << 20, 1 << 20)
    stores = [PartitionStore(tmp_path / str(n), resources, "g1") for n in range(3)]
    for each in stores:
        counted(each, 5, 6)
    worker = Worker(*stores, rows_max=1)
    worker.decide(safety_units=20)
    looked_at = [number for _ in range(9) for number in worker.look()]
    assert looked_at == [0, 1, 2, 0, 1, 2, 0, 1, 2]
    for each in stores:
        each.close()
