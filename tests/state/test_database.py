"""RocksDB below a store: damage, full and locked folders, the files that may be open, the shared budget."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest

from schemas import keys
from state.database import Resources
from state.store import PartitionStore
from stockweave.errors import Fatal
from tests.state.stored import position, write_to_disk


def write_until_refused(store: PartitionStore) -> None:
    """The compaction, which comes upon the damage, has its own time."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        write_to_disk(store, {b"a": b"1"}, 500)
        store._database.flush(wait=True)
        time.sleep(0.02)


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


def damaged(path: Path, resources: Resources) -> PartitionStore:
    """An open store with a damaged block in the middle."""
    file = on_disk(path, resources)
    damage(file, file.stat().st_size // 2)
    return PartitionStore(path, resources, "g1")


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
    store = damaged(tmp_path / "0", resources)
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
    store = damaged(tmp_path / "0", resources)
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
    store = damaged(tmp_path / "0", resources)
    (tmp_path / "0" / "broken").symlink_to("/dev/full")
    said = error_of(store, "get_many")
    assert f"the store {tmp_path / '0'} is damaged (Corruption: block checksum mismatch" in said
    assert "), and cannot be marked so: [Errno 28] No space left on device; free some space on its disk" in said
    assert said.endswith(": it goes on with the next start, and nothing is lost")
    store._database.close()


def test_a_write_that_the_system_refuses_is_fatal_and_no_damage(tmp_path: Path, resources: Resources) -> None:
    path = tmp_path / "0"
    store = PartitionStore(path, resources, "g1")
    write_to_disk(store, {b"%04d" % n: os.urandom(1_000) for n in range(400)}, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(Fatal, match=rf"the store {path} failed: IO error: .*; see to the disk, and restart$"):
            store._database.flush(wait=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (store.broken, (path / "broken").exists()) == (None, False)
    with pytest.raises(Fatal, match=rf"the store {path} cannot be closed: IO error: .*; see to the disk, and restart$"):
        store.reset()


def test_a_store_that_takes_no_write_any_more_can_be_reset(tmp_path: Path, resources: Resources) -> None:
    store = damaged(tmp_path / "0", resources)
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


def test_there_is_no_log_of_writes_beside_kafka(tmp_path: Path, resources: Resources) -> None:
    store = PartitionStore(tmp_path / "0", resources, "g1")
    write_to_disk(store, {b"%04d" % n: os.urandom(1_000) for n in range(400)}, 1)
    assert [log.stat().st_size for log in (tmp_path / "0").glob("*.log")] == [0]
    store.close()


def test_a_lack_of_open_files_deletes_no_store(tmp_path: Path) -> None:
    """Whichever file is one too many: RocksDB tells it of some as it tells of damage."""
    shared = Resources(1 << 20, 4 << 20)
    store = PartitionStore(tmp_path / "0", shared, "g1")
    store.write({b"a": b"1"}, 1)
    store.close()
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    refusals = []
    for more in range(1, 40):
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, hard))
        try:
            store = PartitionStore(tmp_path / "0", shared, "g1")
        except Fatal as error:
            refusals.append(str(error))
            allowed = f"this process may have {free + more} files open: raise the limit (ulimit -n; LimitNOFILE of a "
            assert refusals[-1].endswith(allowed + "systemd unit, --ulimit nofile of a container)")
        else:
            break
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(refusals) > 3
    assert any("cannot be opened: Invalid argument: " in said for said in refusals)
    assert list(store.rows()) == [(b"a", b"1")]
    store.close()


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
    with pytest.raises(
        Fatal, match=rf"the store {tmp_path / '0'} cannot be opened: .*; is another process using it\?$"
    ):
        PartitionStore(tmp_path / "0", resources, "g1")
    assert store.get(b"a") == b"1"
    store.close()


def test_what_bounds_the_memory_and_the_files_of_a_store_is_in_force(tmp_path: Path) -> None:
    """RocksDB writes down what it works with; indexes and filters are in the cache that all stores share."""
    shared = Resources(block_cache_bytes=4 << 20, write_buffer_bytes=4 << 20, partitions=10**6)
    store = PartitionStore(tmp_path / "0", shared, "g1")
    [options] = (tmp_path / "0").glob("OPTIONS-*")
    found = dict(line.strip().split("=", 1) for line in options.read_text().splitlines() if "=" in line)
    wanted = {
        "cache_index_and_filter_blocks": "true",
        "compression": "kLZ4Compression",
        "keep_log_file_num": "2",
        "max_background_jobs": "2",
        "max_open_files": "20",
        "write_buffer_size": str(16 << 20),
    }
    assert {name: found[name] for name in wanted} == wanted
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
