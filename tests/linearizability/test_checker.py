"""The checker takes what is right, however calls overlap, and refuses what is not: each kind of wrong, planted once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from inventory.reservations.decide import Decision, expire
from schemas.reservations import COMMITTED, HELD, REFUSED, RELEASED, SOLD_OUT, Hold
from tests.linearizability import history, porcupine
from tests.linearizability.calls import RESERVE, Asked
from tests.linearizability.history import Attempt, Decided, Record, Stocked
from tests.linearizability.imagined import Clients, Writer, reservation_of
from tests.linearizability.porcupine import ILLEGAL, OK, Verdict

AFTER, SHOWS_AFTER = 60, 20  # decisions
SOME_TIME = "2026-11-21T09:45:00.000Z"


class Wrong(Writer):
    """Does one thing wrong once, when there has been enough that can be wrong."""

    planted_at = 0

    def plant(self) -> bool:
        """Whether it is time."""
        if self.planted_at or self.decided < AFTER:
            return False
        self.planted_at = self.decided
        return True


class DoubledUnit(Wrong):
    """Units of which there are none left are sold once more."""

    def carry_out(self, asked: Asked, now_ms: int) -> None:
        is_new = asked.action == RESERVE and reservation_of(asked) not in self.holds
        if is_new and 3 <= asked.quantity < 9 and self.row.on_hand <= self.taken and self.plant():
            self.supply(asked.quantity)
            super().carry_out(asked, now_ms)
            self.supply(-asked.quantity)
        else:
            super().carry_out(asked, now_ms)


class LostRelease(Wrong):
    """Units that were given back stay taken."""

    def take(self, decision: Decision | None, command_id: str | None) -> None:
        super().take(decision, command_id)
        if decision is not None and decision.fact == RELEASED and self.plant():
            self.supply(-decision.units)


class LostCommit(Wrong):
    """A reservation is held again after its commit was answered."""

    before: Hold | None = None

    def take(self, decision: Decision | None, command_id: str | None) -> None:
        was = None if decision is None else self.holds.get(decision.hold.reservation_id)
        super().take(decision, command_id)
        if decision is not None and decision.fact == COMMITTED and self.plant():
            self.before = was

    def carry_out(self, asked: Asked, now_ms: int) -> None:
        if self.before is not None and self.decided == self.planted_at + SHOWS_AFTER:
            self.holds[self.before.reservation_id] = self.before
        super().carry_out(asked, now_ms)


class LapsedTooEarly(Wrong):
    """A reservation that was not committed lapses before its time."""

    def carry_out(self, asked: Asked, now_ms: int) -> None:
        super().carry_out(asked, now_ms)
        long = [h for h in self.holds.values() if h.state == HELD and h.expires_at and h.expires_at > now_ms + 10**7]
        if long and self.plant():
            self.take(expire(long[0], long[0].expires_at or 0), None)


class PromisedBeforeItIsTaken(Wrong):
    """Units are promised to one, and taken off only after others were promised them."""

    units = 0

    def take(self, decision: Decision | None, command_id: str | None) -> None:
        super().take(decision, command_id)
        if decision is not None and decision.fact == HELD and self.plant():
            self.units = decision.units
            self.supply(self.units)

    def carry_out(self, asked: Asked, now_ms: int) -> None:
        if self.planted_at and self.decided == self.planted_at + SHOWS_AFTER:
            self.supply(-self.units)
        super().carry_out(asked, now_ms)


class DoneAgain(Wrong):
    """A repeat gives units back a second time."""

    again = ""

    def command(self, asked: Asked) -> Any:
        made = super().command(asked)
        if asked.key and asked.key == self.again:
            made["command_id"] += "again"
        return made

    def carry_out(self, asked: Asked, now_ms: int) -> None:
        hold = self.holds.get(reservation_of(asked))
        if asked.action == "release" and hold is not None and hold.open_units >= asked.quantity > 0:
            is_repeat = hold.answers(self.command(asked)["command_id"])
            if is_repeat and hold.state in (HELD, COMMITTED) and self.plant():
                self.again = asked.key
        super().carry_out(asked, now_ms)
        self.again = ""


class RefusalTakenBack(Wrong):
    """A key that was told SOLD_OUT gets units later."""

    def carry_out(self, asked: Asked, now_ms: int) -> None:
        own_id = reservation_of(asked)
        is_refused = own_id in self.holds and self.holds[own_id].state == REFUSED
        if is_refused and self.row.on_hand - self.taken >= asked.quantity and self.plant():
            del self.holds[own_id]
        super().carry_out(asked, now_ms)


class RepeatGetsMore(Wrong):
    """A repeat of a call that reserved is told another quantity than the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.told: set[str] = set()

    def reply(self, asked: Asked, now_ms: int) -> tuple[int, dict[str, Any]]:
        status, body = super().reply(asked, now_ms)
        if status == 201:
            if asked.key in self.told and self.plant():
                body["lines"][0]["reserved_quantity"] += 1
            self.told.add(asked.key)
        return status, body


class StaleRepeat(Wrong):
    """A repeat is told how the reservation stood before a change that was answered long ago."""

    def __init__(self) -> None:
        super().__init__()
        self.former: dict[str, tuple[int, Hold]] = {}

    def take(self, decision: Decision | None, command_id: str | None) -> None:
        if decision is not None and (former := self.holds.get(decision.hold.reservation_id)) is not None:
            self.former[former.reservation_id] = self.decided, former
        super().take(decision, command_id)

    def reply(self, asked: Asked, now_ms: int) -> tuple[int, dict[str, Any]]:
        own_id = reservation_of(asked)
        changed_at, former = self.former.get(own_id, (self.decided, None))
        now = self.holds.get(own_id)
        if former is None or now is None or changed_at > self.decided - SHOWS_AFTER or asked.action != RESERVE:
            return super().reply(asked, now_ms)
        if (former.state, former.open_units) == (now.state, now.open_units) or not self.plant():
            return super().reply(asked, now_ms)
        self.holds[own_id] = former
        try:
            return super().reply(asked, now_ms)
        finally:
            self.holds[own_id] = now


WRONG = [
    *(DoubledUnit, LostRelease, LostCommit, LapsedTooEarly, PromisedBeforeItIsTaken, DoneAgain, RefusalTakenBack),
    *(RepeatGetsMore, StaleRepeat),
]


def judged(checker: Path, folder: Path, records: Iterable[Record]) -> Verdict:
    path = folder / "history.ndjson"
    history.write(records, path)
    [verdict] = porcupine.judge(checker, path)
    return verdict


@pytest.mark.parametrize("seed", range(8))
def test_what_was_decided_one_by_one_is_linearizable_however_calls_overlap_and_outcomes_stay_unknown(
    checker: Path, tmp_path: Path, seed: int
) -> None:
    records = Clients(seed, Writer()).records
    verdict = judged(checker, tmp_path, records)
    assert (verdict.result, verdict.searched, verdict.why) == (OK, False, [])
    assert verdict.doubtful > 5
    alone = judged(checker, tmp_path, [one for one in records if not isinstance(one, Decided)])
    assert (alone.result, alone.searched) == (OK, True)


@pytest.mark.parametrize("wrong", WRONG)
def test_each_kind_of_wrong_is_refused_where_it_could_be_seen(
    checker: Path, tmp_path: Path, wrong: type[Wrong]
) -> None:
    refused = 0
    for seed in range(8):
        writer = wrong()
        verdict = judged(checker, tmp_path, Clients(seed, writer).records)
        refused += verdict.result == ILLEGAL
        assert writer.planted_at or verdict.result == OK, (seed, verdict)
    assert refused >= 2


def asked(call: int, between: tuple[int, int], status: int, key: str, told: dict[str, Any], **more: Any) -> Attempt:
    fields: dict[str, Any] = {
        "client": call,
        "api": "api",
        "sku": "s",
        "action": RESERVE,
        "order": key,
        "quantity": 1,
    } | more
    called, returned = (ms * 1_000_000 for ms in between)
    return Attempt(
        call=call, key=key, called=called, returned=returned, status=status, told=told, expires_s=14_400, **fields
    )


def reserved(call: int, between: tuple[int, int], key: str, expires_at: str | None = SOME_TIME) -> Attempt:
    told = {"reserved_quantity": 1, "reservation_id": f"id-{key}", "expires_at": expires_at}
    return asked(call, between, 201, key, told)


def refused(call: int, between: tuple[int, int], key: str, left: int = 0) -> Attempt:
    told = {"code": SOLD_OUT, "lines": [{"sku": "s", "left": left}]}
    return asked(call, between, 409, key, told, quantity=left + 1)


def unheard(call: int, between: tuple[int, int], key: str) -> Attempt:
    return asked(call, between, 0, key, {})


def given_back(call: int, between: tuple[int, int], key: str) -> Attempt:
    line = {"quantity": 1, "reserved_quantity": 1, "open_quantity": 0, "fulfilled_quantity": 0}
    told = {"reservation_id": f"id-{key}", "state": RELEASED, "expires_at": None, "lines": [line]}
    return asked(
        call, between, 200, f"back-{key}", told, action="release", reservation=f"id-{key}", quantity=0, order=""
    )


A, B, C, D = (0, 10), (20, 30), (40, 50), (60, 70)
WHOLE = (0, 70)
SMALL: dict[str, tuple[str, list[Attempt]]] = {
    "one has the last unit": (OK, [reserved(1, A, "a"), refused(2, B, "b")]),
    "two have the last unit": (ILLEGAL, [reserved(1, A, "a"), reserved(2, B, "b")]),
    "of two at once one has it": (OK, [refused(1, A, "a"), reserved(2, (5, 15), "b")]),
    "refused before anybody has it": (ILLEGAL, [refused(1, A, "a"), reserved(2, B, "b")]),
    "what is given back can be had": (OK, [reserved(1, A, "a"), given_back(2, B, "a"), reserved(3, C, "b")]),
    "what is given back is lost": (ILLEGAL, [reserved(1, A, "a"), given_back(2, B, "a"), refused(3, C, "b")]),
    "a repeat is answered as the call": (OK, [reserved(1, A, "a"), refused(2, B, "b"), reserved(3, C, "a")]),
    "a repeat is refused": (ILLEGAL, [reserved(1, A, "a"), refused(2, B, "a")]),
    "a refused key has it later": (
        ILLEGAL,
        [reserved(1, A, "a"), refused(2, B, "b"), given_back(3, C, "a"), reserved(4, D, "b")],
    ),
    "a repeat is told the end": (OK, [reserved(1, A, "a"), given_back(2, B, "a"), reserved(3, C, "a", None)]),
    "a repeat is told what was": (ILLEGAL, [reserved(1, A, "a"), given_back(2, B, "a"), reserved(3, C, "a")]),
    "what was not heard of has it": (OK, [unheard(1, A, "a"), refused(2, B, "b"), refused(3, C, "c")]),
    "what was not heard of came late": (OK, [unheard(1, A, "a"), refused(2, B, "b", 1), refused(3, C, "c")]),
    "what was not heard of came never": (OK, [unheard(1, A, "a"), reserved(2, B, "b"), refused(3, C, "c")]),
    "what was not heard of went again": (ILLEGAL, [unheard(1, A, "a"), refused(2, B, "b"), reserved(3, C, "c")]),
    "a call without an end has it": (OK, [reserved(1, WHOLE, "a"), refused(2, B, "b"), refused(3, C, "c")]),
    "a call without an end has it too late": (ILLEGAL, [reserved(1, C, "a"), reserved(2, WHOLE, "b")]),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_history_is_judged_as_it_should_be(checker: Path, tmp_path: Path, name: str) -> None:
    result, attempts = SMALL[name]
    stock = Stocked(sku="s", units=1, called=-20, returned=-10)
    assert judged(checker, tmp_path, [stock, *attempts]).result == result
