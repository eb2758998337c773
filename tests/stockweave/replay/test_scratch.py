"""Scratch folders: gone when the command is, whatever ended it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stockweave.errors import Fatal
from stockweave.replay.scratch import scratch_folder

HOLDER = """
import sys, time
from pathlib import Path
from stockweave.replay.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "rows").write_text("x")
    print(folder, flush=True)
    time.sleep(60)
"""


def holder(data_dir: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(data_dir)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def folders(data_dir: Path) -> set[Path]:
    return {path for path in (data_dir / "scratch").iterdir() if path.is_dir()}


def test_it_is_deleted_at_the_end_and_on_an_error(tmp_path: Path) -> None:
    def interrupted() -> None:
        with scratch_folder(tmp_path) as folder:
            (folder / "deep").mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert folders(tmp_path) == set()


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    dead, left = holder(tmp_path)
    living, held = holder(tmp_path)
    try:
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        assert (left / "rows").exists()
        with scratch_folder(tmp_path) as mine:
            assert folders(tmp_path) == {held, mine}
            assert (held / "rows").exists()
    finally:
        living.kill()
        for process in (dead, living):
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Fatal, match="--data-dir"), scratch_folder(tmp_path):
        pass


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("")
    with pytest.raises(Fatal, match=r"cannot write in .*scratch: .*--data-dir"), scratch_folder(tmp_path):
        pass
