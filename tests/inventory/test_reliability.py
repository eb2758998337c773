"""The score of a feed: the documented example, and what holds for all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inventory.reliability import LAG_HALF_MS, score
from schemas.feed_health import HOUR_MS, HOURS, FeedHealth, Hour, decode, encode

NOW = 1_790_000_000_000
PAGE = Path(__file__).parents[2] / "docs" / "connectors" / "health.md"


def health(**counts: int) -> FeedHealth:
    """Of a feed that was just read, each minute."""
    hour = Hour(hour=NOW // HOUR_MS, **counts)
    return FeedHealth(feed="acme/stock", expected_ms=60_000, polled_at=NOW, at_ms=NOW, hours=[hour])


def documented() -> tuple[FeedHealth, dict[str, Any]]:
    """The feed of the worked example, and what is told of it."""
    [told] = re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    answer = msgspec.json.decode(told)
    names = ("polls", "failures", "held_back", "rows", "rejected", "corrections", "documents")
    counts = {name: answer[name] for name in names if name in answer}
    documents = 40
    seen = health(**counts, documents=documents, lag_ms=answer["lag_ms"] * documents)
    seen.expected_ms, seen.polled_at = answer["expected_ms"], NOW - answer["age_ms"]
    return seen, answer


def test_the_worked_example_is_what_is_computed() -> None:
    seen, answer = documented()
    computed = score(seen, NOW)._asdict()
    assert {name: round(part, 4) for name, part in computed.items()} == answer["score"]


def test_two_polls_that_went_well_are_not_perfect_and_many_come_near() -> None:
    few, many = score(health(polls=2, rows=2), NOW), score(health(polls=10_000, rows=100_000), NOW)
    assert few.value < 0.9 < 0.999 < many.value < 1


def test_each_thing_that_goes_wrong_lowers_its_part_and_no_other() -> None:
    well = score(health(polls=100, rows=100, documents=10), NOW)
    for part, wrong in {
        "answered": health(polls=100, rows=100, documents=10, failures=50),
        "accepted": health(polls=100, rows=100, documents=10, rejected=50),
        "consistent": health(polls=100, rows=100, documents=10, corrections=50),
        "timely": health(polls=100, rows=100, documents=10, lag_ms=10 * LAG_HALF_MS),
    }.items():
        found = score(wrong, NOW)
        lower = [name for name in well._fields if getattr(found, name) < getattr(well, name)]
        assert lower == ["value", part]
    assert score(health(polls=100, rows=100, documents=10, held_back=50), NOW).answered < 0.6


@pytest.mark.parametrize(("intervals", "fresh"), [(0, 1), (2, 1), (6, 0.5), (10, 0), (1_000, 0), (-5, 1)])
def test_freshness_falls_with_the_intervals_since_the_last_poll_that_went_well(intervals: int, fresh: float) -> None:
    seen = health(polls=100)
    seen.expected_ms, seen.polled_at = 3_600_000, NOW - intervals * 3_600_000
    assert score(seen, NOW).fresh == pytest.approx(fresh)


def test_a_feed_that_was_never_read_has_no_score_above_zero() -> None:
    seen = health(polls=3, failures=3)
    seen.polled_at = 0
    assert score(seen, NOW).value == 0


def test_more_failures_than_polls_are_no_score_below_zero() -> None:
    assert 0 <= score(health(polls=2, held_back=50), NOW).value <= 1


def test_what_is_out_of_the_window_counts_no_more_and_a_record_stays_small() -> None:
    seen = FeedHealth(feed="acme/stock")
    for hour in range(100):
        seen.of_now(NOW + hour * HOUR_MS).polls += 1
    later = NOW + 99 * HOUR_MS
    assert (len(seen.hours), seen.window(later).polls) == (HOURS, HOURS)
    assert seen.window(later + (HOURS - 1) * HOUR_MS).polls == 1
    assert seen.window(later + HOURS * HOUR_MS).polls == 0
    full = msgspec.structs.replace(
        seen, hours=[Hour(**dict.fromkeys(Hour.__struct_fields__, 10**12)) for _ in range(24)]
    )
    assert len(encode(full)) < 8_000
    assert decode(encode(seen)) == seen
