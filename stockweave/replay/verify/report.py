"""What `stockweave verify` found, in words and as JSON; pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from schemas.keys import HOLD_PREFIX, SOURCE_SEPARATOR
from schemas.reservations import Hold
from schemas.rows import Delta, Open, Source, StockRow, decode_row
from stockweave.replay.verify.compare import Differing, hold_of

if TYPE_CHECKING:
    from stockweave.replay.verify.divergence import Parting
    from stockweave.replay.verify.verify import PartitionVerdict, Verdict

SHOWN_MAX = 5  # deltas of a source, and sources of a row


def iso(at_ms: int) -> str:
    """A time as ISO 8601 in UTC, to the millisecond."""
    try:
        moment = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    except (ValueError, OverflowError, OSError):  # beyond the calendar
        return f"{at_ms} ms"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def summary(verdict: Verdict) -> str:
    """The line that a script may look for; what is said of holds follows where there are any."""
    said = f"verified {verdict.rows:,} rows in {len(verdict.partitions)} partitions: {verdict.differ:,} differ"
    if not verdict.holds and not verdict.facts:
        return said
    return f"{said}; {verdict.holds:,} holds of {verdict.facts:,} facts: {verdict.holds_differ:,} differ"


def partition_lines(verdict: Verdict) -> Iterator[str]:
    """A line for each partition, with the digests of both sides."""
    for p in verdict.partitions:
        compared = p.compared
        replayed = "" if compared.live_digest == compared.replayed_digest else f", replayed {compared.replayed_digest}"
        yield (
            f"partition {p.partition}: {compared.rows:,} rows, {compared.differ:,} differ, digest "
            f"{compared.live_digest}{replayed}; updates {p.start:,} to {p.end:,}, {verdict.stock} to {p.stock_end:,}"
            + (f"; {p.holds.holds:,} holds of {p.facts:,} facts, {p.holds.differ:,} differ" if p.holds.holds else "")
        )


def difference(verdict: Verdict, found: PartitionVerdict, parting: Parting | None) -> Iterator[str]:
    """The first SKU that differs: both rows, and at which update they part, if it is by one."""
    first = found.compared.first
    if first is None:
        return
    yield f"the first SKU that differs: {first.key.decode(errors='backslashreplace')!r} in partition {found.partition}"
    live, replayed = (None if row is None else decode_row(row) for row in (first.live, first.replayed))
    yield from row_lines("live", live, replayed)
    yield from row_lines("replayed", replayed, live)
    if parting is None:
        yield "  of the updates both say the same: what is reserved differs"
        return
    where = f"{verdict.updates} partition {found.partition}"
    record = "" if parting.record is None else f" (record {parting.record} of {verdict.stock})"
    equal = f"both mean the same after all updates below offset {parting.equal_until} of {where}, and"
    if parting.equal_until == found.start > 0:
        equal = f"the replay begins with the checkpoint's row, at offset {found.start} of {where}; both"
    yield f"  {equal} differ after all below {parting.differ_at}{record}"
    yield from parting_lines(where, parting, found.start)


def parting_lines(where: str, parting: Parting, start: int = 0) -> Iterator[str]:
    """Which update it is, and how sure that is; `start`: where the replay began."""
    if parting.offset is None:
        since = f" from offset {start} on" if start else ""
        earlier = ", or by an update of before" if start else ""
        written = f"the row was written by something else than the fold{earlier}"
        yield f"  no update of this SKU is in the log{since}: {written}"
        return
    sure = "at" if parting.certain or parting.how else "at the latest at"
    yield f"  they part {sure} {where} offset {parting.offset}: {update_line(parting)}"
    if parting.how:
        yield f"  that update is {parting.how}"
    if parting.candidates == 0:
        yield "  no update of this SKU lies between those offsets: the row was written by something else than the fold"


def update_line(parting: Parting) -> str:
    """The named update in a line."""
    update = parting.update
    if update is None:
        return "an update that cannot be decoded"
    return (
        f"update_id {update['update_id']!r}, supplier {update['supplier_id']!r} at {update['location_id']!r}, "
        f"{update['kind']} {update['quantity']:+d}, observed {iso(update['observed_at'])}, "
        f"received {iso(update['received_at'])}"
    )


def row_lines(title: str, row: StockRow | None, other: StockRow | None) -> Iterator[str]:
    """A row with those of its sources that the other has otherwise."""
    if row is None:
        yield f"  {title}: no row"
        return
    theirs = {} if other is None else other.sources
    differing = [key for key, source in row.sources.items() if not _same(source, theirs.get(key))]
    same = len(row.sources) - len(differing)
    yield f"  {title}: on hand {row.on_hand}, {len(row.sources)} sources" + (f", {same} as the other" if same else "")
    for key in differing[:SHOWN_MAX]:
        yield f"    {source_line(key, row.sources[key], theirs.get(key))}"
    if len(differing) > SHOWN_MAX:
        yield f"    and {len(differing) - SHOWN_MAX} more"
    if row.reserved != ({} if other is None else other.reserved):
        yield f"    reserved: {reserved_words(row.reserved)}"


def reservation_lines(verdict: Verdict) -> Iterator[str]:
    """What is wrong with holds, with what rows have reserved, and with the log of facts."""
    for p in verdict.partitions:
        yield from p.reservations
        for differing in p.holds.first:
            yield from hold_lines(p.partition, differing)
        if p.holds.differ > len(p.holds.first):
            yield f"partition {p.partition}: and {p.holds.differ - len(p.holds.first):,} more"
        for sku, said, due in p.holds.disagreeing:
            yield (
                f"partition {p.partition}: the row of {sku!r} has reserved {reserved_words(said)}, and its holds take "
                f"{reserved_words(due)}"
            )
        if p.holds.disagree > len(p.holds.disagreeing):
            yield f"partition {p.partition}: and {p.holds.disagree - len(p.holds.disagreeing):,} SKUs more"


def hold_lines(partition: int, differing: Differing) -> Iterator[str]:
    """A hold, or the record of its order, that is not what the facts say."""
    key = differing.key
    if not key.startswith(HOLD_PREFIX):
        what = " and ".join(repr(part) for part in key[1:].decode(errors="backslashreplace").split("\0"))
        here = "in the store, and in no fact" if differing.replayed is None else "in the facts, and not in the store"
        here = here if None in (differing.live, differing.replayed) else "with another value than it should have"
        yield f"partition {partition}: the record of order, SKU and reservation {what} is {here}"
        return
    sku, _, reservation = key[len(HOLD_PREFIX) :].decode(errors="backslashreplace").partition("\0")
    yield f"partition {partition}: reservation {reservation!r} of SKU {sku!r} is not what its facts say"
    live, replayed = hold_of(differing.live), hold_of(differing.replayed)
    for title, hold, value in (("live", live, differing.live), ("by the facts", replayed, differing.replayed)):
        missing = "none" if value is None else "it cannot be read"
        yield f"  {title}: {missing if hold is None else hold_words(hold)}"
    if live is not None and replayed is not None:
        fields = (name for name in Hold.__struct_fields__ if getattr(live, name) != getattr(replayed, name))
        yield f"  they differ in {', '.join(fields)}"


def hold_words(hold: Hold) -> str:
    """A hold in a line."""
    parts = ", ".join(f"{part.quantity:,} of {source_words(part.source)}" for part in hold.parts[:SHOWN_MAX])
    more = f" and {len(hold.parts) - SHOWN_MAX} more" if len(hold.parts) > SHOWN_MAX else ""
    steps = ", ".join(f"{step.fact} {step.units:,} at {iso(step.at)}" for step in hold.steps[-SHOWN_MAX:])
    order = "" if hold.order_id is None else f" for order {hold.order_id!r}"
    return f"{hold.state} {hold.held:,} of {hold.quantity:,}{order} ({parts}{more}); {len(hold.steps):,} facts: {steps}"


def reserved_words(reserved: Mapping[str, Sequence[Open]]) -> str:
    """What is reserved of each source, in words."""
    said = []
    for key, entries in sorted(reserved.items()):
        units = " + ".join(f"{e.units:,} {_standing(e)}in {e.channel}" for e in entries)
        said.append(f"{units} of {source_words(key)}")
    return "; ".join(said) or "nothing"


def source_words(key: str) -> str:
    """A source, by its key within the row."""
    supplier, _, location = key.partition(SOURCE_SEPARATOR)
    return f"{supplier} at {location}" if key else "no source"


def _standing(entry: Open) -> str:
    if entry.fulfilled_at is not None:
        return f"shipped by {iso(entry.fulfilled_at)} "
    return "" if entry.committed_at is None else f"committed by {iso(entry.committed_at)} "


def source_line(key: str, source: Source, other: Source | None) -> str:
    """A source as a sum; of its deltas, those that the other does not hold."""
    supplier, _, location = key.partition(SOURCE_SEPARATOR)
    count = source.count
    said = "no count"
    if count is not None:
        said = f"count {count.quantity} ({count.id!r}, {iso(count.at)})" if count.kind == 0 else "withdrawn"
    carried = f" {source.carried:+d} carried to {iso(source.floor_at)}" if source.floor_at is not None else ""
    known: Sequence[Delta] = () if other is None else other.deltas
    own = [delta for delta in source.deltas if delta not in known]
    total = sum(delta.quantity for delta in source.deltas)
    shown = ", ".join(f"{delta.quantity:+d} ({delta.id!r}, {iso(delta.at)})" for delta in own[:SHOWN_MAX])
    more = f" and {len(own) - SHOWN_MAX} more" if len(own) > SHOWN_MAX else ""
    alone = f"; here alone: {shown}{more}" if own and other is not None else f": {shown}{more}" if own else ""
    return (
        f"{supplier} at {location}: {source.on_hand} = {said}{carried} {total:+d} of {len(source.deltas)} deltas{alone}"
    )


def _same(source: Source, other: Source | None) -> bool:
    if other is None:
        return False
    mine, theirs = (
        (s.count, s.deltas, s.carried, s.floor_at, s.basis, s.incoming, s.stale_after_ms) for s in (source, other)
    )
    return mine == theirs


def as_json(verdict: Verdict, parting: Parting | None) -> dict[str, Any]:
    """All of it, for programs; times in ms since the epoch."""
    found = verdict.first
    first = None if found is None else found.compared.first
    return {
        "rows": verdict.rows,
        "differ": verdict.differ,
        "events": verdict.events,
        "updates": verdict.updates,
        "stock": verdict.stock,
        "tallies": verdict.tallies,
        "facts": verdict.facts,
        "holds": verdict.holds,
        "holds_differ": verdict.holds_differ,
        "reservations": list(reservation_lines(verdict)),
        "partitions": [
            {
                "partition": p.partition,
                "rows": p.compared.rows,
                "differ": p.compared.differ,
                "live_digest": p.compared.live_digest,
                "replayed_digest": p.compared.replayed_digest,
                "start": p.start,
                "end": p.end,
                "events": p.events,
                "stock_end": p.stock_end,
                "facts": p.facts,
                "holds": p.holds.holds,
                "holds_differ": p.holds.differ,
            }
            for p in verdict.partitions
        ],
        "first": None
        if first is None or found is None
        else {
            "sku": first.key.decode(errors="backslashreplace"),
            "partition": found.partition,
            "live": _row_json(first.live),
            "replayed": _row_json(first.replayed),
        }
        | _parting_json(parting),
    }


def _parting_json(parting: Parting | None) -> dict[str, Any]:
    """Nothing where it is not by an update."""
    if parting is None:
        return {}
    return {
        "equal_until": parting.equal_until,
        "differ_at": parting.differ_at,
        "record": parting.record,
        "offset": parting.offset,
        "certain": parting.certain,
        "how": parting.how,
        "update": parting.update,
    }


def _row_json(row: bytes | None) -> dict[str, Any] | None:
    if row is None:
        return None
    decoded = decode_row(row)
    sources = [
        {
            "supplier": key.partition(SOURCE_SEPARATOR)[0],
            "location": key.partition(SOURCE_SEPARATOR)[2],
            "on_hand": source.on_hand,
            "count": None if source.count is None else msgspec.structs.asdict(source.count),
            "deltas": [msgspec.structs.asdict(delta) for delta in source.deltas],
            "carried": source.carried,
            "floor_at": source.floor_at,
            "basis": source.basis,
            "incoming": [msgspec.structs.asdict(receipt) for receipt in source.incoming],
            "stale_after_ms": source.stale_after_ms,
        }
        for key, source in decoded.sources.items()
    ]
    reserved = [
        {
            "supplier": key.partition(SOURCE_SEPARATOR)[0],
            "location": key.partition(SOURCE_SEPARATOR)[2],
            **msgspec.structs.asdict(entry),
        }
        for key, entries in decoded.reserved.items()
        for entry in entries
    ]
    return {"on_hand": decoded.on_hand, "version": decoded.version, "sources": sources, "reserved": reserved}
