from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.stack import Stack


@pytest.mark.timeout(240)
def test_real_sales_through_http_become_the_availability_that_an_independent_computation_finds(tmp_path: Path) -> None:
    """The first part, fed twice: what is repeated changes nothing."""
    with Stack(tmp_path, workers=1) as stack:
        for _ in range(2):
            command = [sys.executable, "-m", "stockweave", "demo", "retail", "--events", "25000", "--url", stack.url]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            assert done.returncode == 0, done.stdout + done.stderr
            last = done.stdout.strip().splitlines()[-1]
            assert last.startswith("checked ")
            assert last.endswith(" SKUs: 0 differ")
    assert stack.stop() == 0


@pytest.mark.timeout(240)
def test_the_one_command_feeds_once_and_leaves_alone_what_is_there(tmp_path: Path) -> None:
    for said in ("checked 1,", "there is data from a former run"):
        stack = Stack(tmp_path, workers=1, arguments=("--feed", "2000"))
        with stack:
            stack.await_line("curl ")
            assert any(said in line for line in stack.lines), stack.lines
        assert stack.process.returncode == 0
