"""Nothing is thrown away, passed over or refused in silence: the log says where and why, in fields to search by."""

from __future__ import annotations

import resource
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from schemas import admin, keys
from schemas.generations import Generation, Generations
from state import generations
from state.database import BROKEN, Resources
from state.follower import Follower
from state.generations import delete_other_folders, look_up
from state.open_files import raise_limit
from state.store import PartitionStore
from stockweave.errors import Fatal
from stockweave.settings import Settings
from tests.state.stored import position
from tests.state.test_messages import Script, record, trouble
from tests.state.test_open_files import System

HOUR_MS = 3_600_000


def said(logs: Sequence[MutableMapping[str, Any]]) -> list[dict[str, Any]]:
    """The fields of each line."""
    return [{name: line[name] for name in line if name not in ("event", "log_level")} for line in logs]


@pytest.fixture
def shared() -> Resources:
    return Resources(1 << 20, 4 << 20)


@pytest.fixture
def path(tmp_path: Path, shared: Resources) -> Path:
    """Of a closed store of generation g1, with a row and a position."""
    store = PartitionStore(tmp_path / "0", shared, "g1")
    store.write({b"a": b"1", keys.POSITION: position(7)}, 6, 4)
    store.close()
    return store.path


def test_a_store_of_another_generation(path: Path, shared: Resources) -> None:
    with capture_logs() as logs:
        PartitionStore(path, shared, "g2").close()
    assert said(logs) == [{"path": str(path), "was": "g1", "now": "g2"}]


def test_a_folder_that_cannot_be_read(path: Path, shared: Resources) -> None:
    (path / "CURRENT").write_text("nonsense\n")
    with capture_logs() as logs:
        PartitionStore(path, shared, "g1").close()
    [line] = said(logs)
    assert line.keys() == {"path", "why"}
    assert line["path"] == str(path)
    assert line["why"].startswith("Corruption: ")


def test_a_folder_that_was_found_damaged(path: Path, shared: Resources) -> None:
    (path / BROKEN).write_text("Corruption: of a block")
    with capture_logs() as logs:
        PartitionStore(path, shared, "g1").close()
    assert said(logs) == [{"path": str(path), "why": "Corruption: of a block"}]


def test_a_position_that_cannot_be_read(path: Path, shared: Resources) -> None:
    database = shared.open(path)
    database.write({}, b"\xc1")
    database.close()
    with capture_logs() as logs:
        PartitionStore(path, shared, "g1").close()
    assert said(logs) == [{"path": str(path), "why": "MessagePack data is malformed: invalid opcode '\\xc1' (byte 0)"}]


def test_a_store_that_its_topic_does_not_know_any_more(path: Path, shared: Resources) -> None:
    store, script = PartitionStore(path, shared, "g1"), Script()
    follower = Follower(script, "t")
    follower.add(3, store, store.mark.saved_at)
    script.coming = [record(4, keys.POSITION, position(8), 3)]
    with capture_logs() as logs:
        follower.step(100, 0)
    why = "the store's last position record is not in the topic"
    assert said(logs) == [{"topic": "t", "partition": 3, "why": why}]
    store.write({b"a": b"1"}, 6)
    script.coming = [trouble(KafkaError(KafkaError.OFFSET_OUT_OF_RANGE), 3)]
    with capture_logs() as logs:
        follower.step(100, 0)
    assert said(logs) == [{"topic": "t", "partition": 3, "why": "the topic ends before the store's position"}]
    store.close()


def test_a_store_that_was_away_for_too_long(path: Path, shared: Resources) -> None:
    store = PartitionStore(path, shared, "g1")
    with capture_logs() as logs:
        Follower(Script(), "t").add(3, store, store.mark.saved_at + 30 * HOUR_MS + HOUR_MS // 4)
    assert said(logs) == [{"partition": 3, "hours": 30.2}]
    store.close()


def test_an_error_that_passes(path: Path, shared: Resources) -> None:
    store, script = PartitionStore(path, shared, "g1"), Script()
    follower = Follower(script, "t")
    follower.add(0, store, store.mark.saved_at)
    script.coming = [trouble(KafkaError(KafkaError._TRANSPORT, "connection lost"))]
    with capture_logs() as logs:
        follower.step(100, 0)
    assert said(logs) == [{"topic": "t", "error": "_TRANSPORT", "text": "connection lost"}]
    store.close()


def test_the_folder_of_another_generation(tmp_path: Path) -> None:
    (tmp_path / "g1").mkdir()
    with capture_logs() as logs:
        delete_other_folders(tmp_path, set())
    assert said(logs) == [{"path": str(tmp_path / "g1")}]


def test_a_generation_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    live = admin.Deployed("live", 2, "1f", 0)

    def find(_settings: Settings, _servers: str, generation: Generation) -> admin.Deployed:
        if generation.number:
            raise Fatal("3 partitions instead of 2")
        return live

    monkeypatch.setattr(generations, "find_generation", find)
    with capture_logs() as logs:
        look_up(Settings(_env_file=None), "nowhere", Generations(Generation(0, "live"), Generation(7, "next")))
    assert said(logs) == [{"number": 7, "why": "3 partitions instead of 2"}]


def test_a_limit_that_could_not_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    system = System(256, resource.RLIM_INFINITY, ValueError("not allowed"))
    monkeypatch.setattr(resource, "getrlimit", system.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", system.setrlimit)
    with capture_logs() as logs:
        raise_limit()
    assert said(logs) == [{"limit": 256, "wanted": 65_536, "why": "not allowed"}]
