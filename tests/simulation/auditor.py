"""What must be, worked out a second time: from the list of all events in the log, from scratch, by the plain rule.

Shares no code with `inventory/`, `state/` and `streams/`: the rule is `tests.inventory.reference`, what is refused and
what a position says are written here anew. Rows are told in plain words, so that both sides can be laid side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from tests.inventory.reference import Event, LogOrder
from tests.simulation.workload import Told

TALLIES = ("applied", "duplicate", "superseded", "rejected")
UNREADABLE = "unreadable"

Row = dict[str, Any]


@dataclass(frozen=True)
class Prediction:
    """Of one partition, once all events below an offset are folded, and nothing else is.

    `rows`: by SKU; `tallies`: events by supplier and outcome; `refused`: offset and reason of each rejected event;
    `events`: how many there were.
    """

    rows: dict[str, Row]
    tallies: dict[str, dict[str, int]]
    refused: dict[int, str]
    events: int


class Auditor:
    """Knows what was accepted into the log, by partition and offset, and nothing of what became of it."""

    def __init__(self, partitions: int, horizon_ms: int, entries_max: int) -> None:
        self._accepted: list[dict[int, Told]] = [{} for _ in range(partitions)]  # in the order of the log
        self._limits = (horizon_ms, entries_max)
        self._known: dict[tuple[int, int], Prediction] = {}
        self._rolling = [(0, self.roll(number)) for number in range(partitions)]  # as far as was asked for

    def accepted(self, partition: int, offset: int, told: Told) -> None:
        """A message is in the log for good."""
        self._accepted[partition][offset] = told

    def told_at(self, partition: int, offset: int) -> Told:
        """The message at an offset."""
        return self._accepted[partition][offset]

    def end(self, partition: int) -> int:
        """The offset after the last message."""
        return max(self._accepted[partition], default=-1) + 1

    def predict(self, partition: int, offset: int) -> Prediction:
        """What a fold of all that lies below `offset` must end with."""
        known = self._known.get((partition, offset))
        if known is None:
            known = self._known[partition, offset] = self._worked_out(partition, offset)
        return known

    def roll(self, partition: int) -> Rolling:
        """A fold of the partition that goes on from where it is, for whoever asks of ascending offsets."""
        return Rolling(self._accepted[partition], *self._limits)

    def _worked_out(self, partition: int, end: int) -> Prediction:
        at, rolling = self._rolling[partition]
        if end < at:
            rolling = self.roll(partition)
        self._rolling[partition] = (end, rolling)
        return rolling.to(end).prediction()


class Rolling:
    """All events of a partition, in the order of the log, up to some offset. `outcomes`: of each, by its offset."""

    def __init__(self, accepted: dict[int, Told], horizon_ms: int, entries_max: int) -> None:
        self._accepted = accepted
        self._waiting: list[tuple[int, Told]] = []
        self._seen = 0
        self._limits = (horizon_ms, entries_max)
        self._sources: dict[str, dict[str, _Source]] = {}
        self._tallies: dict[str, dict[str, int]] = {}
        self._refused: dict[int, str] = {}
        self._events = 0
        self.outcomes: dict[int, str] = {}

    def to(self, end: int) -> Rolling:
        """See all events below `end`."""
        if self._seen + len(self._waiting) < len(self._accepted):  # accepted since
            self._waiting = list(islice(self._accepted.items(), self._seen, None))[::-1]
        while self._waiting and self._waiting[-1][0] < end:
            self._see(*self._waiting.pop())
            self._seen += 1
        return self

    def row(self, sku: str) -> Row | None:
        """One row as it is."""
        of_sku = self._sources.get(sku)
        return _row(of_sku) if of_sku else None

    def prediction(self) -> Prediction:
        """Everything as it is."""
        rows = {sku: _row(of_sku) for sku, of_sku in self._sources.items() if of_sku}
        tallies = {supplier: dict(counts) for supplier, counts in self._tallies.items()}
        return Prediction(rows, tallies, dict(self._refused), self._events)

    def _see(self, offset: int, told: Told) -> None:
        update = told.update
        supplier, outcome = "", UNREADABLE
        if update is not None:
            supplier = update["supplier_id"]
            outcome = _refusal(update) or ""
            if not outcome:
                where = f"{supplier}\x1f{update['location_id']}"
                of_sku = self._sources.setdefault(update["sku"], {})
                source = of_sku.get(where) or _Source(*self._limits)
                outcome = source.see(update, offset)
                if outcome in ("applied", "replaced"):
                    of_sku[where] = source
        self.outcomes[offset] = outcome
        tally = _tally_of(outcome)
        if tally == "rejected":
            self._refused[offset] = outcome
        counts = self._tallies.setdefault(supplier, dict.fromkeys(TALLIES, 0))
        counts[tally] += 1
        self._events += 1


class _Source:
    """One supplier at one location: the plain rule, and what the last applied event said beside it."""

    def __init__(self, horizon_ms: int, entries_max: int) -> None:
        self._rule = LogOrder(horizon_ms, entries_max)
        self._order_refs: dict[str, str | None] = {}
        self._said: dict[str, Any] = {"basis": "ON_HAND", "incoming": [], "stale_after_ms": None}
        self._last: tuple[int, int] = (0, 0)

    def see(self, update: dict[str, Any], offset: int) -> str:
        event = Event(update["kind"], update["update_id"], update["observed_at"], update["quantity"])
        outcome = self._rule.see(event)
        if outcome in ("applied", "replaced"):
            self._last = (update["received_at"], offset)
            if update["kind"] == "DELTA":
                self._order_refs[update["update_id"]] = update["order_ref"]
            else:
                self._said = {name: update[name] for name in self._said}
        return outcome

    def row(self) -> Row:
        row = self._rule.row()
        row["deltas"] = [[*delta, self._order_refs[delta[0]]] for delta in row["deltas"]]
        return row | self._said | {"received_at": self._last[0], "offset": self._last[1]}


def _refusal(update: dict[str, Any]) -> str | None:
    """Why an event can be used in no case, of what the workload makes."""
    if update["observed_at"] > update["received_at"] + 5 * 60_000:
        return "observed_in_future"
    if update["kind"] == "DELTA" and update["quantity"] == 0:
        return "invalid_update"
    if update["kind"] == "COUNT" and update["quantity"] < 0:
        return "invalid_update"
    return None


def _tally_of(outcome: str) -> str:
    if outcome in ("applied", "replaced"):
        return "applied"
    return outcome if outcome in ("duplicate", "superseded") else "rejected"


def _row(of_sku: dict[str, _Source]) -> Row:
    sources = {where: source.row() for where, source in of_sku.items()}
    return {"on_hand": sum(source["on_hand"] for source in sources.values()), "sources": sources}
