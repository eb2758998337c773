from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from schemas import keys
from state.database import Resources
from state.store import Mark, PartitionStore
from tests.state.stored import position


def test_rows_and_position_are_back_after_a_close(tmp_path: Path, resources: Resources) -> None:
    path = tmp_path / "stock" / "g1" / "0"
    store = PartitionStore(path, resources, "g1")
    store.write({b"a": b"1", b"b": b"2", keys.POSITION: position(7)}, next_offset=5, anchor=4)
    store.close()
    again = PartitionStore(path, resources, "g1")
    assert again.path == path
    assert again.get_many([b"b", b"nothing", b"a"]) == [b"2", None, b"1"]
    assert (again.mark.next_offset, again.mark.anchor) == (5, 4)
    assert again.position is not None
    assert again.position.offsets == {"inventory.updates": 7}
    assert again.position_bytes == position(7)
    again.close()


def test_a_tombstone_removes_its_row(tmp_path: Path, resources: Resources) -> None:
    store = PartitionStore(tmp_path / "0", resources, "g1")
    store.write({b"a": b"1", b"b": b"2"}, 2)
    store.write({b"a": None}, 3)
    assert list(store.rows()) == [(b"b", b"2")]
    store.close()


def test_rows_come_in_key_order_and_reserved_keys_never(tmp_path: Path, resources: Resources) -> None:
    store = PartitionStore(tmp_path / "0", resources, "g1")
    hold = keys.hold_key("b", "r1")
    store.write({b"c": b"3", "é".encode(): b"4", b"a": b"1", hold: b"h", keys.POSITION: position(1)}, 5, 4)
    assert [key for key, _ in store.rows()] == [b"a", b"c", "é".encode()]
    assert [key for key, _ in store.rows(b"b")] == [b"c", "é".encode()]
    assert [key for key, _ in store.rows(b"")] == [b"a", b"c", "é".encode()]
    assert list(store.records()) == [(hold, b"h"), *store.rows()]
    assert store.get(hold) == b"h"
    store.close()


def test_some_rows_come_in_key_order_as_they_stand_now_and_no_more_than_is_asked_for(tmp_path: Path) -> None:
    store = PartitionStore(tmp_path / "0", Resources(1 << 20, 1 << 20, row_cache_bytes=1 << 20), "g1")
    store.write({b"a": b"1", b"b": b"2", b"c": b"3", b"d": b"4", keys.POSITION: position(1)}, 5, 4)
    assert store.some_rows(b"", 9, 99) == []
    store.write_back()
    store.write({b"b": b"22", b"c": None, b"e": b"5"}, 6)
    assert store.some_rows(b"", 9, 99) == [(b"a", b"1"), (b"b", b"22"), (b"d", b"4")]
    assert store.some_rows(b"a\0", 1, 99) == [(b"b", b"22")]
    assert store.some_rows(b"a", 9, 2) == [(b"a", b"1"), (b"b", b"22")]
    store.write_back()
    assert [key for key, _ in store.some_rows(b"d", 9, 99)] == [b"d", b"e"]
    store.close()


def test_reserved_keys_of_one_prefix_come_in_order_and_no_others(tmp_path: Path, resources: Resources) -> None:
    store = PartitionStore(tmp_path / "0", resources, "g1")
    mine = [keys.order_key("o1", sku, "r") for sku in ("a", "b")]
    others = [keys.order_key("o", "a", "r"), keys.order_key("o10", "a", "r"), keys.hold_key("a", "r"), b"row"]
    store.write(dict.fromkeys([*mine, *others], b"x"), 1)
    assert [key for key, _ in store.beginning_with(keys.order_prefix("o1"))] == mine
    assert list(store.beginning_with(keys.order_prefix("o2"))) == []
    store.close()


def test_orders_keys_are_found_in_the_cache_and_below_it_and_what_waits_stays_there(tmp_path: Path) -> None:
    store = PartitionStore(tmp_path / "0", Resources(1 << 20, 1 << 20, 1 << 20), "g1")
    written, waits, removed, other = (keys.order_key("o1", "a", f"r{n}") for n in (2, 1, 3, 4))
    others = [keys.order_key("o1", "b", "r"), keys.order_key("o10", "a", "r"), keys.hold_key("a", "r"), b"row"]
    store.write(dict.fromkeys([written, removed, *others], b"x"), 1)
    assert len(list(store.holds())) == 1, "and so all is in the database"
    store.write({waits: b"x", other: b"x", removed: None}, 2)
    store.write({other: None}, 3)
    of_line, of_none = store.order_keys([keys.line_prefix("o1", "a"), keys.line_prefix("o2", "a")])
    assert (of_line, of_none) == ([waits, written], [])
    assert store._row_cache.waiting.keys() == {waits, other, removed}
    store.close()


def test_how_many_rows_there_are_is_known_about(tmp_path: Path, resources: Resources) -> None:
    store = PartitionStore(tmp_path / "0", resources, "g1")
    assert store.rows_estimate() == 0
    store.write({b"%d" % n: b"1" for n in range(1_000)}, 1)
    assert len(list(store.rows())) == 1_000
    assert 1_000 <= store.rows_estimate() <= 1_002  # the mark and the position are none
    store.close()


def test_what_was_written_is_told_at_once_wherever_it_is(tmp_path: Path, resources: Resources) -> None:
    rng = random.Random(1)
    store = PartitionStore(tmp_path / "0", resources, "g1")
    told: dict[bytes, bytes] = {}
    for offset in range(1, 400):
        names = [b"%03d" % rng.randrange(300) for _ in range(20)]
        assert store.get_many(names) == [told.get(name) for name in names]
        changed = {name: None if rng.random() < 0.2 else rng.randbytes(300) for name in names}
        store.write({**changed, keys.POSITION: position(offset)}, offset)
        told = {name: row for name, row in (told | changed).items() if row is not None}
        name = b"%03d" % rng.randrange(300)
        assert store.get(name) == told.get(name)
        if offset % 100 == 0:
            assert list(store.rows()) == sorted(told.items())
            assert store.mark.next_offset == offset
    store.close()
    again = PartitionStore(tmp_path / "0", resources, "g1")
    assert list(again.rows()) == sorted(told.items())
    again.close()


def counting_puts(store: PartitionStore) -> list[int]:
    """How many entries each write to RocksDB has from now on."""
    put = store._put
    batches: list[int] = []

    def counted(changed: Mapping[bytes, bytes | None], mark: Mark) -> None:
        batches.append(len(changed))
        put(changed, mark)

    store._put = counted  # type: ignore[method-assign]
    return batches


def test_a_row_that_changes_again_and_again_is_written_to_the_disk_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("state.store.UNSETTLED_BYTES_MAX", 3_000_000)
    store = PartitionStore(tmp_path / "0", Resources(4 << 20, 8 << 20, row_cache_bytes=4 << 20), "g1")
    batches = counting_puts(store)
    for offset in range(1, 4_001):
        store.write({b"%d" % (offset % 10): bytes(1_000)}, offset)
    assert batches == [10]  # once there would be more than 3 MB to read again
    store.close()


def test_rows_wait_in_half_of_the_memory_that_a_store_has_for_them(tmp_path: Path) -> None:
    store = PartitionStore(tmp_path / "0", Resources(4 << 20, 8 << 20, row_cache_bytes=4 << 20), "g1")
    batches = counting_puts(store)
    for offset in range(1, 3_001):
        store.write({b"%d" % offset: bytes(1_000)}, offset)
    assert len(batches) == 1
    assert 1_700 < batches[0] < 2_000
    store.close()


def test_only_what_is_worth_a_file_is_settled_and_before_too_much_would_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("state.store.SETTLE_BYTES", 1_000)
    monkeypatch.setattr("state.store.UNSETTLED_BYTES_MAX", 3_000)
    store = PartitionStore(tmp_path / "0", Resources(4 << 20, 8 << 20, row_cache_bytes=1 << 20), "g1")
    batches = counting_puts(store)

    def put(size: int, *, settle: bool) -> bool:
        """Whether a write of that many bytes goes to the database."""
        batches.clear()
        store.write({b"a": bytes(size)}, 1)
        if settle:
            store.settle()
        return batches == [1]

    for _ in range(2):
        assert [put(999, settle=True), put(1, settle=True)] == [False, True]
        assert [put(2_999, settle=False), put(1, settle=False), put(1, settle=False)] == [False, False, True]
        put(999, settle=True)
        store.reset()
    store.close()


def test_a_store_knows_until_when_it_was_kept(tmp_path: Path, resources: Resources) -> None:
    store = PartitionStore(tmp_path / "0", resources, "g1")
    assert store.mark.saved_at == 0
    began = time.time_ns() // 1_000_000
    store.write({b"a": b"1"}, 1)
    written = store.mark.saved_at
    assert began <= written <= time.time_ns() // 1_000_000
    while (closing := time.time_ns() // 1_000_000) == written:
        pass
    store.close()
    again = PartitionStore(tmp_path / "0", resources, "g1")
    assert closing <= again.mark.saved_at <= time.time_ns() // 1_000_000
    again.close()


def test_after_a_quiet_moment_a_kill_takes_nothing_away(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from state.database import Resources
        from state.store import PartitionStore
        store = PartitionStore(Path(sys.argv[1]), Resources(4 << 20, 64 << 20, 64 << 20), "g1")
        for i in range(5_000):
            store.write({b"%09d" % i: bytes(1_000)}, i + 1)
        store.settle()
        deadline = time.monotonic() + 10
        while not list(Path(sys.argv[1]).glob("*.sst")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(float(sys.argv[2]))
        print("settled", flush=True)
        time.sleep(60)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "0"), "0.1"],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"settled\n"
    process.kill()
    process.wait()
    process.stdout.close()
    store = PartitionStore(tmp_path / "0", Resources(4 << 20, 8 << 20), "g1")
    assert store.mark.next_offset == 5_000
    store.close()


def test_a_store_of_another_generation_begins_empty(tmp_path: Path, resources: Resources) -> None:
    store = PartitionStore(tmp_path / "0", resources, "g1")
    store.write({b"a": b"1", keys.POSITION: position(7)}, 5, 4)
    store.close()
    other = PartitionStore(tmp_path / "0", resources, "g2")
    assert (list(other.rows()), other.position, other.mark.next_offset) == ([], None, 0)
    other.close()


def test_after_a_kill_the_rows_are_exactly_those_of_the_stored_position(tmp_path: Path, resources: Resources) -> None:
    """Write i puts key i and position i; of whatever survives, no row lacks its position and no position a row."""
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from schemas import keys
        from state.database import Resources
        from state.store import PartitionStore
        from tests.state.stored import position
        store = PartitionStore(Path(sys.argv[1]), Resources(4 << 20, 1 << 20, int(sys.argv[2])), "g1")
        i = 0
        while True:
            store.write({b"%09d" % i: bytes(2_000), keys.POSITION: position(i)}, i + 1, i)
            i += 1
            if i % 500 == 0 and len(list(Path(sys.argv[1]).glob("*.sst"))) > 1:  # one of them is whole
                print("enough", flush=True)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "0"), str(resources.row_cache_bytes)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"enough\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    store = PartitionStore(tmp_path / "0", resources, "g1")
    kept = [int(key) for key, _ in store.rows()]
    assert kept, "nothing was flushed before the kill: the test shows nothing"
    assert kept == list(range(store.mark.next_offset))
    assert store.position is not None
    assert store.position.offsets["inventory.updates"] == kept[-1]
    store.close()


def test_holds_can_be_come_by_a_few_at_a_time_and_nothing_else_with_them(tmp_path: Path, resources: Resources) -> None:
    store = PartitionStore(tmp_path / "0", resources, "g1")
    names = [keys.hold_key("sku", f"r{n}") for n in range(5)]
    store.write({**dict.fromkeys(names, b"h"), keys.order_key("o", "sku", "r"): b"\x01", b"sku": b"row"}, 1)
    assert store.some_holds(None, 2) == [(key, b"h") for key in names[:2]]
    assert store.some_holds(names[1], 2) == [(key, b"h") for key in names[2:4]]
    assert store.some_holds(names[3], 2) == [(names[4], b"h")]
    assert store.some_holds(names[4], 2) == []
    store.close()


def test_a_step_on_the_way_through_the_holds_writes_nothing_back(tmp_path: Path) -> None:
    store = PartitionStore(tmp_path / "0", Resources(1 << 20, 1 << 20, 1 << 20), "g1")
    first, second = (keys.hold_key("sku", name) for name in ("r1", "r2"))
    store.write({first: b"1"}, 1)
    assert store.some_holds(None, 9) == [(first, b"1")]
    store.write({second: b"2", b"sku": b"row"}, 2)
    assert store.some_holds(first, 9) == []
    assert store.some_holds(None, 9) == [(first, b"1"), (second, b"2")]
    store.close()
