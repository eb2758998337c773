"""Writers that do one thing wrong, once: what the checks have to see. Used by the checker's tests."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from inventory.reservations.decide import Decision, expire
from schemas.reservations import COMMITTED, HELD, REFUSED, RELEASED, Hold
from tests.linearizability.calls import RESERVE, Asked
from tests.linearizability.imagined import Writer, reservation_of

AFTER, SHOWS_AFTER = 60, 20  # decisions


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


class RefusedChangeIsDecidedAnew(Wrong):
    """The repeat of a change that was refused, or had nothing to do, is told another thing than the first one."""

    def carry_out(self, asked: Asked, now_ms: int) -> None:
        own_id = reservation_of(asked)
        hold = self.holds.get(own_id)
        first = None if hold is None else hold.unchanged_by(self.command(asked)["command_id"])
        if hold is not None and first is not None:
            is_other = (first.state, first.open) != (hold.state, hold.open_units)
            if is_other and self.plant():
                kept = [one for one in hold.unchanged if one != first]
                self.holds[own_id] = replace(hold, unchanged=kept)
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
    *(RefusedChangeIsDecidedAnew, RepeatGetsMore, StaleRepeat),
]
