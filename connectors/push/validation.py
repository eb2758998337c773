"""From what a supplier sent to a record of StockUpdate, or to its faults, each with the field in the sender's spelling.

Invariant: what passes here passes `inventory.stock.refusal` and fits the Avro schema (a test holds both), so nothing
that was accepted is refused later for its own content. Called for every update; the clock is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from connectors.push.models import InventoryUpdate
from inventory.stock import COUNT, DELTA, FROM_FUTURE, FUTURE_MS_MAX, WITHDRAWN
from schemas.codec import Record
from schemas.keys import id_problem
from stockweave.errors import Rejected

FEED = "push"
FAULTS_MAX = 20  # of one update that are told; what is sent could have thousands
FIELD_CHARACTERS_MAX = 200  # of a name that is told; a sender may have made it up

_validator = TypeAdapter(InventoryUpdate).validator
from_json: Callable[[bytes], InventoryUpdate] = _validator.validate_json
from_object: Callable[[object], InventoryUpdate] = _validator.validate_python

_INTEGER = ("not_an_integer", "is not a whole number; send it without quotes, fraction or exponent")
_SAID = {
    "missing": ("missing", "is missing; send it"),
    "extra_forbidden": ("unknown_field", "is not a field of an update; remove it, or mend its spelling"),
    "int_type": _INTEGER,
    "int_from_float": _INTEGER,
    "int_parsing": _INTEGER,
    "int_parsing_size": ("out_of_range", "is beyond 64 bits; send a smaller number"),
    "greater_than_equal": ("out_of_range", "is less than {ge}; send {ge} or more"),
    "less_than_equal": ("out_of_range", "is more than {le}; send {le} or less"),
    "literal_error": ("unknown_value", "is none of {expected}; send one of them"),
    "string_type": ("not_a_string", "is not a string; send it in quotes"),
    "string_unicode": ("not_a_string", "is not valid Unicode; send UTF-8"),
    "tuple_type": ("not_a_list", "is not a list; send [...]"),
    "too_long": ("too_long", "has more than {max_length} entries; send the next ones"),
    "model_type": ("not_an_object", "is not an object; send {{...}}"),
    "model_attributes_type": ("not_an_object", "is not an object; send {{...}}"),
    "json_invalid": ("malformed_json", "is not JSON ({error}); send one object"),
}
"""Pydantic's kinds of error, as our reason and as what is said of the field; our own kinds speak for themselves."""


class Fault(NamedTuple):
    """`field` is None when it is the whole update that is at fault; `detail` begins with its name."""

    reason: str
    field: str | None
    detail: str


def checked_supplier(supplier_id: str) -> str:
    """The id as it is. Raises `Rejected` with the remedy."""
    if problem := id_problem(supplier_id):
        raise Rejected("invalid_id", f"supplierId in the path {problem}; mend the address", "supplierId")
    return supplier_id


def faults_of(error: ValidationError) -> list[Fault]:
    """What pydantic found, one fault a field."""
    if (count := error.error_count()) > FAULTS_MAX:
        return [Fault("too_many_faults", None, f"the update has {count} faults; see /openapi.json for its fields")]
    return [_fault(details) for details in error.errors(include_url=False, include_input=False)]


def record_of(update: InventoryUpdate, supplier_id: str, received_at: int) -> Record | list[Fault]:
    """The record to publish, or what its fields contradict.

    Args:
        update: with each of its fields checked.
        supplier_id: checked.
        received_at: now, in milliseconds since the epoch.
    """
    kind, quantity = update.kind, update.quantity
    if quantity is None and kind == WITHDRAWN:
        quantity = 0
    if (
        quantity is None
        or update.timestamp > received_at + FUTURE_MS_MAX
        or (quantity == 0 if kind == DELTA else quantity < 0 or (kind == WITHDRAWN and quantity != 0))
        or (kind != DELTA and update.order_ref is not None)
        or (kind != COUNT and (update.incoming or update.stale_after_ms is not None))
    ):
        return _contradictions(update, received_at)
    return {
        "sku": update.sku,
        "supplier_id": supplier_id,
        "location_id": update.location,
        "update_id": update.update_id,
        "kind": kind,
        "quantity": quantity,
        "observed_at": update.timestamp,
        "received_at": received_at,
        "basis": update.basis,
        "order_ref": update.order_ref,
        "incoming": [{"expected_at": i.expected_at, "quantity": i.quantity} for i in update.incoming],
        "stale_after_ms": update.stale_after_ms,
        "feed": FEED,
    }


def _contradictions(update: InventoryUpdate, received_at: int) -> list[Fault]:
    kind, quantity = update.kind, update.quantity
    faults = []
    if quantity is None and kind != WITHDRAWN:
        faults.append(Fault("missing", "quantity", f"quantity is missing; a {kind} needs it"))
    if quantity is not None:
        if kind == COUNT and quantity < 0:
            faults.append(Fault("out_of_range", "quantity", "quantity of a COUNT is below zero; send zero or more"))
        if kind == DELTA and quantity == 0:
            faults.append(Fault("out_of_range", "quantity", "quantity of a DELTA is zero; send only changes"))
        if kind == WITHDRAWN and quantity != 0:
            faults.append(Fault("out_of_range", "quantity", "quantity of a WITHDRAWN is not zero; leave it out"))
    if update.timestamp > received_at + FUTURE_MS_MAX:
        ahead_s = (update.timestamp - received_at) // 1000
        detail = f"timestamp is {ahead_s} s ahead of the service's clock; at most 5 minutes are taken, mend your clock"
        faults.append(Fault(FROM_FUTURE, "timestamp", detail))
    if kind != DELTA and update.order_ref is not None:
        faults.append(Fault("not_allowed", "orderRef", f"orderRef goes with a DELTA, this is a {kind}; leave it out"))
    for field, given in (("incoming", bool(update.incoming)), ("staleAfterMs", update.stale_after_ms is not None)):
        if kind != COUNT and given:
            faults.append(Fault("not_allowed", field, f"{field} goes with a COUNT, this is a {kind}; leave it out"))
    return faults


def _fault(details: ErrorDetails) -> Fault:
    field = ".".join(map(str, details["loc"]))[:FIELD_CHARACTERS_MAX] or None
    context: dict[str, Any] = details.get("ctx", {})
    reason, said = _SAID.get(details["type"], (details["type"], None))
    return Fault(reason, field, f"{field or 'the update'} {said.format(**context) if said else details['msg']}")
