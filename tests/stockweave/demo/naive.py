"""The stock rule as plainly as it can be said: every update is kept, and a source is computed from scratch."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple


class Sent(NamedTuple):
    sku: str
    supplier: str
    kind: str
    quantity: int
    at: int
    update_id: str


def on_hand_of_all(sent: list[Sent]) -> dict[tuple[str, str], int]:
    sources: dict[tuple[str, str], list[Sent]] = defaultdict(list)
    for update in sent:
        sources[update.sku, update.supplier].append(update)
    return {source: on_hand(updates) for source, updates in sources.items()}


def on_hand(updates: list[Sent]) -> int:
    counts: dict[str, Sent] = {}
    deltas: dict[str, Sent] = {}
    for update in updates:
        held_of_id = counts if update.kind == "COUNT" else deltas
        held = held_of_id.get(update.update_id)
        later = held is not None and update.at > held.at
        smaller = held is not None and update.at == held.at and update.quantity < held.quantity
        if held is None or later or smaller:
            held_of_id[update.update_id] = update
    last: Sent | None = None
    for count in counts.values():
        if last is None or (count.at, count.update_id) > (last.at, last.update_id):
            last = count
    total = 0 if last is None else last.quantity
    for delta in deltas.values():
        if last is None or delta.at > last.at:
            total += delta.quantity
    return total
