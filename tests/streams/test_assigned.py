"""When a partition that is ready may decide commands."""

from __future__ import annotations

from typing import cast

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
