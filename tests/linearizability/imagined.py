"""Histories without a system: one SKU, decided call by call by the product's own rules, between call and answer.

Some attempts are never heard of; of those some are decided late and some never. A `Writer` that does something wrong
gives histories that have to be refused. Used by the tests of the checks.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from api.reservations import answers, ids, outcomes
from api.reservations.routes import ACTIONS
from inventory.policies import Policies
from inventory.reservations.decide import Case, Command, Decision, decide, expire
from inventory.reservations.facts import Fact, Origin, fact_of
from inventory.reservations.reserved import of_holds
from schemas.keys import source_key
from schemas.reservations import HOLD, Hold
from schemas.rows import Source, StockRow
from tests.inventory.reservations.builders import command
from tests.linearizability.calls import RESERVE, Asked, Door, attempt_at
from tests.linearizability.history import Attempt, Clock, Look, Record, Stocked
from tests.linearizability.order import order
from tests.linearizability.windows import LONG_S, MORE_THAN_THERE_IS

SKU, DOOR = "hot", Door("api", "")
SOURCE = source_key("acme", "default")
BEGAN_MS = 1_700_000_000_000
NS = 1_000_000  # of a millisecond
UNITS, CLIENTS, CALLS = 12, 6, 240
SUPPLIED, SUPPLY_UNITS = 0.06, (1, 6)
REPEATED, CHANGED, SHORT = 0.15, 0.45, 0.2
UNHEARD, NEVER, LATE, GIVEN_UP = 0.1, 0.3, 0.3, 0.4
LATE_MS = (20, 400)


class Writer:
    """Decides, and is what answers are told from; `facts` is its log. Times in ms of UTC."""

    def __init__(self) -> None:
        self.row = StockRow(SKU, 0, 0, 0, {SOURCE: Source()})
        self.holds: dict[str, Hold] = {}
        self.facts: list[Fact] = []
        self.decided = 0
        self.now_ms = BEGAN_MS

    @property
    def taken(self) -> int:
        """Units that reservations have."""
        return sum(entry.units for entries in self.row.reserved.values() for entry in entries)

    def carry_out(self, asked: Asked, now_ms: int) -> None:
        """Decide a call, after what has lapsed."""
        self.decided += 1
        self.now_ms = now_ms
        for lapsing in list(self.holds.values()):
            self.take(expire(lapsing, now_ms), None)
        asks, hold = self.command(asked), self.holds.get(reservation_of(asked))
        self.take(decide(asks, Case(self.row, hold, Policies(), now_ms)), asks["command_id"])

    def take(self, decision: Decision | None, command_id: str | None) -> None:
        """Let a decision hold."""
        if decision is not None:
            self.holds[decision.hold.reservation_id] = decision.hold
            self.row.reserved = of_holds(self.holds.values(), {})
            self.facts.append(fact_of(decision, Origin(len(self.facts), command_id, None, self.now_ms)))

    def supply(self, units: int) -> None:
        """Let units come."""
        self.row.sources[SOURCE].carried += units
        self.row.on_hand += units

    def reply(self, asked: Asked, now_ms: int) -> tuple[int, dict[str, Any]]:
        """Status and body for a call that was decided, by its reservation as it is now."""
        hold, asks = self.holds.get(reservation_of(asked)), self.command(asked)
        if asked.action != RESERVE:
            reply = outcomes.of_change(asks, hold, now_ms)
        else:
            assert hold is not None, "a call that reserves leaves a hold"
            reply = outcomes.of_hold(asks, hold, answers.reservation if asked.full else answers.reserved)
        return reply.status, msgspec.to_builtins(reply.body)

    def command(self, asked: Asked) -> Command:
        """As the API makes it."""
        own_id, reserves = reservation_of(asked), asked.action == RESERVE
        return command(
            HOLD if reserves else ACTIONS[asked.action],
            command_id=own_id if reserves else ids.command_id(ACTIONS[asked.action], asked.key),
            reservation_id=own_id,
            order_id=asked.order or None,
            sku=SKU,
            quantity=asked.quantity,
            allow_partial=asked.partial,
            expires_in_ms=asked.expires_s * 1_000,
            fingerprint=f"{asked.quantity} {asked.partial} {asked.expires_s} {asked.order}",
        )


def reservation_of(asked: Asked) -> str:
    """The id that it is about, or makes."""
    return asked.reservation or ids.reservation_id(SKU, asked.key)


class Clients:
    """Some clients of a writer, each with one call after the other; `records` is what they saw, to the last look."""

    def __init__(self, seed: int, writer: Writer) -> None:
        self.records: list[Record] = [Clock(at=0, wall_ms=BEGAN_MS)]
        self._writer = writer
        self._rng = random.Random(seed)
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._turns, self._names, self._calls = itertools.count(), itertools.count(), itertools.count()
        self._now_ms = 0
        self._left = CALLS
        self._asked: list[Asked] = []
        self._told: dict[str, str] = {}
        self._unheard: list[str] = []
        self._supply(UNITS)
        for client in range(1, CLIENTS + 1):
            self._at(self._rng.randint(50, 80), partial(self._next, client))
        self._run()
        self._close()
        self.records += [*order(writer.facts, self.records)]

    def _next(self, client: int) -> None:
        self._left -= 1
        if self._left < 0:
            return
        if self._rng.random() < SUPPLIED:
            self._supply(self._rng.randint(*SUPPLY_UNITS))
        self._send(client, next(self._calls), self._drawn())

    def _drawn(self) -> Asked:
        rng, drawn = self._rng, self._rng.random()
        if self._asked and drawn < REPEATED:
            return rng.choice(self._asked)
        if self._told and drawn < REPEATED + CHANGED:
            action = rng.choice(("commit", "release", "release", "fulfil", "extend"))
            quantity = rng.randint(1, 2) if action in ("release", "fulfil") and rng.random() < 0.5 else 0
            expires_s = LONG_S if action == "extend" else 0
            return Asked(SKU, action, self._new("key"), "", rng.choice(list(self._told)), quantity, expires_s=expires_s)
        expires_s, in_part = (1 if rng.random() < SHORT else LONG_S), rng.random() < 0.3
        return Asked(SKU, RESERVE, self._new("key"), self._new("order"), "", rng.randint(1, 4), in_part, expires_s)

    def _send(self, client: int, number: int, asked: Asked) -> None:
        rng, writer = self._rng, self._writer
        attempt = attempt_at(number, client, asked, DOOR, self._now_ms * NS)
        heard, fate, takes_ms = rng.random() >= UNHEARD, rng.random(), rng.randint(1, 15)
        if heard or fate >= NEVER:
            late_ms = 0 if heard or fate >= NEVER + LATE else rng.randint(*LATE_MS)
            self._at(takes_ms + late_ms, lambda: writer.carry_out(asked, BEGAN_MS + self._now_ms))
        if heard:
            self._at(takes_ms + rng.randint(0, 10), lambda: self._answer(client, attempt, asked))
        else:
            self._at(takes_ms, lambda: self._hear_nothing(client, attempt, asked))

    def _hear_nothing(self, client: int, attempt: Attempt, asked: Asked) -> None:
        attempt.why = "nothing"
        self.records.append(attempt)
        if self._rng.random() >= GIVEN_UP:
            self._at(self._rng.randint(5, 50), lambda: self._send(client, attempt.call, asked))
            return
        if asked.action == RESERVE:
            self._unheard.append(asked.order)
        self._at(self._rng.randint(0, 20), lambda: self._next(client))

    def _answer(self, client: int, attempt: Attempt, asked: Asked) -> None:
        attempt.status, attempt.told = self._writer.reply(asked, BEGAN_MS + self._now_ms)
        self._at(self._rng.randint(0, 10), lambda: self._hear(client, attempt, asked))

    def _hear(self, client: int, attempt: Attempt, asked: Asked) -> None:
        attempt.returned = self._now_ms * NS
        self.records.append(attempt)
        self._asked.append(asked)
        if attempt.status == 201 and attempt.told is not None:
            self._told[attempt.told["reservation_id"]] = asked.order
        self._at(self._rng.randint(0, 20), lambda: self._next(client))

    def _close(self) -> None:
        """The last call and the last looks, when everything is over and what is held for a moment only has lapsed."""
        self._now_ms += 2_000
        called = self._now_ms * NS
        asked = Asked(SKU, RESERVE, "last", "nobody", "", MORE_THAN_THERE_IS, expires_s=LONG_S)
        self._writer.carry_out(asked, BEGAN_MS + self._now_ms)
        self._answer(0, attempt_at(next(self._calls), 0, asked, DOOR, called), asked)
        self._run()
        ids_by_order = {hold.order_id: own_id for own_id, hold in self._writer.holds.items()}
        orders = dict.fromkeys([*self._told.values(), *self._unheard])
        for name in orders:
            own_id = ids_by_order.get(name, "")
            told = msgspec.to_builtins(answers.history(self._writer.holds[own_id])) if own_id else None
            times = {"called": called, "asked": called, "returned": self._now_ms * NS}
            self.records.append(Look(sku=SKU, api=DOOR.name, order=name, reservation=own_id, told=told, **times))

    def _supply(self, units: int) -> None:
        called = self._now_ms * NS

        def seen() -> None:
            self.records.append(Stocked(sku=SKU, units=units, called=called, returned=self._now_ms * NS))

        self._at(self._rng.randint(1, 10), lambda: self._writer.supply(units))
        self._at(20, seen)

    def _new(self, what: str) -> str:
        return f"{what}-{next(self._names)}"

    def _at(self, in_ms: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now_ms + in_ms, next(self._turns), what))

    def _run(self) -> None:
        while self._events:
            self._now_ms, _, what = heapq.heappop(self._events)
            what()
