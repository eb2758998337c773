"""Pictures show the figures that they are given."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.pictures import DRAWN
from benchmarks.svg import LABELS, OURS, PEER, RIGHT, WIDTH, Bar, Dots, bars, dots

ENVIRONMENT = {"cores": 2, "memory_gib": 24, "system": "Linux 6.1"}
QUANTILES = {"p50": 10.0, "p99": 30.0, "p99.9": 60.0}
FIGURES: dict[str, Any] = {
    "ingest": {"contestants": {"stockweave": {"per_cpu_second": 2e5}, "kafka-streams": {"per_cpu_second": 1e5}}},
    "latency": {"100": {"lines": 1, "visible": QUANTILES, "bare": QUANTILES}},
    "replay": {"verify": [3.0, 1.0, 2.0], "bare": [6.0], "updates": 10},
    "recover": {"1000000": {f"{w}_{h}": 1.5 for w in ("worker", "api") for h in ("disk", "topic")} | {"topic": 1.0}},
    "scale": {"rows": {"100000": {"peak_mb": 500.0, "row_bytes": 300.0}}},
}


def widths(picture: str) -> list[float]:
    return [float(width) for width in re.findall(r"<rect x='232' [^>]*? width='([\d.]+)'", picture)]


def test_bars_are_as_long_as_their_values_and_the_longest_fills_the_room() -> None:
    picture = bars("t", "s", [[Bar("a", 50, "50", OURS)], [Bar("b", 100, "100", PEER)]])
    assert widths(picture) == pytest.approx([(WIDTH - LABELS - RIGHT) / 2, WIDTH - LABELS - RIGHT])


def test_a_mark_beyond_all_bars_lies_within_the_picture() -> None:
    picture = bars("t", "s", [[Bar("a", 50, "50", OURS)]], (100.0, "bar"))
    assert widths(picture) == pytest.approx([(WIDTH - LABELS - RIGHT) / 2])
    assert "stroke-dasharray" in picture


def test_a_tenfold_is_the_same_step_on_the_axis_wherever_it_begins() -> None:
    line = Dots("a", [("p50", 1.0), ("p99", 10.0), ("p99.9", 100.0)], OURS)
    at = [float(x) for x in re.findall(r"<circle cx='([\d.]+)'", dots("t", "s", [[line]], "ms", (75.0, "bar")))]
    assert at[1] - at[0] == pytest.approx(at[2] - at[1], abs=0.2)


def test_names_are_escaped() -> None:
    ElementTree.fromstring(bars("a < b & c", "s", [[Bar("<x>", 1, "1", OURS)]]))


@pytest.mark.parametrize("name", DRAWN)
def test_every_benchmark_has_its_picture_with_machine_and_commit(name: str) -> None:
    loaded = {"environment": ENVIRONMENT, "date": "2026-01-05", "commit": "abc1234", "figures": FIGURES[name]}
    picture = DRAWN[name](loaded)
    ElementTree.fromstring(picture)
    assert "2 cores, 24 GiB, Linux 6.1; 2026-01-05, abc1234" in picture


def test_of_several_replays_the_median_is_drawn() -> None:
    loaded = {"environment": ENVIRONMENT, "date": "", "commit": "", "figures": FIGURES["replay"]}
    ours, limit = widths(DRAWN["replay"](loaded))
    assert ours / limit == pytest.approx(2 / 6, abs=0.01)
