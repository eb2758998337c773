"""The stock rule in its plainest form, from its statement alone: slow, and sharing nothing with inventory/.

A source remembers everything it accepted in plain lists; every question is answered by looking through them.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Event(NamedTuple):
    kind: str
    id: str
    at: int
    quantity: int = 0


def meaning(events: list[Event]) -> dict[str, Any]:
    """The row of a set of events that the horizon does not reach: no order, no repetition, no state."""
    standing: dict[tuple[bool, str], Event] = {}
    for event in events:
        slot = (event.kind == "DELTA", event.id)
        rival = standing.get(slot)
        if rival is None or _rank(event) > _rank(rival):
            standing[slot] = event
    counts = sorted((e for e in standing.values() if e.kind != "DELTA"), key=lambda e: (e.at, e.id))
    count = counts[-1] if counts else None
    deltas = [e for e in standing.values() if e.kind == "DELTA" and (count is None or e.at > count.at)]
    return _row(count, deltas, 0, None)


class LogOrder:
    """The rule in log order, with the horizon and the entry limit."""

    def __init__(self, horizon_ms: int, entries_max: int) -> None:
        self.horizon_ms, self.entries_max = horizon_ms, entries_max
        self.count: Event | None = None
        self.deltas: list[Event] = []
        self.carried = 0
        self.floor: int | None = None
        self.accepted_at: list[int] = []

    def see(self, event: Event) -> str:
        verdict = self._verdict(event)
        if verdict in ("applied", "replaced"):
            if event.kind == "DELTA":
                self.deltas = [d for d in self.deltas if d.id != event.id] + [event]
            else:
                self.count, self.carried, self.floor = event, 0, None
                self.deltas = [d for d in self.deltas if d.at > event.at]
            self.accepted_at.append(event.at)
            self._age()
        return verdict

    def _verdict(self, event: Event) -> str:
        delta = event.kind == "DELTA"
        if self.count is not None:
            if event.at < self.count.at:
                taken = not delta and event.id == self.count.id
                return "update_id_conflict" if taken else "superseded"
            if delta and event.at == self.count.at:
                return "superseded"
        if self.floor is not None and event.at <= self.floor:
            return "too_old"
        if delta:
            rivals = [d for d in self.deltas if d.id == event.id]
        else:
            rivals = [self.count] if self.count is not None and self.count.id == event.id else []
        if rivals:
            if rivals[0] == event:
                return "duplicate"
            return "replaced" if _rank(event) > _rank(rivals[0]) else "update_id_conflict"
        if not delta and self.count is not None and (event.at, event.id) < (self.count.at, self.count.id):
            return "superseded"
        return "applied"

    def _age(self) -> None:
        oldest_kept = max(self.accepted_at) - self.horizon_ms
        times = sorted(d.at for d in self.deltas)
        reached = [t for t in times if t < oldest_kept]
        if len(times) > self.entries_max:
            reached += times[: len(times) - self.entries_max]
        if reached:
            floor = self.floor = max(reached)
            self.carried += sum(d.quantity for d in self.deltas if d.at <= floor)
            self.deltas = [d for d in self.deltas if d.at > floor]

    def row(self) -> dict[str, Any]:
        return _row(self.count, self.deltas, self.carried, self.floor)


def _rank(event: Event) -> tuple[int, int, str]:
    return (event.at, -event.quantity, event.kind)


def _row(count: Event | None, deltas: list[Event], carried: int, floor: int | None) -> dict[str, Any]:
    base = 0 if count is None or count.kind == "WITHDRAWN" else count.quantity
    row: dict[str, Any] = {
        "count": None if count is None else list(count),
        "deltas": [[d.id, d.at, d.quantity] for d in sorted(deltas, key=lambda d: (d.at, d.id))],
        "on_hand": base + carried + sum(d.quantity for d in deltas),
        "anchored": count is not None,
    }
    if floor is not None:
        row |= {"carried": carried, "floor_at": floor}
    # A count keeps its kind first, then id, time and quantity, as the golden vectors write it.
    if count is not None:
        row["count"] = [count.kind, count.id, count.at, count.quantity]
    return row
