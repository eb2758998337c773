"""The stock rule for one source (a supplier at a location) of one SKU.

A source is its last count and the deltas observed after it, so what is needed to find duplicates exactly is what is
needed to compute, and no set of all ids is kept. The law: any order and any repetition of a set of updates gives one
source, while none is later than the horizon; beyond it, log order decides. Called by `inventory.fold`, event by event.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from operator import attrgetter
from typing import NamedTuple, TypedDict

from schemas.keys import id_problem, plain_ids
from schemas.rows import Count, Delta, Receipt, Source

COUNT, DELTA, WITHDRAWN = "COUNT", "DELTA", "WITHDRAWN"
KINDS = {COUNT: 0, WITHDRAWN: 1}  # as stored; a withdrawal is a count without a quantity
BASES = {"ON_HAND": 0, "AVAILABLE": 1}

APPLIED = "applied"
REPLACED = "replaced"  # a form of applied: a stronger update of the same id took its place
DUPLICATE = "duplicate"
SUPERSEDED = "superseded"
CONFLICT = "update_id_conflict"  # this and what follows are reasons of a rejection
TOO_OLD = "too_old"
OUT_OF_RANGE = "sum_out_of_range"
FROM_FUTURE = "observed_in_future"
INVALID = "invalid_update"
ROW_FULL = "row_full"
WRONG_PARTITION = "wrong_partition"

FUTURE_MS_MAX = 5 * 60_000
INCOMING_MAX = 100  # announced receipts of an update
QUANTITY_MAX = 10**12  # units; every sum of a source then stays exact in JSON and within 64 bits in a row
CARRIED_MAX = 10**15


class Announced(TypedDict):
    """Units announced for `expected_at` (ms)."""

    expected_at: int
    quantity: int


class StockUpdate(TypedDict):
    """A decoded update; StockUpdate.1.avsc says what each field means. Times in ms, quantity in units."""

    sku: str
    supplier_id: str
    location_id: str
    update_id: str
    kind: str
    quantity: int
    observed_at: int
    received_at: int
    basis: str
    order_ref: str | None
    incoming: list[Announced]
    stale_after_ms: int | None
    feed: str


Event = tuple[str, str, int, str, int, int, int, str | None, str, list[Announced], int | None]
"""An update of a row: its source's key, kind, observed_at, update_id, quantity, received_at, offset, order_ref, basis,
incoming, stale_after_ms."""


class Limits(NamedTuple):
    """What bounds a source. `horizon_ms`: of observed time; `entries_max`: deltas kept one by one."""

    horizon_ms: int = 7 * 86_400_000
    entries_max: int = 256


_at = attrgetter("at")
_order = attrgetter("at", "id")


def refusal(update: StockUpdate) -> str | None:
    """Why an update can never be used, whatever the row: a reason, a colon, the field and the remedy; or None."""
    kind, quantity = update["kind"], update["quantity"]
    if update["observed_at"] > update["received_at"] + FUTURE_MS_MAX:
        return f"{FROM_FUTURE}: observed_at is more than 5 minutes after received_at; mend the supplier's clock"
    if kind == DELTA and quantity == 0:
        return f"{INVALID}: quantity of a DELTA is 0; send only changes"
    if kind == COUNT and quantity < 0:
        return f"{INVALID}: quantity of a COUNT is {quantity}; send zero or more"
    if kind == WITHDRAWN and quantity != 0:
        return f"{INVALID}: quantity of a WITHDRAWN is {quantity}; send zero"
    if not -QUANTITY_MAX <= quantity <= QUANTITY_MAX:
        return f"{INVALID}: quantity is {quantity}; at most {QUANTITY_MAX} units"
    if update["observed_at"] < 0:
        return f"{INVALID}: observed_at is before 1970"
    return _too_large(update)


def _too_large(update: StockUpdate) -> str | None:
    """The part of `refusal` that bounds what an update can add to a row."""
    if len(update["incoming"]) > INCOMING_MAX:
        return f"{INVALID}: incoming has {len(update['incoming'])} entries; at most {INCOMING_MAX}, send the next ones"
    ids = [update["sku"], update["supplier_id"], update["location_id"], update["update_id"]]
    if update["order_ref"] is not None:
        ids.append(update["order_ref"])
    if plain_ids(ids):
        return None
    for field, value in zip(("sku", "supplier_id", "location_id", "update_id", "order_ref"), ids, strict=False):
        if problem := id_problem(value):
            return f"{INVALID}: {field} {problem}"
    return None


def apply(source: Source, update: StockUpdate, limits: Limits) -> str:
    """`apply_event` for an update as a record, whose offset is not known."""
    event = (
        "", update["kind"], update["observed_at"], update["update_id"], update["quantity"], update["received_at"],
        source.offset, update["order_ref"], update["basis"], update["incoming"], update["stale_after_ms"],
    )  # fmt: skip
    return apply_event(source, event, limits)


def apply_event(source: Source, event: Event, limits: Limits) -> str:
    """Apply one valid update in place; the outcome is one of the constants above.

    The source is left as it was unless the outcome is `APPLIED` or `REPLACED`.
    """
    _, kind, at, update_id, quantity, received_at, offset, order_ref, basis, incoming, stale_after_ms = event
    if kind == DELTA:
        outcome = apply_delta(source, at, update_id, quantity, order_ref, limits)
    else:
        outcome = apply_count(source, Count(KINDS[kind], update_id, at, quantity), limits)
        if outcome is APPLIED or outcome is REPLACED:
            describe(source, basis, incoming, stale_after_ms)
    if outcome is APPLIED or outcome is REPLACED:
        source.received_at, source.offset = received_at, offset
    return outcome


def apply_delta(source: Source, at: int, update_id: str, quantity: int, order_ref: str | None, limits: Limits) -> str:
    """`apply_event` for a DELTA, by its fields; `received_at` and offset are the caller's to set."""
    if source.count is not None and at <= source.count.at:
        return SUPERSEDED  # the count holds it already; at equal time too
    if source.floor_at is not None:  # else nothing is carried
        if at <= source.floor_at:
            return TOO_OLD  # it may be in `carried`: never twice
        if abs(source.carried) > CARRIED_MAX:
            return OUT_OF_RANGE  # no stock; without an end to it a sum would one day fit no row, and stop the worker
    deltas = source.deltas
    outcome = APPLIED
    for i, held in enumerate(deltas):
        if held.id == update_id:
            if held.at == at and held.quantity == quantity:
                return DUPLICATE
            if (at, -quantity) < (held.at, -held.quantity):
                return CONFLICT
            del deltas[i]
            outcome = REPLACED
            break
    delta = Delta(at, update_id, quantity, order_ref)
    if not deltas or deltas[-1].at < at:
        deltas.append(delta)
    else:
        insort(deltas, delta, key=_order)
    if len(deltas) > limits.entries_max or deltas[0].at < deltas[-1].at - limits.horizon_ms:
        _carry(source, limits)
    return outcome


def apply_count(source: Source, new: Count, limits: Limits) -> str:
    """`apply_event` for a COUNT or WITHDRAWN; what else such an update says is for `describe`."""
    at, present = new.at, source.count
    if present is not None and at < present.at:
        return CONFLICT if new.id == present.id else SUPERSEDED
    if source.floor_at is not None and at <= source.floor_at:
        return TOO_OLD  # deltas of that time are carried, and which of them it holds is no longer known
    outcome = APPLIED
    if present is not None:
        if new.id == present.id:
            if new == present:
                return DUPLICATE
            if (at, -new.quantity, new.kind) < (present.at, -present.quantity, present.kind):
                return CONFLICT
            outcome = REPLACED
        elif at == present.at and new.id < present.id:
            return SUPERSEDED
    source.count = new
    if source.floor_at is not None:
        source.carried, source.floor_at = 0, None
    if source.deltas:
        source.deltas = source.deltas[bisect_right(source.deltas, at, key=_at) :]
        _carry(source, limits)
    return outcome


def describe(source: Source, basis: str, incoming: list[Announced], stale_after_ms: int | None) -> None:
    """Take over what a count says of its source beside the quantity."""
    source.basis = BASES[basis]
    if incoming or source.incoming:
        source.incoming = [Receipt(i["expected_at"], i["quantity"]) for i in incoming]
    source.stale_after_ms = stale_after_ms


def observed_at(source: Source) -> int:
    """When the source's latest statement was true at the supplier; ms since the epoch."""
    if source.deltas:
        return source.deltas[-1].at  # in order of time, and all after the count and the floor
    count_at = source.count.at if source.count is not None else 0
    return max(count_at, source.floor_at or 0)


def _carry(source: Source, limits: Limits) -> None:
    """Fold the oldest deltas into `carried`, past the horizon or the entry limit, a whole millisecond at a time."""
    deltas = source.deltas
    if not deltas:
        return
    floor = deltas[-1].at - limits.horizon_ms  # the newest delta is later than the count, or it would not be here
    over = len(deltas) - limits.entries_max
    if over <= 0 and deltas[0].at >= floor:
        return
    cut = bisect_left(deltas, floor, key=_at)
    if over > cut:
        cut = bisect_right(deltas, deltas[over - 1].at, key=_at)
    source.floor_at = deltas[cut - 1].at
    source.carried += sum(delta.quantity for delta in deltas[:cut])
    del deltas[:cut]
