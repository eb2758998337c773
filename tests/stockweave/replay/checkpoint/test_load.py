"""Rows of a checkpoint into a store: all that a topic holds, a group at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.keys import hold_key
from state.database import Resources
from state.store import PartitionStore
from stockweave.errors import Fatal
from stockweave.replay.checkpoint import file
from stockweave.replay.checkpoint.load import load_partition
from stockweave.replay.checkpoint.place import Place, address_of
from stockweave.settings import Settings
from tests.stockweave.replay.checkpoint.made import Shelf, entries


@pytest.fixture
def store(tmp_path: Path) -> PartitionStore:
    return PartitionStore(tmp_path / "store", Resources(8 << 20, 8 << 20), "test")


def test_what_is_under_reserved_keys_comes_back_too(
    store: PartitionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "GROUP_ROWS_MAX", 30)
    kept = [(hold_key("sku-1", "r-1"), b"a hold"), *entries(200)]
    made = Shelf(str(tmp_path / "kept")).put([[], kept], [0, 200])
    position = load_partition(made.address, 1, store)
    assert list(store.records()) == kept
    assert list(store.rows()) == kept[1:]
    assert store.position == position


def test_a_partition_that_is_none_of_it_is_refused(store: PartitionStore, tmp_path: Path) -> None:
    made = Shelf(str(tmp_path / "kept")).put([[], []], [0, 0])
    with pytest.raises(Fatal, match=r"has 2 partitions, and 2 is none of them; use a checkpoint of this deployment"):
        load_partition(made.address, 2, store)


def test_a_checkpoint_is_named_by_its_name_a_path_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(_env_file=None, data_dir=Path("data"))
    assert address_of(settings, "x") == f"{tmp_path}/data/checkpoints/x"
    assert address_of(settings, "kept/x") == f"{tmp_path}/kept/x"
    assert address_of(settings, "s3://bucket/x/") == "s3://bucket/x"
    elsewhere = settings.model_copy(update={"checkpoints": "memory://kept/"})
    assert address_of(elsewhere, "x") == "memory://kept/x"


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    place = Place(str(tmp_path / "file"))
    with pytest.raises(Fatal, match=r"file/x cannot be made: .*; see to the right to do so"):
        place.make_folder("x")
    Place(str(tmp_path / "kept")).make_folder("x")
    with pytest.raises(Fatal, match="it is there already"):
        Place(str(tmp_path / "kept")).make_folder("x")
