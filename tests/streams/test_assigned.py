"""When a partition that is ready may decide commands, and what it tells nobody, since a former generation has."""

from __future__ import annotations

from typing import cast

from confluent_kafka import Message

from schemas.topics import UPDATES
from state.store import PartitionStore
from streams.restore import Assigned

UNUSED = cast("PartitionStore", None)


def test_nothing_is_decided_by_rows_that_lack_updates_by_which_the_former_generation_decided() -> None:
    assigned = Assigned(0, UNUSED, 0.0, {UPDATES.name: 5})
    for next_offset, expected in ((4, False), (5, True), (6, True)):
        assigned.cursor.next_offset = next_offset
        assert assigned.may_decide is expected


def test_nothing_is_decided_by_rows_that_lack_facts() -> None:
    assigned = Assigned(0, UNUSED, 0.0)
    assigned.cursor.next_offset = 0
    assert assigned.may_decide
    assigned.missed = [{"number": 0}]
    assert not assigned.may_decide


def updates(*offsets: int) -> list[Message]:
    return [Message(topic=UPDATES.name, partition=0, offset=offset) for offset in offsets]


def test_what_a_former_generation_has_folded_is_taken_by_itself_and_told_nobody() -> None:
    assigned = Assigned(0, UNUSED, 0.0, {UPDATES.name: 5})
    for next_offset, quiet, taken in ((3, True, [3, 4]), (5, False, [5, 6, 7])):
        assigned.cursor.next_offset = next_offset
        assert assigned.is_quiet is quiet
        come = updates(*range(next_offset, 8))
        assert [message.offset() for message in assigned.told_alike(come)] == taken


def test_facts_that_were_told_come_before_any_update() -> None:
    assigned = Assigned(0, UNUSED, 0.0)
    assigned.cursor.next_offset = 3
    assigned.missed = [{"number": 0}]
    assert (assigned.is_quiet, assigned.told_alike(updates(3, 4))) == (True, [])
