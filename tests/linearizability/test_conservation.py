"""The check of conservation can fail: each kind of harm, done to what a flawless run leaves behind, is named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from schemas.reservations import COMMITTED, HELD, RELEASED, UNCHANGED
from tests.linearizability.conservation import Evidence, Row, check, last_told
from tests.linearizability.history import Attempt
from tests.linearizability.imagined import DOOR, SKU, Clients, Writer


@pytest.fixture
def flawless() -> Evidence:
    writer = Writer()
    records = Clients(3, writer).records
    left = writer.row.on_hand - writer.taken
    row = Row(max(0, left), writer.row.on_hand, writer.taken)
    told, _ = last_told(records)
    return Evidence(records, {DOOR.name: {SKU: row}}, told, [*writer.facts], dict(writer.holds), partitions=1)


def a_fact(evidence: Evidence, kind: str) -> dict[str, Any]:
    """One of a call that was answered."""
    told = {one.reservation for one in evidence.records if isinstance(one, Attempt) and one.status == 200}
    return next(dict(f) for f in evidence.facts if f["fact"] == kind and f["reservation_id"] in told and f["units"])


def drop(evidence: Evidence, fact: dict[str, Any]) -> None:
    """As if it had never been: those after it are numbered anew."""
    evidence.facts = [dict(one) for one in evidence.facts if one["number"] != fact["number"]]
    for number, one in enumerate(evidence.facts):
        one["number"] = number  # type: ignore[index]


def a_lost_fact(evidence: Evidence) -> str:
    evidence.facts.remove(a_fact(evidence, COMMITTED))
    return "follows fact"


def a_lost_release(evidence: Evidence) -> str:
    last = {fact["reservation_id"]: fact for fact in evidence.facts}  # what is refused later tells of it too
    drop(evidence, next(dict(fact) for fact in last.values() if fact["fact"] == RELEASED))
    return "are taken by the log"


def a_refused_command_that_is_carried_out(evidence: Evidence) -> str:
    fact = dict(next(fact for fact in evidence.facts if fact["fact"] == UNCHANGED))
    evidence.facts.append(fact | {"number": len(evidence.facts), "fact": COMMITTED, "unchanged": None})
    return "it was refused before"


def an_answer_that_is_not_in_the_log(evidence: Evidence) -> str:
    drop(evidence, a_fact(evidence, "FULFILLED"))
    return "was answered, and is not in the log"


def a_command_carried_out_twice(evidence: Evidence) -> str:
    fact = a_fact(evidence, COMMITTED)
    evidence.facts.append(fact | {"number": len(evidence.facts)})
    return "was carried out 2 times"


def a_reservation_made_twice(evidence: Evidence) -> str:
    fact = a_fact(evidence, HELD)
    evidence.facts.append(fact | {"number": len(evidence.facts), "command_id": ""})
    return "was made 2 times"


def a_fact_that_nobody_asked_for(evidence: Evidence) -> str:
    fact = a_fact(evidence, COMMITTED)
    evidence.facts.append(fact | {"number": len(evidence.facts), "command_id": "of nobody"})
    return "nobody asked for it"


def a_change_before_its_beginning(evidence: Evidence) -> str:
    fact = a_fact(evidence, COMMITTED) | {"number": 0, "reservation_id": "unheard of"}
    evidence.facts = [fact, *({**one, "number": one["number"] + 1} for one in evidence.facts)]
    return "before it was made"


def a_unit_too_many(evidence: Evidence) -> str:
    row = evidence.rows[DOOR.name][SKU]
    evidence.rows = {DOOR.name: {SKU: row._replace(available=row.available + 1)}}
    return "units came and"


def a_unit_too_few_reserved(evidence: Evidence) -> str:
    row = evidence.rows[DOOR.name][SKU]
    evidence.rows = {DOOR.name: {SKU: row._replace(reserved=row.reserved - 1)}}
    return "units came and"


def a_hold_that_differs(evidence: Evidence) -> str:
    own_id, hold = next((own_id, hold) for own_id, hold in evidence.holds.items() if hold.state == HELD)
    evidence.holds = dict(evidence.holds) | {own_id: msgspec.structs.replace(hold, state=COMMITTED)}
    return "beside its row"


def a_reservation_told_otherwise(evidence: Evidence) -> str:
    own_id = next(own_id for own_id, told in evidence.reservations.items() if told["state"] == HELD)
    told = copy.deepcopy(evidence.reservations[own_id]) | {"state": COMMITTED}
    evidence.reservations = dict(evidence.reservations) | {own_id: told}
    return "by the API, and"


def a_reservation_that_no_read_tells(evidence: Evidence) -> str:
    own_id = next(own_id for own_id, told in evidence.reservations.items() if told["state"] == RELEASED)
    evidence.reservations = {known: told for known, told in evidence.reservations.items() if known != own_id}
    return "no answer and no read tells it"


HARM: list[Callable[[Evidence], str]] = [
    *(a_lost_fact, a_lost_release, an_answer_that_is_not_in_the_log, a_command_carried_out_twice),
    *(
        a_refused_command_that_is_carried_out,
        a_reservation_made_twice,
        a_fact_that_nobody_asked_for,
        a_change_before_its_beginning,
        a_unit_too_many,
    ),
    *(a_unit_too_few_reserved, a_hold_that_differs, a_reservation_told_otherwise, a_reservation_that_no_read_tells),
]


def test_what_a_flawless_run_leaves_behind_has_no_fault(flawless: Evidence) -> None:
    findings = check(flawless)
    assert findings.problems == []
    assert min(findings.units, findings.reservations, findings.facts) > 20


@pytest.mark.parametrize("harm", HARM)
def test_harm_is_named(flawless: Evidence, harm: Callable[[Evidence], str]) -> None:
    named = harm(flawless)
    assert any(named in problem for problem in check(flawless).problems), check(flawless).problems
