"""When a supplier that is down is asked again, and by whom; by a clock that the test moves."""

from __future__ import annotations

import math
from random import Random

import pytest

from connectors.runner.breaker import FAILURES_MIN, PAUSE_S, PAUSE_S_MAX, Breaker, State


class Clock:
    def __init__(self) -> None:
        self.s = 1_000.0

    def now_ms(self) -> int:
        return int(self.s * 1_000)

    def monotonic_s(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def breaker(clock: Clock, *feeds: str) -> Breaker:
    one = Breaker(clock, Random(1))
    for feed in feeds:
        one.join(feed)
    return one


def stands(one: Breaker) -> State:
    """Its state; a call, so that the type check does not think that it stays."""
    return one.state


def opened(clock: Clock, *feeds: str) -> Breaker:
    one = breaker(clock, *feeds)
    for n in range(max(FAILURES_MIN, len(feeds))):
        one.failed(feeds[n % len(feeds)], 0)
    assert stands(one) is State.OPEN
    return one


def test_it_opens_when_the_latest_poll_of_every_feed_has_failed_and_some_in_a_row(clock: Clock) -> None:
    one = breaker(clock, "a", "b")
    for _ in range(FAILURES_MIN):
        one.failed("a", 0)
    assert stands(one) is State.CLOSED, "b has not failed: the fault may be a's own"
    assert one.wait_s("a") == one.wait_s("b") == 0
    one.failed("b", 0)
    assert stands(one) is State.OPEN
    assert 0 < one.wait_s("a") <= PAUSE_S


def test_a_feed_that_is_answered_keeps_it_closed_and_begins_the_count_anew(clock: Clock) -> None:
    one = breaker(clock, "a", "b")
    for _ in range(FAILURES_MIN - 1):
        one.failed("a", 0)
    one.answered("b")
    one.failed("b", 0)
    assert stands(one) is State.CLOSED
    one.answered("b")
    for _ in range(100):
        one.failed("a", 0)
    assert stands(one) is State.CLOSED


def test_once_the_pause_is_over_one_feed_tries_and_the_others_wait_for_what_comes_of_it(clock: Clock) -> None:
    one = opened(clock, "a", "b", "c")
    clock.s += one.wait_s("b")
    assert one.wait_s("b") == 0
    assert stands(one) is State.HALF_OPEN
    assert one.wait_s("b") == 0, "it is b that tries"
    assert one.wait_s("a") == one.wait_s("c") == math.inf
    one.failed("a", 0)
    assert stands(one) is State.HALF_OPEN, "a had asked before it opened"
    one.failed("b", 0)
    assert stands(one) is State.OPEN
    assert 0 < one.wait_s("a") < math.inf


def test_pauses_grow_to_a_limit_and_are_drawn_and_the_suppliers_own_wish_holds(clock: Clock) -> None:
    one, pauses = opened(clock, "a"), []
    for _ in range(12):
        pauses.append(one.wait_s("a"))
        clock.s += pauses[-1]
        assert one.wait_s("a") == 0
        one.failed("a", 0)
    for n, pause_s in enumerate(pauses):
        most_s = min(PAUSE_S * 2**n, PAUSE_S_MAX)
        assert most_s / 2 <= pause_s <= most_s
    assert len({pause_s / PAUSE_S_MAX for pause_s in pauses}) == 12
    clock.s += one.wait_s("a")
    assert one.wait_s("a") == 0
    one.failed("a", 900)
    assert one.wait_s("a") == pytest.approx(900)


def test_with_one_answer_all_may_ask_again_and_are_told_so(clock: Clock) -> None:
    one = opened(clock, "a", "b")
    before = one.changed
    clock.s += one.wait_s("a")
    assert one.wait_s("a") == 0
    assert before.is_set()
    trying = one.changed
    assert not trying.is_set()
    one.answered("a")
    assert trying.is_set()
    assert (stands(one), one.wait_s("a"), one.wait_s("b")) == (State.CLOSED, 0, 0)
    one.failed("a", 0)
    assert stands(one) is State.CLOSED, "it takes as many failures as before to open again"


def test_a_feed_that_ends_while_it_tries_leaves_that_to_another_at_once(clock: Clock) -> None:
    one = opened(clock, "a", "b")
    clock.s += one.wait_s("a")
    assert one.wait_s("a") == 0
    one.leave("a")
    assert one.wait_s("b") == 0
    assert stands(one) is State.HALF_OPEN


def test_a_try_without_a_verdict_is_made_again_soon_but_not_at_once(clock: Clock) -> None:
    one = opened(clock, "a")
    clock.s += one.wait_s("a")
    assert one.wait_s("a") == 0
    one.no_verdict("a")
    assert (stands(one), one.wait_s("a")) == (State.OPEN, PAUSE_S)


def test_many_feeds_of_a_supplier_that_is_down_ask_no_more_often_than_one(clock: Clock) -> None:
    feeds = [f"f{n}" for n in range(20)]
    one, asked, hour_s = opened(clock, *feeds), 0, 3_600
    end_s = clock.s + hour_s
    while clock.s < end_s:
        for feed in feeds:
            if one.wait_s(feed) == 0:
                asked += 1
                one.failed(feed, 0)
        clock.s += 1
    assert asked <= hour_s / (PAUSE_S_MAX / 2) + 6
