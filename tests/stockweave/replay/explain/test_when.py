"""Laws of `--as-of`: RFC 3339 or milliseconds; whatever else is refused by its name, with what to give."""

from __future__ import annotations

import pytest

from stockweave.errors import Fatal
from stockweave.replay.explain.when import parse_as_of

NOW_MS = 1_795_000_000_000
AT_MS = 1_769_853_600_123  # 2026-01-31T10:00:00.123Z


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T10:00:00.123Z", "2026-01-31t10:00:00.123z", "2026-01-31 11:00:00.1239+01:00", str(AT_MS),
        " 2026-01-31T04:30:00.123-05:30 ",
    ],
)  # fmt: skip
def test_a_time_may_be_written_in_any_zone_or_as_milliseconds(text: str) -> None:
    assert parse_as_of(text, NOW_MS) == AT_MS


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("yesterday", r"such as 2026-01-31T09:30:00Z"),
        ("2026-01-31T10:00:00", "with its zone"),
        ("2026-01-31", "with its zone"),
        ("", "milliseconds since 1970"),
        ("-5", "milliseconds since 1970"),
        ("2026-02-30T10:00:00Z", "a day and an hour that there are"),
        ("2026-01-31T25:00:00Z", "a day and an hour that there are"),
        ("1769853600", "milliseconds, not seconds"),
        ("2027-01-31T10:00:00Z", "leave it out for the present"),
        (str(NOW_MS + 1), "leave it out for the present"),
        ("9" * 30, "milliseconds since 1970"),
    ],
)
def test_what_is_no_time_is_refused_in_a_line_that_names_the_option_and_the_remedy(text: str, remedy: str) -> None:
    with pytest.raises(Fatal) as refused:
        parse_as_of(text, NOW_MS)
    said = str(refused.value)
    assert said.startswith(f"--as-of is {text!r}")
    assert remedy in said
    assert "\n" not in said


def test_the_present_has_been() -> None:
    assert parse_as_of(str(NOW_MS), NOW_MS) == NOW_MS
