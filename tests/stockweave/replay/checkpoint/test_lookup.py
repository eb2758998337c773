"""Which checkpoint is chosen, and single rows of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.topics import UPDATES
from stockweave.errors import Fatal
from stockweave.replay.checkpoint.load import Checkpoint
from stockweave.replay.checkpoint.lookup import covering, newest_fitting
from stockweave.settings import Settings
from tests.stockweave.replay.checkpoint.made import Shelf, deployed, entries


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, data_dir=tmp_path)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(str(tmp_path / "checkpoints"))


def test_the_furthest_that_is_not_past_the_offset_is_chosen(settings: Settings, shelf: Shelf) -> None:
    for offset in (30, 10, 20):
        shelf.put([entries(3, on_hand=offset), []], [offset, 0])
    with newest_fitting(settings, deployed(), 0, 25) or pytest.fail("none") as found:
        assert (found.name, found.position.offsets) == (shelf.made[2].name, {UPDATES.name: 20})
        assert found.newest_at == 1_700_000_000_020
        assert found.find(b"sku-00001") == entries(3, on_hand=20)[1][1]
        assert found.find(b"sku-00009") is None
    assert newest_fitting(settings, deployed(), 0, 9) is None
    for number, offset, name in ((0, 30, 0), (0, 99, 0), (1, 0, 2)):
        with newest_fitting(settings, deployed(), number, offset) or pytest.fail("none") as found:
            assert found.name == shelf.made[name].name


def test_checkpoints_of_other_logs_and_damaged_ones_are_passed_over(settings: Settings, shelf: Shelf) -> None:
    right = shelf.put([entries(1), []], [10, 0])
    stranger = shelf.put([entries(1), []], [20, 0], generation="two")
    damaged = shelf.put([entries(1), []], [20, 0])
    manifest = Path(damaged.address) / "manifest.json"
    manifest.write_text(manifest.read_text().replace("20", "21", 1))
    with newest_fitting(settings, deployed(), 0, 99) or pytest.fail("none") as found:
        assert found.name == right.name
    with newest_fitting(settings, deployed("two"), 0, 99) or pytest.fail("none") as found:
        assert found.name == stranger.name
    assert newest_fitting(settings, deployed(partitions=3), 0, 99) is None
    assert newest_fitting(settings.model_copy(update={"data_dir": Path("/nowhere")}), deployed(), 0, 0) is None


def test_the_chosen_one_is_read_whole_before_a_row_is_looked_for(settings: Settings, shelf: Shelf) -> None:
    made = shelf.put([entries(50), []], [10, 0])
    path = Path(made.address) / "partition-0.parquet"
    damaged = bytearray(path.read_bytes())
    damaged[-20] ^= 1  # where the file tells what is where
    path.write_bytes(damaged)
    with pytest.raises(Fatal, match=r"partition-0\.parquet is damaged: its SHA-256"):
        newest_fitting(settings, deployed(), 0, 99)


def test_what_covers_a_trimmed_log_has_no_gap_to_it_and_is_not_past_the_rows(settings: Settings, shelf: Shelf) -> None:
    for offsets in ((10, 10), (20, 20), (30, 5)):
        shelf.put([[], []], list(offsets))

    def chosen(starts: dict[int, int], until: dict[int, int] | None = None) -> str | None:
        found = covering(settings, deployed(), starts, until)
        return None if found is None else found.name

    names = [made.name for made in shelf.made]
    assert chosen({0: 0, 1: 0}) == names[1]
    assert chosen({0: 10, 1: 10}, {0: 15, 1: 15}) == names[0]
    assert chosen({0: 25, 1: 4}) == names[2]
    assert chosen({0: 25}) == names[2]
    assert chosen({0: 31, 1: 0}) is None
    assert chosen({0: 20, 1: 20}, {0: 19, 1: 25}) is None


def test_a_folder_under_another_name_is_no_checkpoint(shelf: Shelf) -> None:
    made = Path(shelf.put([[], []], [1, 1]).address)
    made.rename(made.with_name("mine"))
    with pytest.raises(Fatal, match="give the folder that name again"):
        Checkpoint(str(made.with_name("mine")))
