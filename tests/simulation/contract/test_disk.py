"""What a store relies on in its database, asked of the simulated disk and of RocksDB."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from schemas import keys
from state.database import Resources
from stockweave.errors import Fatal
from stockweave.world import Database, Disk
from tests.simulation.disk import SimulatedDisk
from tests.simulation.process import Clock


class Simulated:
    """`crash` gives what a start after a kill finds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.disk = SimulatedDisk(Clock(), None, 0, random.Random(7))

    def crash(self) -> Database:
        self.disk.die()
        return self.disk.open(self.path)


class Real:
    """RocksDB; a copy of the folder, with the database at work, is what a kill would leave."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.disk = Resources(1 << 20, 1 << 20)

    def crash(self) -> Database:
        copy = self.path.with_name(self.path.name + "'")
        shutil.copytree(self.path, copy, ignore=shutil.ignore_patterns("LOCK"))
        return self.disk.open(copy)


@pytest.fixture(params=[Simulated, Real])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Simulated | Real:
    made: Simulated | Real = request.param(tmp_path / "0")
    return made


def content(database: Database) -> dict[bytes, bytes]:
    return dict(database.items(b" "))


def test_what_was_written_is_read_and_what_was_removed_is_not(machine: Simulated | Real) -> None:
    disk: Disk = machine.disk
    database = disk.open(machine.path)
    database.write({b"a": b"1", b"b": b"2", b"c": b"3"}, b"at 1")
    database.write({b"b": None, b"c": b"4"}, b"at 2")
    assert database.get(b"a") == b"1"
    assert database.get_many([b"c", b"b", keys.LOCAL]) == [b"4", None, b"at 2"]
    assert list(database.items(b"b")) == [(b"c", b"4")]
    assert list(database.items(b" ")) == [(b"a", b"1"), (b"c", b"4")]


def test_a_folder_has_one_user_at_a_time_and_is_whole_after_a_close(machine: Simulated | Real) -> None:
    database = machine.disk.open(machine.path)
    with pytest.raises(Fatal, match="cannot be opened"):
        machine.disk.open(machine.path)
    database.write({b"a": b"1"}, b"at 1")
    database.flush(wait=True)
    database.close()
    assert content(machine.disk.open(machine.path)) == {b"a": b"1"}


def test_a_crash_leaves_the_state_after_some_write_and_at_least_what_was_flushed(machine: Simulated | Real) -> None:
    database = machine.disk.open(machine.path)
    for n in range(3):
        database.write({b"row": b"%d" % n, b"too": b"%d" % n}, b"%d" % n)
    database.flush(wait=True)
    for n in range(3, 9):
        database.write({b"row": b"%d" % n, b"too": b"%d" % n}, b"%d" % n)
    found = machine.crash().get_many([b"row", b"too", keys.LOCAL])
    assert len(set(found)) == 1, "a write is whole or not there"
    assert found[0] is not None
    assert 2 <= int(found[0]) <= 8


def test_a_reset_leaves_nothing_also_after_a_crash(machine: Simulated | Real) -> None:
    database = machine.disk.open(machine.path)
    database.write({b"a": b"1"}, b"at 1")
    database.flush(wait=True)
    database.reset()
    assert (content(database), database.get(keys.LOCAL)) == ({}, None)
    assert content(machine.crash()) == {}
