"""The watchdog; the calls themselves are tested with the processor, against the real broker."""

from __future__ import annotations

import threading

import pytest

from streams import transaction
from streams.transaction import Watchdog


class Stopped:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now_ms(self) -> int:
        return int(self.at_s * 1_000)

    def monotonic_s(self) -> float:
        return self.at_s


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "LOOK_EVERY_S", 0.01)


@pytest.mark.usefixtures("quick_looks")
def test_a_call_that_does_not_come_back_ends_the_process_and_names_itself() -> None:
    clock, gave_up, named = Stopped(), threading.Event(), []

    def give_up(call: str) -> None:
        named.append(call)
        gave_up.set()

    watchdog = Watchdog(clock, give_up)
    watchdog.begin("commit_transaction")
    clock.at_s = transaction.HUNG_S + 1
    assert gave_up.wait(5)
    watchdog.stop()
    assert set(named) == {"commit_transaction"}


@pytest.mark.usefixtures("quick_looks")
def test_a_call_that_may_take_long_is_left_alone_until_the_worker_is_told_to_stop() -> None:
    clock, gave_up = Stopped(), threading.Event()
    hung_s = transaction.hung_s(30_000)
    assert hung_s == 35
    watchdog = Watchdog(clock, lambda _: gave_up.set(), hung_s)
    watchdog.begin("send_offsets_to_transaction")
    clock.at_s = hung_s - 1
    assert not gave_up.wait(0.2)
    watchdog.hurry()
    clock.at_s += transaction.HUNG_S - 1
    assert not gave_up.wait(0.2)
    clock.at_s += 2
    assert gave_up.wait(5)
    watchdog.stop()


def test_a_call_is_hung_after_the_transactions_timeout_at_the_earliest() -> None:
    assert [transaction.hung_s(ms) for ms in (1_000, 10_000, 900_000)] == [transaction.HUNG_S, 15, 905]


@pytest.mark.usefixtures("quick_looks")
def test_a_call_that_came_back_is_not_watched_any_more() -> None:
    clock, gave_up = Stopped(), threading.Event()
    watchdog = Watchdog(clock, lambda _: gave_up.set())
    watchdog.begin("commit_transaction")
    watchdog.end()
    clock.at_s = transaction.HUNG_S + 1
    assert not gave_up.wait(0.2)
    watchdog.stop()
