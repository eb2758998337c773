"""Which of the messages that a fetch brings follow the committed position without a gap."""

from __future__ import annotations

from typing import cast

from confluent_kafka import Message

from state.store import PartitionStore
from streams.restore import Assigned, Stage

UNUSED = cast("PartitionStore", None)


def assigned(next_offset: int) -> Assigned:
    partition = Assigned(0, UNUSED, 0.0)
    partition.next_offset, partition.stage = next_offset, Stage.READY
    return partition


def fetched(*offsets: int) -> list[Message]:
    return [Message(offset=offset) for offset in offsets]


def taken(partition: Assigned, *offsets: int) -> list[int | None]:
    return [message.offset() for message in partition.contiguous(fetched(*offsets))]


def test_a_gap_is_passed_when_it_is_still_there_the_second_time() -> None:
    partition = assigned(5)
    assert taken(partition, 5, 6, 9) == [5, 6]
    assert partition.stage is Stage.SEEK
    partition.stage = Stage.READY
    assert taken(partition, 5, 6, 9) == [5, 6, 9]
    assert partition.stage is Stage.READY


def test_a_gap_that_was_not_there_the_second_time_is_another_one_the_third_time() -> None:
    partition = assigned(5)
    assert taken(partition, 9) == []
    assert taken(partition, 5, 6, 8) == [5, 6]
    assert taken(partition, 9) == []
    assert taken(partition, 5, 6) == [5, 6]
    assert taken(partition, 9) == []
    assert partition.stage is Stage.SEEK


def test_what_lies_below_the_position_is_passed_over() -> None:
    assert taken(assigned(5), 3, 4, 5, 6) == [5, 6]
