"""How the holds of a partition are gone through, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.keys import hold_key
from schemas.reservations import COMMITTED, RELEASED, Hold
from schemas.rows import encode
from state.database import Resources
from state.store import PartitionStore
from streams import sweep
from streams.sweep import Sweep

KEPT_MS = 1_000
AGO_MS = 5_000  # a time long before
NOW_MS = 10_000


@pytest.fixture(params=[0, 1 << 20])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PartitionStore]:
    """With and without rows that wait in memory."""
    opened = PartitionStore(tmp_path / "0", Resources(1 << 20, 1 << 20, request.param), "g")
    yield opened
    opened.close()


def put(store: PartitionStore, *holds: Hold) -> None:
    changed = {hold_key(hold.sku, hold.reservation_id): encode(hold) for hold in holds}
    store.write({**changed, b"sku-1": b"a row"}, 1)


def over(n: int, ended_at: int = AGO_MS) -> Hold:
    return Hold("sku-1", f"r{n:03}", RELEASED, "o-1", ended_at=ended_at)


def names(found: list[bytes]) -> list[str]:
    return [key.decode()[-4:] for key in found]


def look(one: Sweep, store: PartitionStore, now_ms: int = NOW_MS) -> list[str]:
    """A step, what it found, and that it is dealt with."""
    one.step(store, now_ms, KEPT_MS)
    found = names(one.found)
    one.settled()
    return found


def test_a_round_comes_by_every_hold_once_a_few_at_a_time(
    store: PartitionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "HOLDS_MAX", 2)
    put(store, *(over(n, AGO_MS if n % 2 else NOW_MS) for n in range(5)), Hold("sku-1", "r005", COMMITTED))
    one = Sweep()
    found = []
    while one.is_due(NOW_MS):
        found.append(look(one, store))
    assert found == [["r001"], ["r003"], [], []]


def test_what_was_found_is_settled_before_anything_else_is_looked_for(store: PartitionStore) -> None:
    put(store, over(1), over(2))
    one = Sweep()
    one.step(store, NOW_MS, KEPT_MS)
    assert not one.is_due(NOW_MS + KEPT_MS)
    past = one.past(store, NOW_MS, KEPT_MS)
    assert past is not None
    assert [hold.reservation_id for hold in past.holds] == ["r001", "r002"]
    one.settled()
    assert one.is_due(NOW_MS + KEPT_MS)


def test_what_is_otherwise_by_now_than_it_was_found_is_not_forgotten(store: PartitionStore) -> None:
    put(store, over(1), over(2))
    one = Sweep()
    one.step(store, NOW_MS, KEPT_MS)
    put(store, Hold("sku-1", "r001", COMMITTED))
    store.write({hold_key("sku-1", "r002"): None}, 2)
    assert one.past(store, NOW_MS, KEPT_MS) is None
    assert one.found == []


def test_a_round_rests_until_the_first_of_those_that_stayed_is_past(store: PartitionStore) -> None:
    put(store, over(1, NOW_MS - 400), over(2, NOW_MS - 700), Hold("sku-1", "r003", COMMITTED))
    one = Sweep()
    assert look(one, store) == []
    first_ms = NOW_MS - 700 + KEPT_MS
    assert not one.is_due(first_ms - 1)
    assert one.is_due(first_ms)
    assert look(one, store, first_ms) == ["r002"]


def test_a_round_rests_for_a_hundredth_of_the_time_at_least(store: PartitionStore) -> None:
    put(store, over(1, NOW_MS - KEPT_MS + 1))
    one = Sweep()
    assert look(one, store) == []
    assert not one.is_due(NOW_MS + KEPT_MS // sweep.ROUNDS - 1)
    assert one.is_due(NOW_MS + KEPT_MS // sweep.ROUNDS)


def test_what_ends_while_a_round_goes_on_is_come_by_in_the_next_one(
    store: PartitionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "HOLDS_MAX", 2)
    put(store, *(Hold("sku-1", f"r{n:03}", COMMITTED) for n in range(3)))
    one = Sweep()
    assert look(one, store) == []
    put(store, over(0, NOW_MS + 1))
    assert look(one, store, NOW_MS + 50) == []
    assert one.is_due(NOW_MS + KEPT_MS)
    assert look(one, store, NOW_MS + 1 + KEPT_MS) == ["r000"]
