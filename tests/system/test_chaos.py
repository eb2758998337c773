from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import chaos


@pytest.mark.timeout(240)
async def test_kills_of_every_process_under_load_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    report = await chaos.run(tmp_path, kills=5, seed=5, rate=500, gap_s=(0.5, 3.0))
    print(report)
    assert report.problems == []
    assert set(report.kills) == {"worker-0", "worker-1", "api", "broker"}
    assert report.acknowledged >= report.events
    assert max(report.takeovers_s) <= chaos.TAKEOVER_S_MAX
