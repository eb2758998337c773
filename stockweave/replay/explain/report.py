"""What `stockweave explain` found, in words and tables, and as JSON; pure.

Times are UTC; in JSON ms since the epoch. What a supplier wrote is shown without control characters, and cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from rich.box import SIMPLE
from rich.console import Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from inventory.policies import Rules
from inventory.stock import StockUpdate
from schemas.rows import OUTCOMES, decode_packed_row
from stockweave.replay.explain import reservations
from stockweave.replay.explain.account import BASES, Account, Entry, accounts
from stockweave.replay.explain.explain import Beside, Explained
from stockweave.replay.explain.history import Refused
from stockweave.replay.verify.report import iso

SOURCES_MAX = 20  # shown, unless all are asked for
DELTAS_MAX = 20  # of each source, the newest
SHOWN_CHARACTERS_MAX = 128  # of what a supplier wrote
UNKNOWN = "-"
BASIS_SAID = {"ON_HAND": " (on hand)", "AVAILABLE": " (available)", None: ""}


def report(found: Explained, *, everything: bool = False) -> Iterator[RenderableType]:
    """For people, at 100 columns or more; `everything`: all sources and deltas, however many."""
    yield heading(found)
    yield from origin(found)
    answer = found.answer
    if found.row is not None and answer is not None:
        sources = accounts(found.row, found.history, answer)
        told = sources if everything else sources[:SOURCES_MAX]
        yield _overview(told, found.row.on_hand, sum(account.sells for account in sources))
        yield from _held_back(found.rules)
        if len(told) < len(sources):
            yield f"and {len(sources) - len(told):,} more sources; --all shows them\n"
        for account in told:
            yield f"\n{_sum(account)}"
            yield _entries(account, everything=everything)
        yield from reservations.lines(found.reservations, found.row, everything=everything)
    if found.history.refused:
        yield from _refused(found)


def heading(found: Explained) -> str:
    """The answer in a line."""
    sku = shown(found.sku)
    when = f"at {_time(found.at_ms)} UTC" if found.as_of_ms is None else f"as known at {_time(found.at_ms)} UTC"
    answer = found.answer
    if found.row is not None and answer is not None:
        count = len(found.row.sources)
        many = "1 source" if count == 1 else f"{count:,} sources"
        reserved = f", {answer.reserved:,} reserved" if answer.reserved else ""
        return f"{sku}: {answer.available:,} can be sold, {found.row.on_hand:,} on hand of {many}{reserved}, {when}"
    if found.first_ms is not None:
        first = f"its first update came at {_time(found.first_ms)} UTC"
        return f"{sku}: nothing was known of it at {_time(found.at_ms)} UTC; {first}"
    return f"{sku}: it has no row {when}, for every update of it was refused"


def origin(found: Explained) -> Iterator[str]:
    """Of what it was computed, and what the live row says."""
    outcomes = found.history.outcomes
    counted = ", ".join(f"{count:,} {outcome}" for outcome, count in zip(OUTCOMES, outcomes, strict=True) if count)
    log = f"{found.topic}-{found.partition}"
    total = sum(outcomes)
    many = "1 update" if total == 1 else f"{total:,} updates"
    yield f"{many} of it in {log} from offset {found.start:,} to {found.end:,}" + (f": {counted}" if counted else "")
    if found.checkpoint is not None:
        yield (
            f"folded on from the checkpoint {found.checkpoint}, at offset {found.start:,}; '{UNKNOWN}' where an update "
            "came before it"
        )
    if found.beside is not None:
        yield beside_line(found.beside)
    elif found.as_of_ms is None:
        yield "there is no live row to compare with: nothing is folded in this partition yet; is a worker running?"


def beside_line(beside: Beside) -> str:
    """What the live row says, in a line."""
    live = beside.live
    if beside.same is None:
        return f"the live row in {live.topic} is not compared: {beside.why}"
    at = f"which holds the updates below offset {live.offset:,}"
    if not beside.same:
        due = "no row" if beside.replayed is None else f"{beside.replayed.on_hand:,} on hand"
        facts = f" and {live.facts:,} facts of reservations" if live.facts else ""
        return (
            f"the live row in {live.topic}, {at}{facts}, is another: {_live_on_hand(live.row)}, and by the updates "
            f"{due}; `stockweave verify` names the update at which they part, or the reservation"
        )
    late = "" if not beside.behind else f"; {beside.behind:,} updates of this SKU are not in it yet"
    return f"the live row in {live.topic}, {at}, says the same{late}"


def _live_on_hand(row: bytes | None) -> str:
    if row is None:
        return "no row"
    on_hand = _on_hand(row)
    return "it cannot be read" if on_hand is None else f"{on_hand:,} on hand"


def _on_hand(row: bytes | None) -> int | None:
    try:
        return None if row is None else decode_packed_row(row).on_hand
    except msgspec.DecodeError:
        return None


def _overview(sources: Sequence[Account], on_hand: int, sells: int) -> Table:
    table = _table(
        ("source", "left", "all"), ("on hand", "right", f"{on_hand:,}"), ("sells", "right", f"{sells:,}"),
        ("latest statement (UTC)", "left", ""), ("", "left", ""),
    )  # fmt: skip
    table.columns[-1].ratio = 1
    table.show_footer = True
    for account in sources:
        table.add_row(
            _name(account), f"{account.on_hand:,}", f"{account.sells:,}", _time(account.latest_at), _why(account)
        )
    return table


def _held_back(rules: Rules) -> Iterator[str]:
    """What comes off the sum of what the sources sell."""
    held = [f"{rules.safety_units:,} units"] if rules.safety_units else []
    held += [f"{rules.safety_percent} %, rounded up"] if rules.safety_percent else []
    if held:
        yield f"safety stock: {', or '.join(held)}" + (", whichever is more" if len(held) > 1 else "")


def _why(account: Account) -> str:
    limit = account.source.stale_after_ms
    by_itself = "" if limit is None else f", being older than {limit / 1000:,g} s"
    late = (by_itself or ", being older than its policy allows") if account.stale else ""
    return account.why + late


def _sum(account: Account) -> str:
    """A source as a sum, in a line."""
    source = account.source
    parts = [f"{account.on_hand:,} ="]
    count = account.count
    parts.append("no count" if count is None else f"{count.kind} {count.quantity:,}{BASIS_SAID.get(count.basis, '')}")
    if source.floor_at is not None:
        parts.append(f"{source.carried:+,} carried")
    total = sum(delta.quantity for delta in account.deltas)
    if account.deltas:
        parts.append(
            f"{total:+,} of 1 delta" if len(account.deltas) == 1 else f"{total:+,} of {len(account.deltas):,} deltas"
        )
    return f"{_name(account)}: {' '.join(parts)}"


def _entries(account: Account, *, everything: bool) -> Table:
    table = _table(("", "left", ""), ("quantity", "right", ""))
    table.add_column("update id", overflow="fold", ratio=1)
    _where_columns(table)
    if account.count is not None:
        _entry(table, account.count, account.count.kind, f"{account.count.quantity:,}")
    if account.source.floor_at is not None:
        carried = f"{account.source.carried:+,}"
        table.add_row("carried", carried, "deltas up to then, not told apart", "", _time(account.source.floor_at), "")
    deltas = account.deltas if everything else account.deltas[-DELTAS_MAX:]
    if len(deltas) < len(account.deltas):
        earlier = account.deltas[: -len(deltas)]
        total = sum(delta.quantity for delta in earlier)
        table.add_row(f"{len(earlier):,} deltas", f"{total:+,}", "earlier ones; --all shows them", "", "", "")
    for delta in deltas:
        _entry(table, delta, "delta", f"{delta.quantity:+,}")
    return table


def _entry(table: Table, entry: Entry, what: str, quantity: str) -> None:
    order = "" if entry.order_ref is None else f" (order {shown(entry.order_ref)})"
    trace = entry.trace
    offset, received = (UNKNOWN, UNKNOWN) if trace is None else (f"{trace.offset:,}", _time(trace.received_at))
    table.add_row(what, quantity, Text(shown(entry.id) + order), offset, _time(entry.observed_at), received)


def _refused(found: Explained) -> Iterator[RenderableType]:
    history = found.history
    total = sum(history.outcomes[1:])
    kept = len(history.refused)
    which = "" if kept == total else f", of which these are the newest {kept:,}; --all shows more"
    yield f"\nchanged nothing: {total:,} {'update' if total == 1 else 'updates'}, newest first{which}"
    table = _table()
    table.add_column("update, and why", overflow="fold", ratio=1)
    _where_columns(table)
    for refused in reversed(history.refused):
        update = refused.update
        times = (UNKNOWN, UNKNOWN) if update is None else (_time(update["observed_at"]), _time(update["received_at"]))
        why = shown(refused.reason.replace("_", " ")) + (f": {shown(refused.why, 500)}" if refused.why else "")
        said = Group(Text(_update(update)), Padding(Text(why), (0, 0, 0, 2)))
        table.add_row(said, f"{refused.offset:,}", *times)
    yield table


def _update(update: StockUpdate | None) -> str:
    if update is None:
        return "cannot be read"
    sign = "+," if update["kind"] == "DELTA" else ","
    return (
        f"{update['kind'].lower()} {update['quantity']:{sign}} {shown(update['update_id'])!r} of "
        f"{shown(update['supplier_id'])} at {shown(update['location_id'])}"
    )


def _where_columns(table: Table) -> None:
    table.add_column("offset", no_wrap=True, justify="right")
    table.add_column("observed (UTC)", no_wrap=True)
    table.add_column("received (UTC)", no_wrap=True)


def _table(*columns: tuple[str, JustifyMethod, str]) -> Table:
    """With columns of a name, a side and a footer."""
    table = Table(box=SIMPLE, expand=True, show_edge=False, pad_edge=False, collapse_padding=True)
    table.header_style = table.footer_style = "bold"
    for name, side, footer in columns:
        table.add_column(name, footer, justify=side, overflow="fold")
    return table


def _name(account: Account) -> str:
    return f"{shown(account.supplier)} at {shown(account.location)}"


def _time(at_ms: int) -> str:
    return iso(at_ms).replace("T", " ").removesuffix("Z")


def shown(text: str, characters_max: int = SHOWN_CHARACTERS_MAX) -> str:
    """What somebody else wrote, for a terminal: control characters as escapes, and not too long."""
    cut = text if len(text) <= characters_max else text[:characters_max] + "…"
    return cut if cut.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)


def as_json(found: Explained) -> dict[str, Any]:
    """All of it, for programs."""
    row, history, answer = found.row, found.history, found.answer
    log = f"{found.topic}-{found.partition}"
    sources = [] if row is None or answer is None else accounts(row, history, answer)
    return {
        "sku": found.sku,
        "as_of": found.as_of_ms,
        "at": found.at_ms,
        "known": row is not None,
        "available": 0 if answer is None else answer.available,
        "on_hand": None if row is None else row.on_hand,
        "reserved": 0 if answer is None else answer.reserved,
        "first_update_at": found.first_ms,
        "updates": {"topic": found.topic, "partition": found.partition, "start": found.start, "end": found.end}
        | dict(zip(OUTCOMES, history.outcomes, strict=True)),
        "checkpoint": found.checkpoint,
        "sources": [_source_json(account, log) for account in sources],
        "refused": [_refused_json(refused, log) for refused in reversed(history.refused)],
        "reservations": reservations.as_json(found.reservations, row, found.partition),
        "live": None if found.beside is None else _beside_json(found.beside),
    }


def _source_json(account: Account, log: str) -> dict[str, Any]:
    source = account.source
    return {
        "supplier": account.supplier,
        "location": account.location,
        "on_hand": account.on_hand,
        "reserved": account.reserved,
        "sells": account.sells,
        "why": account.why or None,
        "withdrawn": account.withdrawn,
        "standing": account.standing,
        "stale": account.stale,
        "stale_after_ms": source.stale_after_ms,
        "basis": BASES[source.basis],
        "observed_at": account.latest_at,
        "count": None if account.count is None else _entry_json(account.count, log),
        "carried": source.carried,
        "floor_at": source.floor_at,
        "deltas": [_entry_json(delta, log) for delta in account.deltas],
        "incoming": [msgspec.structs.asdict(receipt) for receipt in source.incoming],
        "last_applied": {"offset": source.offset, "received_at": source.received_at},
    }


def _entry_json(entry: Entry, log: str) -> dict[str, Any]:
    trace = entry.trace
    return {
        "kind": entry.kind,
        "update_id": entry.id,
        "quantity": entry.quantity,
        "basis": entry.basis,
        "order_ref": entry.order_ref,
        "observed_at": entry.observed_at,
        "received_at": None if trace is None else trace.received_at,
        "logged_at": None if trace is None else trace.stamp_ms,
        "offset": None if trace is None else trace.offset,
        "where": None if trace is None else f"{log}@{trace.offset}",
    }


def _refused_json(refused: Refused, log: str) -> dict[str, Any]:
    return {
        "outcome": refused.outcome,
        "reason": refused.reason,
        "why": refused.why,
        "logged_at": refused.stamp_ms,
        "offset": refused.offset,
        "where": f"{log}@{refused.offset}",
        "update": refused.update,
    }


def _beside_json(beside: Beside) -> dict[str, Any]:
    return {
        "topic": beside.live.topic,
        "offset": beside.live.offset,
        "same": beside.same,
        "behind": beside.behind,
        "on_hand": _on_hand(beside.live.row),
        "replayed_on_hand": None if beside.replayed is None else beside.replayed.on_hand,
        "why": beside.why or None,
    }
