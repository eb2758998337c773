"""When a feed is read next."""

from __future__ import annotations

from random import Random

import pytest

from connectors.configuration.models import Poll
from connectors.runner.pace import PAUSE_S_MAX, Pace

POLL = Poll(every_s=60.0, fastest_s=10.0, slowest_s=240.0, low_units=3)


def pace(poll: Poll = POLL) -> Pace:
    return Pace(poll, Random(1))


def test_a_feed_that_changes_is_read_sooner_and_one_that_does_not_later_within_its_bounds() -> None:
    one = pace()
    assert [one.polled(changed=True, lowest=None) for _ in range(4)] == [30, 15, 10, 10]
    assert [one.polled(changed=False, lowest=None) for _ in range(9)][-2:] == [240, 240]


@pytest.mark.parametrize(("lowest", "pause_s"), [(3, 30), (4, 90), (None, 90)])
def test_a_count_that_is_low_brings_the_next_poll_sooner(lowest: int | None, pause_s: float) -> None:
    assert pace().polled(changed=False, lowest=lowest) == pause_s


def test_without_bounds_the_rhythm_is_fixed() -> None:
    one = pace(Poll(every_s=60.0))
    assert {one.polled(changed=changed, lowest=0) for changed in (True, False, True)} == {60}


def test_pauses_after_failures_grow_and_are_drawn_and_end_with_a_poll_that_went_well() -> None:
    one = pace()
    pauses = [one.failed(0) for _ in range(40)]
    assert all(2**n * 0.5 <= pause <= 2**n for n, pause in enumerate(pauses[:8]))
    assert PAUSE_S_MAX / 2 <= pauses[-1] <= PAUSE_S_MAX
    assert len(set(pauses)) == 40
    one.polled(changed=True, lowest=None)
    assert one.failed(0) <= 1


def test_a_supplier_that_names_a_pause_gets_it() -> None:
    assert pace().failed(17) == 17
