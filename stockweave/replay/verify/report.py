"""What `stockweave verify` found, in words and as JSON; pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from schemas.keys import SOURCE_SEPARATOR
from schemas.rows import Delta, Source, StockRow, decode_row

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
    """The line that a script may look for."""
    return f"verified {verdict.rows:,} rows in {len(verdict.partitions)} partitions: {verdict.differ:,} differ"


def partition_lines(verdict: Verdict) -> Iterator[str]:
    """A line for each partition, with the digests of both sides."""
    for p in verdict.partitions:
        compared = p.compared
        replayed = "" if compared.live_digest == compared.replayed_digest else f", replayed {compared.replayed_digest}"
        yield (
            f"partition {p.partition}: {compared.rows:,} rows, {compared.differ:,} differ, digest "
            f"{compared.live_digest}{replayed}; updates {p.start:,} to {p.end:,}, {verdict.stock} to {p.stock_end:,}"
        )


def difference(verdict: Verdict, found: PartitionVerdict, parting: Parting) -> Iterator[str]:
    """The first SKU that differs: both rows, and where they part."""
    first = found.compared.first
    if first is None:
        return
    yield f"the first SKU that differs: {first.key.decode(errors='backslashreplace')!r} in partition {found.partition}"
    live, replayed = (None if row is None else decode_row(row) for row in (first.live, first.replayed))
    yield from row_lines("live", live, replayed)
    yield from row_lines("replayed", replayed, live)
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
            }
            for p in verdict.partitions
        ],
        "first": None
        if first is None or found is None or parting is None
        else {
            "sku": first.key.decode(errors="backslashreplace"),
            "partition": found.partition,
            "live": _row_json(first.live),
            "replayed": _row_json(first.replayed),
            "equal_until": parting.equal_until,
            "differ_at": parting.differ_at,
            "record": parting.record,
            "offset": parting.offset,
            "certain": parting.certain,
            "how": parting.how,
            "update": parting.update,
        },
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
    return {"on_hand": decoded.on_hand, "version": decoded.version, "sources": sources}
