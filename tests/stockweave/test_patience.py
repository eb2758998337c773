"""Waiting at a start: asked again until it is there, or a minute is over."""

from __future__ import annotations

import pytest

from stockweave import patience
from stockweave.errors import Fatal, Retriable


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that were made; time passes with them alone."""
    made: list[float] = []
    monkeypatch.setattr("stockweave.patience.time.monotonic", lambda: sum(made))
    monkeypatch.setattr("stockweave.patience.time.sleep", made.append)
    return made


def test_what_is_not_up_yet_is_asked_again(waits: list[float]) -> None:
    answers = iter([Retriable("away"), Retriable("away"), None])

    def reach() -> str:
        if (why := next(answers)) is not None:
            raise why
        return "there"

    assert patience.patiently(reach, "test_waits") == "there"
    assert len(waits) == 2


def test_what_is_not_up_in_a_minute_is_given_up(waits: list[float]) -> None:
    def reach() -> None:
        raise Retriable("away")

    with pytest.raises(Retriable, match="away"):
        patience.patiently(reach, "test_waits")
    assert patience.WAIT_S <= sum(waits) <= patience.WAIT_S + 2 * patience.RETRY_S


def test_what_never_comes_up_is_not_waited_for(waits: list[float]) -> None:
    def reach() -> None:
        raise Fatal("a setting is wrong")

    with pytest.raises(Fatal):
        patience.patiently(reach, "test_waits")
    assert waits == []
