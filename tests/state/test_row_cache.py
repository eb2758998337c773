"""Laws of the row cache: it always tells what the store would, and it is bounded."""

from __future__ import annotations

from collections.abc import Sequence

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


keys = st.lists(st.sampled_from([bytes([n]) for n in range(20)]), min_size=1, unique=True)
steps = st.lists(st.tuples(keys, st.booleans()), max_size=30)


@given(steps, st.sampled_from([0, 2 * ENTRY_BYTES, 6 * ENTRY_BYTES, 1 << 20]))
@settings(max_examples=300, deadline=None)
def test_it_tells_what_the_store_holds(taken: list[tuple[list[bytes], bool]], bytes_max: int) -> None:
    disk, cache = Disk(), RowCache(bytes_max)
    for n, (asked, writes) in enumerate(taken):
        assert cache.get_many(asked, disk.load) == [disk.rows.get(key) for key in asked]
        if writes:
            changed: dict[bytes, bytes | None] = dict.fromkeys(asked[::2], None if n % 5 == 0 else b"%d" % n)
            disk.rows |= changed
            cache.write(changed, row_bytes(changed.values()))


def test_what_is_asked_again_is_not_read_again() -> None:
    disk, cache = Disk(), RowCache(1 << 20)
    for _ in range(2):
        cache.get_many([b"a", b"b"], disk.load)
    assert disk.asked == [b"a", b"b"]
    cache.write({b"c": b"1"}, 1)
    cache.clear()
    assert cache.get_many([b"a"], disk.load) == [None]
    assert disk.asked == [b"a", b"b", b"a"]


def test_it_lets_go_of_what_was_not_asked_for_lately() -> None:
    disk, cache = Disk(), RowCache(20 * ENTRY_BYTES)
    for n in range(100):
        cache.get_many([b"hot", b"%d" % n], disk.load)
    assert disk.asked.count(b"hot") == 1
    disk.asked.clear()
    cache.get_many([b"%d" % n for n in range(100)], disk.load)
    assert 70 < len(disk.asked) < 95


def test_nothing_is_kept_where_no_memory_is_given() -> None:
    disk, cache = Disk(), RowCache(0)
    for _ in range(2):
        cache.get_many([b"a"], disk.load)
    assert disk.asked == [b"a", b"a"]


def held_bytes(cache: RowCache) -> int:
    return sum(ENTRY_BYTES + len(value or b"") for rows in (cache._young, cache._old) for value in rows.values())


@given(st.lists(st.tuples(keys, keys, st.integers(0, 40)), min_size=1, max_size=40))
@settings(max_examples=300, deadline=None)
def test_rows_that_grow_or_shrink_or_come_unasked_count_for_what_they_are_at_least(
    taken: list[tuple[list[bytes], list[bytes], int]],
) -> None:
    disk, cache = Disk(), RowCache(12 * ENTRY_BYTES)
    latest = 20 * (ENTRY_BYTES + 40 * 100)  # rows of one call, at most: they are kept whatever the bound is
    for asked, written, size in taken:
        cache.get_many(asked, disk.load)
        changed: dict[bytes, bytes | None] = dict.fromkeys(written, bytes(100 * size) if size else None)
        disk.rows |= changed
        cache.write(changed, row_bytes(changed.values()))
        young = sum(ENTRY_BYTES + len(value or b"") for value in cache._young.values())
        assert cache._young_bytes >= young
        assert held_bytes(cache) <= 12 * ENTRY_BYTES + 2 * 2 * latest


def test_rows_that_grew_are_let_go_of_when_others_are_asked_for() -> None:
    disk, cache = Disk(), RowCache(1 << 20)
    for batch in range(20):
        names = [b"%d-%d" % (batch, n) for n in range(10)]
        cache.get_many(names, disk.load)
        cache.write(dict.fromkeys(names, bytes(100_000)), 100_000 * len(names))
    assert held_bytes(cache) <= 2 * 10 * (ENTRY_BYTES + 100_000)  # two batches; all of them are 20 MB


def test_writes_alone_do_not_fill_it() -> None:
    cache = RowCache(1 << 20)
    cache.get_many([b"asked"], Disk().load)
    for n in range(100):
        cache.write({b"%d" % n: bytes(100_000)}, 100_000)
    assert held_bytes(cache) < 3 << 20
