"""When what was read of a topic that is compacted meanwhile is whole."""

from __future__ import annotations

from state.catching_up import CatchingUp

PASS_S = 300.0


def test_an_end_that_is_reached_in_time_is_whole() -> None:
    one = CatchingUp(PASS_S)
    assert one.look(10, -1, 0) is None, "no end is known"
    one.heard(100, 0)
    one.heard(200, 1)
    assert one.look(99, -1, 2) is False
    assert one.look(100, -1, PASS_S) is True
    assert one.target is None


def test_one_that_is_reached_too_late_is_not_and_the_next_one_may_be() -> None:
    one = CatchingUp(PASS_S)
    one.heard(100, 0)
    assert one.look(100, -1, PASS_S + 1) is False, "its parts may have been compacted between"
    one.heard(200, PASS_S + 2)
    assert one.look(150, -1, PASS_S + 3) is False
    assert one.look(200, -1, PASS_S + 4) is True


def test_who_falls_far_behind_is_not_whole_until_the_end_is_reached_again() -> None:
    one = CatchingUp(PASS_S)
    one.heard(100, 0)
    assert one.look(100, -1, 1) is True
    one.heard(200, 2)
    assert one.look(150, -1, 3) is None, "a moment behind, as always"
    assert one.look(160, -1, PASS_S + 3) is False
    assert one.look(200, -1, PASS_S + 4) is False
    one.heard(200, PASS_S + 5)
    assert one.look(201, -1, PASS_S + 6) is True


def test_who_stood_still_for_long_and_comes_past_the_end_of_before_is_not_whole() -> None:
    one = CatchingUp(PASS_S)
    one.heard(100, 0)
    assert one.look(100, -1, 1) is True
    one.heard(110, 2)
    assert one.look(130, 100, PASS_S + 3) is False, "what it met is of many moments"
    one.heard(200, PASS_S + 4)
    assert one.look(200, -1, PASS_S + 5) is True


def test_who_stands_at_the_last_stable_offset_is_whole_however_long_a_transaction_hangs() -> None:
    one = CatchingUp(PASS_S)
    one.heard(100, 0)
    assert one.look(100, 100, 1) is True
    one.heard(200, 2)
    for now_s in (10, 10 * PASS_S, 100 * PASS_S):
        assert one.look(100, 100, now_s) is None
    assert one.look(120, 100, 100 * PASS_S + 1) is None
    assert one.look(200, 200, 100 * PASS_S + 2) is True
