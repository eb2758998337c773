"""What reservations have of a SKU, and the facts that say so, in words and as JSON; pure.

Invariant: holds come of facts alone, by the workers' own rule, and what is reserved of holds and the present counts; so
no row, live or of a checkpoint, is believed here. Called by the explainer and the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from inventory.reservations.facts import Fact, begins, hold_after
from inventory.reservations.reserved import Reserved, of_holds
from schemas.keys import SOURCE_SEPARATOR
from schemas.reservations import Hold
from schemas.rows import Source, StockRow, decode_row, encode_row
from stockweave.replay.verify.report import iso, source_words

FACTS_MAX = 20  # shown, the newest, unless all are asked for
PARTS_MAX = 5


class Decided(NamedTuple):
    """A fact, and its offset in inventory.reservations."""

    offset: int
    fact: Fact


@dataclass(frozen=True)
class Reservations:
    """Of one SKU.

    Attributes:
        topic: of the facts, as deployed.
        facts: in their order.
    """

    topic: str = ""
    facts: tuple[Decided, ...] = ()

    @property
    def holds(self) -> dict[str, Hold]:
        """By reservation, in the order of the first facts."""
        return self._told[0]

    @cached_property
    def _told(self) -> tuple[dict[str, Hold], list[Hold]]:
        """Holds, and those that were forgotten when one of the same id began anew."""
        holds: dict[str, Hold] = {}
        former: list[Hold] = []
        for _, fact in self.facts:
            name = fact["reservation_id"]
            if name in holds and begins(fact):
                former.append(holds[name])
            holds[name] = hold_after(holds.get(name), fact)
        return holds, former

    @property
    def open(self) -> list[Hold]:
        """Those that may still change."""
        return [hold for hold in self.holds.values() if hold.ended_at is None]

    def until(self, facts: int) -> Reservations:
        """As they were when so many facts of the partition were there."""
        return Reservations(self.topic, tuple(one for one in self.facts if one.fact["number"] < facts))

    def as_of(self, at_ms: int) -> Reservations:
        """As they were at a time of the decision clock, in ms; it never goes back, so this is a prefix too."""
        return Reservations(self.topic, tuple(one for one in self.facts if one.fact["decided_at"] <= at_ms))

    def reserved(self, sources: Mapping[str, Source]) -> Reserved:
        """What the holds take of sources with these counts, forgotten ones as well: a row keeps that."""
        return of_holds(
            chain(self.holds.values(), self._told[1]), {key: source.count for key, source in sources.items()}
        )

    def row(self, sku: str, folded: bytes | None) -> StockRow | None:
        """The row of its folded updates, encoded, with what is reserved of it; None where there is neither."""
        row = StockRow(sku, 0, 0, 0, {}) if folded is None else decode_row(folded)
        row.reserved = self.reserved(row.sources)
        return row if folded is not None or row.reserved else None

    def encoded_row(self, sku: str, folded: bytes | None) -> bytes | None:
        """The same, encoded."""
        row = self.row(sku, folded)
        return None if row is None else encode_row(row)


NONE = Reservations()


def lines(found: Reservations, row: StockRow, *, everything: bool) -> Iterator[RenderableType]:
    """What is reserved, and by which facts, newest first; nothing where there is no fact."""
    if not found.facts:
        return
    many = f"{len(found.open):,} open reservation" + ("" if len(found.open) == 1 else "s")
    yield f"\nreserved: {_shown(_reserved_words(row.reserved), 1_000)}; {many}"
    shown = found.facts if everything else found.facts[-FACTS_MAX:]
    which = "" if len(shown) == len(found.facts) else f", of which these are the newest {len(shown):,}; --all shows all"
    facts = "1 fact" if len(found.facts) == 1 else f"{len(found.facts):,} facts"
    yield f"reservations: {facts} in {found.topic}, newest first{which}"
    yield _table(shown)


def _reserved_words(reserved: Reserved) -> str:
    """What is reserved of each source, by how far it has come."""
    said = []
    for key, entries in sorted(reserved.items()):
        sums = {"held": 0, "committed": 0, "shipped": 0}
        for entry in entries:
            is_committed = "held" if entry.committed_at is None else "committed"
            sums[is_committed if entry.fulfilled_at is None else "shipped"] += entry.units
        units = ", ".join(f"{units:,} {what}" for what, units in sums.items() if units)
        said.append(f"{units} of {source_words(key)}")
    return "; ".join(said) or "nothing"


def _table(shown: tuple[Decided, ...]) -> Table:
    table = Table(box=None, expand=True, show_edge=False, pad_edge=False, collapse_padding=True)
    table.header_style = "bold"
    table.add_column("fact", no_wrap=True)
    table.add_column("units", justify="right", no_wrap=True)
    table.add_column("reservation, and what it has then", overflow="fold", ratio=1)
    table.add_column("number", justify="right", no_wrap=True)
    table.add_column("decided (UTC)", no_wrap=True)
    for _, fact in reversed(shown):
        at = iso(fact["decided_at"]).replace("T", " ").removesuffix("Z")
        table.add_row(
            fact["fact"].lower(), f"{fact['units']:,}", Text(_shown(_words(fact), 300)), f"{fact['number']:,}", at
        )
    return table


def _words(fact: Fact) -> str:
    order = "" if fact["order_id"] is None else f" (order {fact['order_id']})"
    parts = [f"{p['quantity']:,} of {source_words(_key(p))}" for p in fact["parts"][:PARTS_MAX]]
    more = f" and {len(fact['parts']) - PARTS_MAX} more" if len(fact["parts"]) > PARTS_MAX else ""
    had = f": {', '.join(parts)}{more}" if parts else ""
    reason = "" if fact["reason"] is None else f": {fact['reason'].lower().replace('_', ' ')}"
    left = "" if fact["reason"] is None or fact["left"] is None else f", {fact['left']:,} left of {fact['quantity']:,}"
    return f"{fact['reservation_id']}{order}{had}{reason}{left}"


def _key(part: Mapping[str, Any]) -> str:
    return f"{part['supplier_id']}{SOURCE_SEPARATOR}{part['location_id']}" if part["supplier_id"] else ""


def _shown(text: str, characters_max: int) -> str:
    cut = text if len(text) <= characters_max else text[:characters_max] + "…"
    return cut if cut.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)


def as_json(found: Reservations, row: StockRow | None, partition: int) -> dict[str, Any]:
    """All of it, for programs; times in ms since the epoch."""
    log = f"{found.topic}-{partition}"
    reserved = {} if row is None else row.reserved
    return {
        "reserved": [
            {"supplier": key.partition(SOURCE_SEPARATOR)[0], "location": key.partition(SOURCE_SEPARATOR)[2]}
            | msgspec.structs.asdict(entry)
            for key, entries in sorted(reserved.items())
            for entry in entries
        ],
        "holds": [msgspec.to_builtins(msgspec.structs.asdict(hold)) for hold in found.open],
        "facts": [{**fact, "offset": offset, "where": f"{log}@{offset}"} for offset, fact in reversed(found.facts)],
    }
