from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from schemas import keys
from schemas.rows import Position, encode
from state.database import Resources
from state.store import Mark, PartitionStore
from stockweave.errors import Fatal


def position(offset: int) -> bytes:
    return encode(Position({"inventory.updates": offset}, {"acme": [offset, 0, 0, 0]}))


def write_to_disk(store: PartitionStore, changed: dict[bytes, bytes | None], next_offset: int) -> None:
    store.write(changed, next_offset)
    store._write_back()


def write_until_refused(store: PartitionStore) -> None:
    """The compaction, which comes upon the damage, has its own time."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        write_to_disk(store, {b"a": b"1"}, 500)
        store._database.flush(wait=True)
        time.sleep(0.02)


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


def test_a_folder_that_rocksdb_cannot_read_begins_empty(tmp_path: Path, resources: Resources) -> None:
    store = PartitionStore(tmp_path / "0", resources, "g1")
    store.write({b"a": b"1"}, 1)
    store.close()
    (tmp_path / "0" / "CURRENT").write_text("nonsense\n")
    again = PartitionStore(tmp_path / "0", resources, "g1")
    assert list(again.rows()) == []
    again.close()


def on_disk(path: Path, resources: Resources) -> Path:
    """A closed store of 40 blocks and more, and the file that has its rows."""
    store = PartitionStore(path, resources, "g1")
    store.write({b"%04d" % n: os.urandom(1_000) for n in range(400)} | {keys.POSITION: position(7)}, 400, 399)
    store.close()
    [file] = path.glob("*.sst")
    return file


def damage(file: Path, at_byte: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(at_byte)
        stream.write(b"\xff" * 64)


def error_of(store: PartitionStore, how: str, key: bytes = b"") -> str:
    """What a use of the store says; nothing of it is left afterwards, as after a process's end."""
    try:
        match how:
            case "get_many":
                store.get_many([b"%04d" % n for n in range(400)])
            case "get":
                store.get(key)
            case "rows":
                assert len(list(store.rows(key))) == 400
    except Fatal as error:
        return str(error)
    return ""


@pytest.mark.parametrize("how", ["get_many", "get", "rows", "rows from the damage on"])
def test_a_damaged_block_is_fatal_whoever_comes_upon_it_and_the_next_start_begins_empty(
    tmp_path: Path, resources: Resources, how: str
) -> None:
    file = on_disk(tmp_path / "0", resources)
    damage(file, file.stat().st_size // 2)
    store = PartitionStore(tmp_path / "0", resources, "g1")
    if how in ("get_many", "rows"):
        said = error_of(store, how)
    else:
        key, said = next((k, e) for k in (b"%04d" % n for n in range(400)) if (e := error_of(store, "get", k)))
        if how == "rows from the damage on":
            (tmp_path / "0" / "broken").unlink()
            said = error_of(store, "rows", key)
    assert "0 is damaged: Corruption: block checksum mismatch" in said
    assert said.endswith("; restart, and it is deleted and read anew")
    assert str(store.broken) == said
    store._database.close()
    again = PartitionStore(tmp_path / "0", resources, "g1")
    assert (list(again.rows()), again.position, again.mark.next_offset, again.broken) == ([], None, 0, None)
    again.write({b"a": b"1"}, 1)
    again.close()
    last = PartitionStore(tmp_path / "0", resources, "g1")
    assert list(last.rows()) == [(b"a", b"1")]
    last.close()


def test_a_damage_where_the_position_is_begins_empty_at_once(tmp_path: Path, resources: Resources) -> None:
    damage(on_disk(tmp_path / "0", resources), 0)
    again = PartitionStore(tmp_path / "0", resources, "g1")
    assert (list(again.rows()), again.position) == ([], None)
    again.close()


def test_a_write_that_meets_damage_is_fatal_and_the_next_start_begins_empty(
    tmp_path: Path, resources: Resources
) -> None:
    """The compaction comes upon the block; from then on RocksDB takes no write."""
    file = on_disk(tmp_path / "0", resources)
    damage(file, file.stat().st_size // 2)
    store = PartitionStore(tmp_path / "0", resources, "g1")
    for n in range(5):
        with suppress(Exception):  # the first to be told is the compaction, and then whoever comes
            write_to_disk(store, {b"%04d" % i: b"x" for i in range(0, 400, 7)}, 401 + n)
            store._database.flush(wait=True)
    (tmp_path / "0" / "broken").unlink(missing_ok=True)
    with pytest.raises(Fatal, match="is damaged: Corruption"):
        write_until_refused(store)
    with pytest.raises(Fatal, match="is damaged: Corruption"):
        store.close()
    again = PartitionStore(tmp_path / "0", resources, "g1")
    assert list(again.rows()) == []
    again.close()


def test_a_full_disk_is_named_with_the_remedy_also_where_damage_cannot_be_marked(
    tmp_path: Path, resources: Resources
) -> None:
    file = on_disk(tmp_path / "0", resources)
    damage(file, file.stat().st_size // 2)
    store = PartitionStore(tmp_path / "0", resources, "g1")
    (tmp_path / "0" / "broken").symlink_to("/dev/full")
    said = error_of(store, "get_many")
    assert "is damaged (Corruption: block checksum mismatch" in said
    assert "No space left on device; free some space on its disk" in said
    store._database.close()


def test_a_store_that_takes_no_write_any_more_can_be_reset(tmp_path: Path, resources: Resources) -> None:
    file = on_disk(tmp_path / "0", resources)
    damage(file, file.stat().st_size // 2)
    store = PartitionStore(tmp_path / "0", resources, "g1")
    for n in range(5):
        with suppress(Exception):
            write_to_disk(store, {b"%04d" % i: b"x" for i in range(0, 400, 7)}, 401 + n)
            store._database.flush(wait=True)
    store.reset()
    store.write({b"a": b"1"}, 1)
    assert (list(store.rows()), store.broken) == ([(b"a", b"1")], None)
    store.close()


def run_with_open_files(limits: str, code: str) -> str:
    """What a process prints that may have so many files open: soft and hard limit."""
    program = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({limits}))
from pathlib import Path
from state.database import Resources
from state.store import Mark, PartitionStore
from stockweave.errors import Fatal
folder = Path(sys.argv[1])
{textwrap.dedent(code)}
"""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", program, folder], capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


OPEN_MANY = """
shared = Resources(1 << 20, 4 << 20, partitions=60)
stores = []
try:
    for n in range(60):
        stores.append(PartitionStore(folder / str(n), shared, "g1"))
        stores[-1].write({b"a": b"1"}, 1)
except Fatal as error:
    print(error)
print(len(stores), "opened")
"""


def test_as_many_files_are_opened_as_the_system_allows_not_as_it_gives_at_first() -> None:
    assert "60 opened" in run_with_open_files("128, 2048", OPEN_MANY)


def test_too_many_open_files_are_named_with_their_limit_and_its_remedy() -> None:
    said = run_with_open_files("128, 128", OPEN_MANY)
    assert "Too many open files" in said
    assert "this process may have 128 files open: raise the limit (ulimit -n" in said
    assert "another process" not in said


@pytest.mark.parametrize(("partitions", "limit", "share"), [(4, 16_000, 256), (4, 1_024, 88), (1_024, 16_000, 20)])
def test_open_files_are_divided_among_the_partitions(partitions: int, limit: int, share: int) -> None:
    code = f"""
    store = PartitionStore(folder / "0", Resources(1 << 20, 4 << 20, partitions={partitions}), "g1")
    [options] = (folder / "0").glob("OPTIONS-*")
    print(options.read_text())
    store.close()
    """
    assert f" max_open_files={share}\n" in run_with_open_files(f"512, {limit}", code)


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
        from state.database import Resources
        from state.store import PartitionStore
        from tests.state.test_store import position
        store = PartitionStore(Path(sys.argv[1]), Resources(4 << 20, 1 << 20, int(sys.argv[2])), "g1")
        i = 0
        while True:
            store.write({b"%09d" % i: bytes(2_000), keys.POSITION: position(i)}, i + 1, i)
            i += 1
            if i == 3_000:
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
