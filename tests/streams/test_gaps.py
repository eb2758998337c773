"""Which of the messages that a fetch brings follow the committed position without a gap."""

from __future__ import annotations

from confluent_kafka import Message

from streams.cursor import Cursor


def taken(cursor: Cursor, *offsets: int) -> tuple[list[int | None], bool]:
    following, is_off = cursor.following([Message(offset=offset) for offset in offsets])
    return [message.offset() for message in following], is_off


def test_a_gap_is_passed_when_it_is_still_there_the_second_time() -> None:
    cursor = Cursor(5)
    assert taken(cursor, 5, 6, 9) == ([5, 6], True)
    assert taken(cursor, 5, 6, 9) == ([5, 6, 9], False)


def test_a_gap_that_was_not_there_the_second_time_is_another_one_the_third_time() -> None:
    cursor = Cursor(5)
    assert taken(cursor, 9) == ([], True)
    assert taken(cursor, 5, 6, 8) == ([5, 6], True)
    assert taken(cursor, 9) == ([], True)
    assert taken(cursor, 5, 6) == ([5, 6], False)
    assert taken(cursor, 9) == ([], True)


def test_what_lies_below_the_position_is_passed_over() -> None:
    assert taken(Cursor(5), 3, 4, 5, 6) == ([5, 6], False)
