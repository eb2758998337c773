"""The small disks of the chaos runner."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tests.system.chaos.disk import SIZE_MIB, NoSmallDisk, SmallDisks

WRITES = """
import pathlib, sys
print("ready", flush=True)
for _ in sys.stdin:
    try:
        pathlib.Path(sys.argv[1]).write_text("x")
        print(0, flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""


def test_a_small_disk_is_its_processes_alone_and_can_be_filled_to_the_last_byte_and_freed(tmp_path: Path) -> None:
    folder = tmp_path / "worker"
    try:
        disks = SmallDisks([folder])
    except NoSmallDisk as why:
        pytest.skip(f"this system gives no small disk: {why}")
    command = [*disks.wrapper, sys.executable, "-c", WRITES, str(folder / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        given, told = process.stdin, process.stdout
        assert given is not None
        assert told is not None

        def written(given: IO[str], told: IO[str]) -> int:
            given.write("\n")
            given.flush()
            return int(told.readline())

        try:
            assert told.readline() == "ready\n"
            disks.belong_to(process.pid)
            assert disks.fill(folder) == SIZE_MIB << 20
            assert disks.free_bytes(folder) == 0
            assert written(given, told) == errno.ENOSPC
            disks.free(folder)
            assert written(given, told) == 0
            assert list(folder.iterdir()) == []
        finally:
            process.kill()
