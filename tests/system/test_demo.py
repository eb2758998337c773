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
