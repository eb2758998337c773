"""What one process tells must not go back; that another one is behind is counted, and no fault."""

from __future__ import annotations

from typing import Any

import pytest

from tests.linearizability import reads
from tests.linearizability.history import Attempt, Read, Record
from tests.linearizability.imagined import Clients, Writer

HELD, COMMITTED, SHIPPED = ("HELD", 3), ("COMMITTED", 3), ("FULFILLED", 2)


def told(*steps: tuple[str, int]) -> dict[str, Any]:
    out = sum(units for fact, units in steps if fact == "FULFILLED")
    state = "COMMITTED" if COMMITTED in steps else "HELD"
    line = {"quantity": 3, "reserved_quantity": 3, "open_quantity": 3 - out, "fulfilled_quantity": out}
    history = [{"fact": fact, "units": units} for fact, units in steps]
    return {"reservation_id": "r", "state": state, "lines": [line], "history": history}


def read(api: str, between: tuple[int, int], *steps: tuple[str, int]) -> Read:
    return Read(sku="s", api=api, reservation="r", called=between[0], returned=between[1], told=told(*steps))


def answer(api: str, between: tuple[int, int], *steps: tuple[str, int]) -> Attempt:
    body = {name: value for name, value in told(*steps).items() if name != "history"}
    called, returned = between
    fields: dict[str, Any] = {"call": 1, "client": 1, "sku": "s", "action": "commit", "reservation": "r"}
    return Attempt(api=api, called=called, returned=returned, status=200, told=body, **fields)


LATEST = read("b", (90, 99), HELD, COMMITTED, SHIPPED)


def test_answers_of_a_writer_that_does_nothing_wrong_have_no_fault() -> None:
    findings = reads.check(Clients(2, Writer()).records)
    assert (findings.problems, findings.behind) == ([], 0)
    assert findings.reads > 20


@pytest.mark.parametrize(
    "records",
    [
        [read("a", (0, 10), HELD, COMMITTED), read("a", (20, 30), HELD), LATEST],
        [answer("a", (0, 10), HELD, COMMITTED), read("a", (20, 30), HELD), LATEST],
        [read("a", (0, 10), HELD, COMMITTED, SHIPPED), answer("a", (20, 30), HELD, COMMITTED), LATEST],
        [
            read("a", (0, 10), HELD, ("EXTENDED", 3)),
            read("a", (20, 30), HELD),
            read("b", (90, 99), HELD, ("EXTENDED", 3)),
        ],
    ],
)
def test_a_process_that_goes_back_is_named(records: list[Record]) -> None:
    problems = reads.check(records).problems
    assert problems
    assert all(problem.startswith("r at a") for problem in problems)


def test_a_process_may_be_behind_another_and_calls_that_overlap_may_tell_either() -> None:
    records: list[Record] = [
        answer("b", (0, 10), HELD, COMMITTED),
        read("a", (20, 30), HELD),
        read("b", (15, 40), HELD, COMMITTED, SHIPPED),
        read("b", (20, 35), HELD, COMMITTED),
        LATEST,
    ]
    findings = reads.check(records)
    assert (findings.problems, findings.behind, findings.reads) == ([], 1, 4)


def test_a_history_that_is_not_the_beginning_of_the_last_one_is_named() -> None:
    records: list[Record] = [read("a", (0, 10), HELD, ("EXTENDED", 3)), LATEST]
    [problem] = reads.check(records).problems
    assert "in the end" in problem
