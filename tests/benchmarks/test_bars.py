"""What is over a bar is named, and rows that are written for a benchmark are rows."""

from __future__ import annotations

from benchmarks import recover, scale
from benchmarks.row_fill import SOURCES, row
from schemas.rows import decode_row


def test_each_recovery_over_its_bar_is_named_up_to_the_rows_that_bars_are_for() -> None:
    found = {"worker_disk": 3.1, "api_disk": 2.9, "worker_topic": 59.0, "api_topic": 60.0, "topic": 99.0, "files": 99.0}
    assert recover.over_bars(5_000_000, found) == ["worker_disk 3.1 s", "api_topic 60.0 s"]
    assert recover.over_bars(6_000_000, found) == []


def test_rows_and_memory_over_their_bars_are_named() -> None:
    assert scale.over_bars({"row_bytes": 599.0, "peak_mb": 1_073.0}) == []
    assert scale.over_bars({"row_bytes": 600.0, "peak_mb": 1_074.0}) == ["600 bytes a row", "1,074 MB"]


def test_a_written_row_has_five_sources_that_add_up() -> None:
    for number in (0, 1, 4_999_999):
        made = decode_row(row(number))
        assert len(made.sources) == SOURCES
        assert made.on_hand == sum(source.on_hand for source in made.sources.values())
        assert any(source.deltas for source in made.sources.values())
