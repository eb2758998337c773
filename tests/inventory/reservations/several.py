"""A coordinator and the writers of lines, for tests: what passes between them comes late, twice, or is lost."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from inventory.availability import availability
from inventory.policies import Policies
from inventory.reservations import coordinate
from inventory.reservations.decide import Case, Command, Decision, decide
from inventory.reservations.facts import Origin, fact_of, hold_after, row_after
from inventory.reservations.reallocation import reallocate
from inventory.reservations.retention import KEPT_MS_MIN, forgotten_to, is_past
from inventory.reservations.shipments import Shipment, close
from inventory.stock import APPLIED, REPLACED, SUPERSEDED
from schemas.keys import source_key
from schemas.reservations import (
    ANSWER,
    ASK_AGAIN_MS,
    HOLD,
    MOVED,
    NO_SKU,
    SHIPPED,
    Hold,
)
from schemas.rows import Count, PackedRow, Source, StockRow, decode_row, encode
from tests.inventory.reservations.builders import NOW, command
from tests.inventory.reservations.shop import shipped

SOURCES = ("north", "south")
RID = "r1"
MINUTE_MS = 60_000
KEPT_MS = KEPT_MS_MIN


def lines(**units: int) -> list[dict[str, Any]]:
    return [{"sku": sku, "quantity": n, "location_id": None, "supplier_id": None} for sku, n in units.items()]


def several(action: str = HOLD, **fields: Any) -> Command:
    """A command on a reservation of several SKUs."""
    return command(action, **{"sku": NO_SKU, "quantity": 0, "command_id": "h", "reservation_id": RID} | fields)


@dataclass
class Shops:
    """A coordinator and the writers of lines, each of its own partition; what passes between them waits here."""

    units: dict[str, int]
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    now_ms: int = NOW
    record: Hold | None = None
    holds: dict[str, Hold] = field(default_factory=dict)
    facts: int = 0

    def __post_init__(self) -> None:
        self.rows: dict[str, PackedRow] = {}
        for sku, units in self.units.items():
            keys = [source_key("acme", location) for location in SOURCES]
            shares = (units - units // 2, units // 2)
            sources = {key: encode(Source(Count(0, "c", NOW - 1, n))) for key, n in zip(keys, shares, strict=True)}
            self.rows[sku] = PackedRow(sku, 1, units, NOW, sources)
        self.waiting: dict[str, deque[Command]] = {}  # by where it goes; in order, as in a partition of a log
        self.come: dict[str, list[Command]] = {}
        self.sent = 0

    # -- the coordinator

    def ask(self, asked: Command) -> None:
        self._lapse()
        self._noted(coordinate.coordinate(asked, self.record, self.now_ms, 0), asked["command_id"])

    def look(self) -> None:
        """As time has it."""
        self._lapse()
        if self.record is not None:
            self._send(coordinate.ask_again(self.record, self.now_ms))

    def _lapse(self) -> None:
        if self.record is not None:
            self._noted(coordinate.lapse(self.record, self.now_ms), None)

    def _noted(self, done: coordinate.Coordinated | None, command_id: str | None) -> None:
        if done is None:
            return
        after = self._fact(done.decision, self.record, command_id)
        self.record = after
        self._send(done.sent)

    def _fact(self, decision: Decision, before: Hold | None, command_id: str | None) -> Hold:
        if decision.fact != "NOTED":
            command_id = decision.command_id
        fact = fact_of(decision, Origin(self.facts, command_id, None, self.now_ms))
        self.facts += 1
        after = hold_after(before, fact)
        assert after == decision.hold, "a fact says all that a decision does"
        return after

    def _send(self, commands: list[Command]) -> None:
        for each in commands:
            self.sent += 1
            self.waiting.setdefault(coordinate.home(each), deque()).append(each)

    # -- what passes

    def deliver(self, lossy: float = 0.0) -> bool:
        """Something that waits arrives, or is lost; False if nothing waits."""
        places = [place for place, queue in self.waiting.items() if queue]
        if not places:
            return False
        place = self.rng.choice(sorted(places))
        message = self.waiting[place].popleft()
        if message["command_id"].startswith(SHIPPED) or self.rng.random() >= lossy:  # it is not asked for, nor repeated
            self.come.setdefault(place, []).append(message)
            self.receive(message)
        return True

    def replay(self) -> None:
        """A partition's messages come again from some offset on, as after a worker has lost its place."""
        if self.come:
            again = self.come[self.rng.choice(sorted(self.come))]
            for message in again[self.rng.randrange(len(again)) :]:
                self.receive(message)

    def receive(self, message: Command) -> None:
        if message["action"] != ANSWER:
            self._line(message)
        elif self.record is not None:
            self._lapse()
            self._noted(coordinate.hear(self.record, message, self.now_ms), message["command_id"])

    def _line(self, asked: Command) -> None:
        sku = asked["sku"]
        known = self.rows.get(sku)
        row = None if known is None else self.whole(sku)
        before = self.holds.get(sku)
        case = Case(row, before, Policies(), self.now_ms)
        by_worker = asked["command_id"].startswith(MOVED)
        decision = reallocate(case, asked["command_id"]) if by_worker else decide(asked, case)
        if decision is not None:
            after = self.holds[sku] = self._fact(decision, before, asked["command_id"])
            if known is not None:
                row_after(known, before, after)
        self._send([coordinate.answer_to(asked, self.holds.get(sku))])

    def ship(self, told: Shipment) -> int:
        """A supplier's change that names the order; the units that it closes."""
        if shipped(self.rows[told.sku], told) not in (APPLIED, REPLACED, SUPERSEDED):
            return 0
        before = self.holds.get(told.sku)
        decisions = [] if before is None else close(told, [before], self.now_ms)
        for decision in decisions:
            after = self.holds[told.sku] = self._fact(decision, before, told.command_id)
            row_after(self.rows[told.sku], before, after)
            self._send([coordinate.tell(told.command_id, after)])
        return sum(decision.units for decision in decisions)

    def whole(self, sku: str) -> StockRow:
        return decode_row(encode(self.rows[sku]))

    def settle(self) -> None:
        """All that waits arrives; what was lost is asked again."""
        for _ in range(5_000):  # half a day and more
            while self.deliver():
                pass
            if self.record is None or not any(line.asked for line in self.record.lines):
                return
            self.now_ms += ASK_AGAIN_MS
            self.look()
        raise AssertionError(f"some line never answers: {self.record}")

    def forget(self, *places: str) -> None:
        """What is past goes, of the coordinator (`NO_SKU`) and of lines; each partition forgets by itself."""
        to_ms = forgotten_to(self.now_ms, KEPT_MS)
        if NO_SKU in places and self.record is not None and is_past(self.record, to_ms):
            self.record = None
        for sku in places:
            if sku in self.holds and is_past(self.holds[sku], to_ms):
                del self.holds[sku]

    # -- what is there

    @property
    def state(self) -> str:
        assert self.record is not None
        return self.record.state

    def left(self) -> dict[str, int]:
        """Units that can be sold."""
        rules = {sku: Policies().rules(sku) for sku in self.rows}
        return {sku: availability(self.whole(sku), rules[sku], self.now_ms).available for sku in self.rows}

    def open(self) -> dict[str, int]:
        return {sku: hold.open_units for sku, hold in self.holds.items() if hold.open_units}

    def agree(self) -> None:
        """The coordinator knows its lines, and no line holds what its reservation does not."""
        assert self.record is not None
        for line in self.record.lines:
            hold = self.holds.get(line.sku)
            if hold is None:
                continue
            assert (line.state, line.parts, line.asked) == (hold.state, hold.parts, [])
            if not self.record.is_open:
                assert (hold.open_units, hold.is_open) == (0, False), f"{hold} is left of {self.record}"
