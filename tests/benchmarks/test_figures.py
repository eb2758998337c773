"""Figures are computed as they are named."""

from __future__ import annotations

import math
import re

import pytest

from benchmarks.figures import quantile
from benchmarks.ingest import ratio_of
from benchmarks.latency import in_ms, median_of
from benchmarks.observe import Measured, Sample, span
from benchmarks.table import table
from stockweave.errors import Fatal


def measured(per_cpu_second: int) -> Measured:
    return Measured(per_cpu_second * 10, 5.0, 10.0, 1, 100)


def test_a_quantile_is_a_value_that_its_share_does_not_exceed() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [quantile(values, q) for q in (0.5, 0.99, 0.999)] == [51.0, 100.0, 100.0]
    assert math.isnan(quantile([], 0.5))


def test_what_is_measured_lies_between_the_looks_that_found_its_ends() -> None:
    samples = [Sample(float(i), i * 100, i * 0.5, i) for i in range(10)]
    began, ended, peak_bytes = span(samples, 150, 600)
    assert (began.committed, ended.committed, peak_bytes) == (200, 600, 6)


def test_one_look_for_both_ends_is_refused() -> None:
    with pytest.raises(Fatal, match="--events"):
        span([Sample(0.0, 0, 0.0, 1), Sample(1.0, 1_000, 1.0, 1)], 100, 900)


def test_figures_are_per_second_of_the_clock_and_of_the_processor() -> None:
    one = Measured(1_000, 2.0, 4.0, 0, 10)
    assert (one.per_second, one.per_cpu_second, one.commits_per_second, one.events_per_commit) == (500, 250, 5, 100)


def test_the_ratio_is_to_the_best_kafka_streams() -> None:
    rows = {"stockweave": measured(300), "kafka-streams, 1 thread": measured(200), "kafka-streams, 2": measured(100)}
    assert ratio_of(rows | {"quix": measured(900)}) == 1.5
    assert ratio_of({"stockweave": measured(300), "quix": measured(100)}) is None


def test_columns_of_a_table_are_as_wide_as_their_widest_cell() -> None:
    lines = table(["name", "n"], [["a", "1,000"], ["bcdef", "2"]]).splitlines()
    assert lines == ["name       n", "-----  -----", "a      1,000", "bcdef      2"]
    assert re.fullmatch(r"[- ]+", lines[1])


def test_the_median_is_taken_of_each_quantile_over_the_runs() -> None:
    runs = [in_ms([0.001 * n] * 10) for n in (5, 1, 3)]
    assert median_of(runs) == {"p50": 3.0, "p99": 3.0, "p99.9": 3.0}
