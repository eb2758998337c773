"""A partition's store under readers while it is deleted and read again."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.partition import ViewPartition
from state.database import Resources
from stockweave.errors import Retriable

KEYS = [b"sku-%03d" % i for i in range(100)]


def test_no_reader_ever_sees_a_store_that_is_not_whole(tmp_path: Path) -> None:
    partition = ViewPartition(0, tmp_path / "0", Resources(1 << 20, 4 << 20), "g")
    done = threading.Event()
    seen: list[object] = []

    def read() -> None:
        while not done.is_set():
            try:
                if None in partition.read(KEYS) or len(partition.page(b"", 1_000)) != len(KEYS):
                    seen.append("half a store")
            except Retriable:
                seen.append(Retriable)

    readers = [threading.Thread(target=read) for _ in range(3)]
    fill(partition)
    for reader in readers:
        reader.start()
    for _ in range(30):
        partition.reset()
        turned_away = len(seen)
        while len(seen) == turned_away:  # until a reader came while the store was away
            time.sleep(0.0002)
        fill(partition)
    done.set()
    for reader in readers:
        reader.join()
    partition.close()
    assert set(seen) == {Retriable}


@pytest.mark.parametrize("ask", ["read", "page", "keys", "rows_estimate"])
def test_nobody_waits_while_the_store_is_deleted_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    partition = ViewPartition(0, tmp_path / "0", Resources(1 << 20, 4 << 20), "g")
    fill(partition)
    deleting, deleted = threading.Event(), threading.Event()
    rmtree = shutil.rmtree

    def slow(path: Path) -> None:
        deleting.set()
        assert deleted.wait(20)
        rmtree(path)

    monkeypatch.setattr("state.database.shutil.rmtree", slow)
    asked = {
        "read": lambda: partition.read(KEYS),
        "page": lambda: partition.page(b"", 10),
        "keys": lambda: partition.keys(b"\x02", b"\x01", 10),
        "rows_estimate": partition.rows_estimate,
    }
    with ThreadPoolExecutor(2) as threads:
        resetting = threads.submit(partition.reset)
        assert deleting.wait(20)
        answer = threads.submit(asked[ask])
        try:
            if ask == "rows_estimate":
                assert answer.result(5) == 0
            else:
                with pytest.raises(Retriable, match="partition 0"):
                    answer.result(5)
        finally:
            deleted.set()
        resetting.result()
    fill(partition)
    assert partition.read(KEYS) == KEYS
    assert partition.rows_estimate() > 0
    partition.close()
    assert partition.rows_estimate() == 0


def test_a_closed_partition_turns_its_readers_away(tmp_path: Path) -> None:
    partition = ViewPartition(0, tmp_path / "0", Resources(1 << 20, 4 << 20), "g")
    fill(partition)
    partition.close()
    with pytest.raises(Retriable, match="partition 0"):
        partition.read(KEYS)


def fill(partition: ViewPartition) -> None:
    partition.write({key: key for key in KEYS[:50]}, 50)
    partition.write({key: key for key in KEYS[50:]}, 100)
    partition.caught_up = True
