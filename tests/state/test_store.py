from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from schemas import keys
from schemas.rows import Position, encode
from state.store import PartitionStore, Resources
from stockweave.errors import Fatal


def position(offset: int) -> bytes:
    return encode(Position({"inventory.updates": offset}, {"acme": [offset, 0, 0, 0]}))


def test_rows_and_position_are_back_after_a_close(tmp_path: Path, resources: Resources) -> None:
    store = PartitionStore(tmp_path / "0", resources, "g1")
    store.write({b"a": b"1", b"b": b"2", keys.POSITION: position(7)}, next_offset=5, anchor=4)
    store.close()
    again = PartitionStore(tmp_path / "0", resources, "g1")
    assert again.get_many([b"b", b"nothing", b"a"]) == [b"2", None, b"1"]
    assert (again.mark.next_offset, again.mark.anchor) == (5, 4)
    assert again.position is not None
    assert again.position.offsets == {"inventory.updates": 7}
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
    assert store.get(hold) == b"h"
    store.close()


def test_a_store_of_another_generation_begins_empty(tmp_path: Path, resources: Resources) -> None:
    store = PartitionStore(tmp_path / "0", resources, "g1")
    store.write({b"a": b"1", keys.POSITION: position(7)}, 5, 4)
    store.close()
    other = PartitionStore(tmp_path / "0", resources, "g2")
    assert (list(other.rows()), other.position, other.mark.next_offset) == ([], None, 0)
    other.close()


def test_a_folder_that_rocksdb_cannot_read_begins_empty(tmp_path: Path, resources: Resources) -> None:
    store = PartitionStore(tmp_path / "0", resources, "g1")
    store.write({b"a": b"1"}, 1)
    store.close()
    (tmp_path / "0" / "CURRENT").write_text("nonsense\n")
    again = PartitionStore(tmp_path / "0", resources, "g1")
    assert list(again.rows()) == []
    again.close()


def test_a_folder_that_another_process_has_open_is_refused_and_left_alone(tmp_path: Path, resources: Resources) -> None:
    store = PartitionStore(tmp_path / "0", resources, "g1")
    store.write({b"a": b"1"}, 1)
    with pytest.raises(Fatal, match="is another process using it"):
        PartitionStore(tmp_path / "0", resources, "g1")
    assert store.get(b"a") == b"1"
    store.close()


def test_after_a_kill_the_rows_are_exactly_those_of_the_stored_position(tmp_path: Path, resources: Resources) -> None:
    """Write i puts key i and position i; of whatever survives, no row lacks its position and no position a row."""
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from schemas import keys
        from state.store import PartitionStore, Resources
        from tests.state.test_store import position
        store = PartitionStore(Path(sys.argv[1]), Resources(4 << 20, 1 << 20), "g1")
        i = 0
        while True:
            store.write({b"%09d" % i: bytes(2_000), keys.POSITION: position(i)}, i + 1, i)
            i += 1
            if i == 3_000:
                print("enough", flush=True)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "0")], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
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


def test_the_write_budget_is_one_for_all_partitions(tmp_path: Path) -> None:
    """56 MB in four memtables of 16 MB would stay in memory for ever; under a budget of 4 MB they go to the disk."""
    shared = Resources(block_cache_bytes=4 << 20, write_buffer_bytes=4 << 20)
    stores = [PartitionStore(tmp_path / str(p), shared, "g1") for p in range(4)]
    for i in range(7_000):
        stores[i % 4].write({b"%09d" % i: os.urandom(8_000)}, i + 1)
    deadline = time.monotonic() + 20
    while shared._budget.get_usage() > 12 << 20:
        assert time.monotonic() < deadline, f"{shared._budget.get_usage() >> 20} MB are still in memory"
        for store in stores:
            store.write({b"one more": b"x"}, 7_001)
        time.sleep(0.05)
    for store in stores:
        store.close()
