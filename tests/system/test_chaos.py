from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.system.chaos.check import check
from tests.system.chaos.feed import identity
from tests.system.chaos.plan import Options
from tests.system.chaos.run import run


@pytest.mark.timeout(240)
async def test_faults_of_every_process_under_load_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    kinds = ("kill-worker", "kill-api", "zombie", "cut", "kill-in-commit")
    options = Options(len(kinds), 5, kinds, rate=500, gap_s=(0.2, 1.0), transaction_timeout_ms=3_000)
    report, evidence = await run(tmp_path, options)
    print(report)
    assert report.clean
    assert set(report.faults) == set(kinds)
    assert len(evidence.answers) > 500

    # And it would have been seen.
    lost = identity(evidence.acknowledged[0])
    tampered = replace(evidence, log=[entry for entry in evidence.log if identity(entry.update) != lost])
    assert any(str(lost) in finding for finding in check(tampered).lost)
