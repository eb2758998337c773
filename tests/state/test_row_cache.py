"""Laws of the row cache: it always tells what the store would, and it is bounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from state.row_cache import ENTRY_BYTES, RowCache, row_bytes


class Disk:
    def __init__(self) -> None:
        self.rows: dict[bytes, bytes | None] = {}
        self.asked: list[bytes] = []

    def load(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.asked += keys
        return [self.rows.get(key) for key in keys]

    def take(self, cache: RowCache) -> None:
        """What waits, as a store does."""
        self.rows |= cache.waiting
        cache.given()


def bytes_of(rows: Mapping[bytes, bytes | None]) -> int:
    return sum(ENTRY_BYTES + len(row or b"") for row in rows.values())


def held_bytes(cache: RowCache) -> int:
    return bytes_of(cache.waiting) + bytes_of(cache._clean)


keys = st.lists(st.sampled_from([bytes([n]) for n in range(20)]), min_size=1, unique=True)
steps = st.lists(st.tuples(keys, keys, st.integers(0, 40), st.booleans()), max_size=30)
bounds = st.sampled_from([2 * ENTRY_BYTES, 6 * ENTRY_BYTES, 12 * ENTRY_BYTES, 1 << 20])


@given(steps, bounds)
@settings(max_examples=500, deadline=None)
def test_it_tells_what_was_written_last_and_the_store_ends_with_it(
    taken: list[tuple[list[bytes], list[bytes], int, bool]], bytes_max: int
) -> None:
    disk, cache, truth = Disk(), RowCache(bytes_max), dict[bytes, bytes | None]()
    for asked, written, size, taking in taken:
        assert cache.get_many(asked, disk.load) == [truth.get(key) for key in asked]
        changed: dict[bytes, bytes | None] = dict.fromkeys(written, bytes(100 * size) if size else None)
        truth |= changed
        cache.write(changed, row_bytes(changed.values()))
        if taking or cache.is_full():
            disk.take(cache)
        assert cache.get(asked[0], disk.rows.get) == truth.get(asked[0])
    disk.take(cache)
    assert {k: v for k, v in disk.rows.items() if v is not None} == {k: v for k, v in truth.items() if v is not None}


@given(steps, bounds)
@settings(max_examples=500, deadline=None)
def test_it_counts_what_it_holds_at_least_and_is_bounded(
    taken: list[tuple[list[bytes], list[bytes], int, bool]], bytes_max: int
) -> None:
    disk, cache = Disk(), RowCache(bytes_max)
    latest = 2 * 20 * (ENTRY_BYTES + 40 * 100)  # rows of one call and of one write, at most
    for asked, written, size, taking in taken:
        cache.get_many(asked, disk.load)
        changed: dict[bytes, bytes | None] = dict.fromkeys(written, bytes(100 * size) if size else None)
        cache.write(changed, row_bytes(changed.values()))
        assert held_bytes(cache) <= bytes_max + latest
        assert bytes_of(cache.waiting) <= cache._waiting_bytes
        assert bytes_of(cache._clean) == cache._clean_bytes
        if taking or cache.is_full():
            before = {**{k: v for k, v in cache._clean.items() if k not in cache.waiting}, **cache.waiting}
            disk.take(cache)
            assert cache._waiting_bytes == 0
            assert held_bytes(cache) <= bytes_max // 2
            gone = {key: before[key] for key in before if key not in cache._clean}
            assert list(before)[: len(gone)] == list(gone), "the first are let go of"
            if gone:  # and none without need
                last = list(gone)[-1]
                assert held_bytes(cache) + bytes_of({last: gone[last]}) > bytes_max // 2


def test_what_is_asked_again_is_not_read_again() -> None:
    disk, cache = Disk(), RowCache(1 << 20)
    disk.rows = {b"a": b"1", b"b": b"2"}
    for _ in range(2):
        cache.get_many([b"a", b"b"], disk.load)
        disk.take(cache)
        cache.get_many([b"b", b"a"], disk.load)
    assert disk.asked == [b"a", b"b"]
    cache.clear()
    assert (held_bytes(cache), cache._waiting_bytes, cache._clean_bytes) == (0, 0, 0)
    assert cache.get_many([b"a"], disk.load) == [b"1"]
    assert disk.asked == [b"a", b"b", b"a"]


def test_what_is_not_there_is_not_removed() -> None:
    disk, cache = Disk(), RowCache(1 << 20)
    assert cache.get_many([b"a"], disk.load) == [None]
    assert cache.waiting == {}
    cache.write({b"a": b"1"}, 1)
    cache.write({b"a": None}, 0)
    assert cache.get_many([b"a"], disk.load) == [None]
    assert cache.waiting == {b"a": None}
    assert disk.asked == [b"a"]


def test_it_lets_go_of_what_was_not_asked_for_lately() -> None:
    disk, cache = Disk(), RowCache(20 * ENTRY_BYTES)
    disk.rows |= dict.fromkeys((b"%d" % n for n in range(100)), b"1") | {b"hot": b"1"}
    for n in range(100):
        cache.get_many([b"hot", b"%d" % n], disk.load)
        disk.take(cache)
    assert disk.asked.count(b"hot") == 1
    disk.asked.clear()
    cache.get_many([b"%d" % n for n in range(100)], disk.load)
    assert disk.asked == [b"%d" % n for n in range(92)]  # nine fit into half of the memory, and one of them is hot


def test_it_is_full_past_half_of_the_memory_or_three_eighths_if_some_was_counted_twice() -> None:
    row = 1_000 - ENTRY_BYTES
    for excess in (0, 1):
        cache = RowCache(8_000)
        for n in range(4):
            size = row + (excess if n == 3 else 0)
            cache.write({b"%d" % n: bytes(size)}, size)
        assert cache.is_full() == bool(excess)
        twice = RowCache(8_000)
        for n in (0, 1, 1, 2, 2):
            size = row + (excess if n == 2 else 0)
            twice.write({b"%d" % n: bytes(size)}, size)
        assert twice.is_full() == bool(excess)
        assert twice._waiting_bytes == bytes_of(twice.waiting)


def test_a_row_that_is_written_again_and_again_does_not_fill_it() -> None:
    cache = RowCache(1 << 20)
    for _ in range(100):
        cache.write({b"a": bytes(100_000)}, 100_000)
        assert not cache.is_full()
    for n in range(4):
        assert not cache.is_full()
        cache.write({b"%d" % n: bytes(100_000)}, 100_000)
    cache.write({b"5": bytes(100_000)}, 100_000)
    assert cache.is_full()


def test_nothing_is_kept_where_no_memory_is_given() -> None:
    disk, cache = Disk(), RowCache(0)
    for _ in range(2):
        cache.get_many([b"a"], disk.load)
    assert disk.asked == [b"a", b"a"]
