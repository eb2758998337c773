"""A short run of the real thing: workers and API processes are killed under many clients; every answer is judged."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from tests.go_program import CannotBuild
from tests.linearizability import history, porcupine
from tests.linearizability.history import Attempt
from tests.linearizability.porcupine import OK
from tests.linearizability.run import Options, judge, run
from tests.system.chaos import plan

CALLS = 2_000
KINDS = ("kill-worker", "kill-api", "zombie")


@pytest.mark.timeout(240)
async def test_every_answer_has_its_place_in_one_order_while_workers_and_api_processes_are_killed(
    tmp_path: Path,
) -> None:
    faults = plan.Options(len(KINDS) + 1, 5, KINDS, rate=200, gap_s=(0.2, 1.0), transaction_timeout_ms=3_000)
    path = tmp_path / "history.ndjson"
    report = await run(tmp_path / "data", path, Options(faults, CALLS, window=CALLS // 3))
    print(report)
    assert report.violations == []
    assert set(report.faults.faults) == set(KINDS)
    assert report.asked.total() >= CALLS
    assert report.unknown.total() > 0
    try:
        checker = porcupine.build(tmp_path)
    except CannotBuild as why:
        pytest.skip(f"reads and conservation have been checked, and linearizability was not: {why}")
    judge(report, checker, path, tmp_path)
    print(report)
    assert report.violations == []
    assert sum(verdict.calls for verdict in report.verdicts) >= CALLS

    # And it would have been seen: the last call on a SKU is told of one unit more.
    records = list(history.read(path))
    last = next(one for one in records[::-1] if isinstance(one, Attempt) and one.key.startswith(f"{one.sku}-last-"))
    altered = copy.deepcopy(last)
    assert altered.told is not None
    altered.told["lines"][0]["left"] += 1
    of_sku = [altered if one is last else one for one in records if getattr(one, "sku", last.sku) == last.sku]
    history.write(of_sku, path)
    [verdict] = porcupine.judge(checker, path, window_s=2)
    assert verdict.result != OK
