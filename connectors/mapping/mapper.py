"""Rows of a supplier's, as found, into columns of updates: one mechanism for every format and every kind of feed.

Invariant: each row becomes one update or has a fault, and what becomes an update is taken by the fold: it passes
`inventory.stock.refusal` (a test holds both). Nothing is guessed. Called by the kinds, with the columns that their
format found under `Mapping.paths`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from connectors.mapping import reading
from connectors.mapping.columns import Fault, Found, Reader, missing
from connectors.mapping.rules import Mapping, QuantityRule, Receipt, TextRule, TimeRule
from connectors.mapping.sku_map import SupplierSkus
from inventory.stock import COUNT, DELTA, FROM_FUTURE, FUTURE_MS_MAX, WITHDRAWN
from schemas.keys import ID_CHARACTERS_MAX, plain_ids

NAMES = ["sku", "location_id"]
PARKED = "parked_sku"
UNKNOWN_SKU = {"park": PARKED, "reject": "unknown_sku"}
"""The reasons of rows whose SKU is not in the map, by what the mapping says of such."""
NUMBER_DIGITS = 10  # of a row, in an id that is made of it
KINDS, BASES = (COUNT, DELTA, WITHDRAWN), ("ON_HAND", "AVAILABLE")
RECEIPT = pa.struct([("expected_at", pa.int64()), ("quantity", pa.int64())])
UPDATES = pa.schema(
    [
        ("sku", pa.string()), ("supplier_id", pa.string()), ("location_id", pa.string()), ("update_id", pa.string()),
        ("kind", pa.string()), ("quantity", pa.int64()), ("observed_at", pa.int64()), ("received_at", pa.int64()),
        ("basis", pa.string()), ("order_ref", pa.string()), ("incoming", pa.list_(RECEIPT)),
        ("stale_after_ms", pa.int64()), ("feed", pa.string()),
    ]
)  # fmt: skip
"""StockUpdate as columns, in the order of its fields."""


class Read(NamedTuple):
    """What rows were read from, and when.

    `origin`: of a file, a name of its content; of a poll, the start of the request, zero-padded, so that of two polls
    the later one has the greater text. Times in ms since the epoch, UTC.
    """

    origin: str
    observed_at: int
    received_at: int


class Mapped(NamedTuple):
    """`updates`: as `UPDATES`; `rows`: the row of each; `faults`: of the other rows, all of each.

    `named`: SKU and location of those of the others that say them. `nameless`: how many do not even say that; a row
    whose SKU the map does not know says it, and offers nothing of ours.
    """

    updates: pa.RecordBatch
    rows: pa.Array
    faults: dict[int, list[Fault]]
    named: pa.RecordBatch
    nameless: int = 0


class Mapper:
    """Maps the rows of one feed.

    Args:
        mapping: checked.
        supplier_id: checked.
        feed: its name; updates tell it with the mapping's version.
        skus: the supplier's part of the map; None: it is not at hand, and SKUs stay the supplier's.

    Raises:
        Rejected: a constant, a default or a value of the mapping cannot be what it is for; names the field.
    """

    def __init__(self, mapping: Mapping, supplier_id: str, feed: str, skus: SupplierSkus | None = None) -> None:
        self.mapping = mapping
        self._skus = None if mapping.sku_map is None else skus
        self._supplier_id = supplier_id
        self._feed = f"{feed}@{mapping.version}"
        self._sku = self._text("sku", mapping.sku)
        self._location = self._text("location", mapping.location)
        self._kind = Reader("kind", mapping.kind, reading.choice(KINDS), pa.string())
        self._basis = Reader("basis", mapping.basis, reading.choice(BASES), pa.string())
        self._quantity = None if mapping.quantity is None else self._units("quantity", mapping.quantity, False)
        self._observed_at = None if mapping.observed_at is None else self._time("observed_at", mapping.observed_at)
        self._update_id = None if mapping.update_id is None else self._text("update_id", mapping.update_id)
        self._order_ref = None if mapping.order_ref is None else self._text("order_ref", mapping.order_ref, False)
        self._incoming = [self._receipt(i, receipt) for i, receipt in enumerate(mapping.incoming)]

    def map(self, found: Found, numbers: pa.Int64Array, read: Read) -> Mapped:
        """The updates of rows. `numbers`: of each among all rows of what it was read from."""
        count = len(numbers)
        faults: dict[int, list[Fault]] = {}

        def column(reader: Reader | None, otherwise: Any, kind: pa.DataType) -> pa.Array:  # noqa: ANN401
            if reader is None:
                return pa.repeat(pa.scalar(otherwise, kind), count)
            values, wrong = reader.column(found, count)
            for row, fault in wrong.items():
                faults.setdefault(row, []).append(fault)
            return values

        text, number = pa.string(), pa.int64()
        kind = column(self._kind, None, text)
        quantity = self._told_units(kind, column(self._quantity, None, number))
        observed_at = column(self._observed_at, read.observed_at, number)
        order_ref = column(self._order_ref, None, text)
        columns = {
            "sku": column(self._sku, None, text),
            "supplier_id": pa.repeat(self._supplier_id, count),
            "location_id": column(self._location, None, text),
            "update_id": _made_ids(read, numbers) if self._update_id is None else column(self._update_id, "", text),
            "kind": kind,
            "quantity": quantity,
            "observed_at": observed_at,
            "received_at": pa.repeat(pa.scalar(read.received_at, number), count),
            "basis": column(self._basis, None, text),
            "order_ref": order_ref,
            "incoming": self._announced(kind, [[column(r, None, number) for r in pair] for pair in self._incoming]),
            "stale_after_ms": self._stale_after(kind, count),
            "feed": pa.repeat(self._feed, count),
        }
        for rows, fault in self._contradictions(kind, quantity, observed_at, order_ref, read.received_at):
            for row in pc.indices_nonzero(pc.fill_null(rows, False)).to_pylist():
                of_row = faults.setdefault(row, [])
                if all(known.field != fault.field for known in of_row):
                    of_row.append(fault)
        columns["sku"], unknown = self._ours(columns["sku"], faults)
        updates = pa.RecordBatch.from_arrays([columns[name] for name in UPDATES.names], schema=UPDATES)
        good = pa.array([row for row in range(count) if row not in faults] if faults else range(count), pa.int64())
        names = [
            row for row, of_row in faults.items() if not any(fault.field in ("sku", "location") for fault in of_row)
        ]
        named = updates.take(pa.array(names, pa.int64())).select(NAMES)
        nameless = len(faults) - len(names) - unknown
        return Mapped(updates.take(good) if faults else updates, good, faults, named, nameless)

    def _ours(self, sku: pa.Array, faults: dict[int, list[Fault]]) -> tuple[pa.Array, int]:
        """SKUs as the map has them, and how many rows have one that is not there and may not pass."""
        rule = self.mapping.sku_map
        if rule is None or self._skus is None:
            return sku, 0
        ours = pa.array(self._skus.look_up(sku.to_pylist()), pa.string())
        if ours.null_count == sku.null_count:
            return ours, 0
        if rule.unknown == "pass":
            return pc.coalesce(ours, sku), 0
        unknown = pc.indices_nonzero(pc.and_(pc.is_null(ours), pc.is_valid(sku)))
        for row, text in zip(unknown.to_pylist(), sku.take(unknown).to_pylist(), strict=True):
            detail = (
                f"sku: {text[: reading.SHOWN_MAX]!r} is not in the map; `stockweave skus set {self._supplier_id} ...`"
            )
            faults.setdefault(row, []).append(Fault(UNKNOWN_SKU[rule.unknown], "sku", detail, text))
        return ours, len(unknown)

    def _told_units(self, kind: pa.Array, quantity: pa.Array) -> pa.Array:
        """WITHDRAWN has none, and a count below zero may stand for nothing left."""
        rule = self.mapping.quantity
        if rule is not None and rule.below_zero == "zero":
            below = pc.and_(pc.equal(kind, COUNT), pc.less(quantity, 0))
            quantity = pc.if_else(pc.fill_null(below, False), 0, quantity)
        return pc.if_else(pc.fill_null(pc.equal(kind, WITHDRAWN), False), 0, quantity)

    def _contradictions(
        self, kind: pa.Array, quantity: pa.Array, observed_at: pa.Array, order_ref: pa.Array, received_at: int
    ) -> Sequence[tuple[pa.Array, Fault]]:
        """What fields say together that cannot be, by the rows that say it."""
        is_count, is_delta, rule = pc.equal(kind, COUNT), pc.equal(kind, DELTA), self.mapping.quantity
        nothing = "the mapping has none; name its path" if rule is None else missing(rule)
        return [
            (
                pc.and_(pc.or_(is_count, is_delta), pc.is_null(quantity)),
                Fault("missing", "quantity", f"quantity: {nothing}"),
            ),
            (
                pc.and_(is_count, pc.less(quantity, 0)),
                Fault("out_of_range", "quantity", "quantity: a COUNT is below zero; set below_zero, or mend the kind"),
            ),
            (
                pc.and_(is_delta, pc.equal(quantity, 0)),
                Fault("out_of_range", "quantity", "quantity: a DELTA of zero changes nothing; leave it out"),
            ),
            (
                pc.greater(observed_at, received_at + FUTURE_MS_MAX),
                Fault(FROM_FUTURE, "observed_at", "observed_at: it is more than 5 minutes ahead; mend zone or format"),
            ),
            (
                pc.and_(pc.is_valid(order_ref), pc.invert(is_delta)),
                Fault("not_allowed", "order_ref", "order_ref: it goes with a DELTA alone; leave it out of others"),
            ),
        ]

    def _announced(self, kind: pa.Array, pairs: list[list[pa.Array]]) -> pa.Array:
        """What is announced with each count: pairs of which both are there."""
        if not pairs:  # Arrow repeats no list zero times
            return pa.repeat(pa.scalar([], pa.list_(RECEIPT)), max(len(kind), 1)).slice(0, len(kind))
        of_pairs = [zip(at.to_pylist(), units.to_pylist(), strict=True) for at, units in pairs]
        entries = [
            [
                {"expected_at": at, "quantity": units}
                for at, units in row
                if at is not None and units is not None and units > 0
            ]
            if told == COUNT
            else []
            for told, row in zip(kind.to_pylist(), zip(*of_pairs, strict=True), strict=True)
        ]
        return pa.array(entries, pa.list_(RECEIPT))

    def _stale_after(self, kind: pa.Array, count: int) -> pa.Array:
        seconds = self.mapping.stale_after_s
        nothing = pa.repeat(pa.scalar(None, pa.int64()), count)
        if seconds is None:
            return nothing
        return pc.if_else(pc.fill_null(pc.equal(kind, COUNT), False), pa.scalar(seconds * 1_000, pa.int64()), nothing)

    def _text(self, field: str, rule: TextRule, required: bool = True) -> Reader:
        return Reader(
            field, rule, reading.text(rule), pa.string(), required, are_values=None if rule.upper else plain_ids
        )

    def _units(self, field: str, rule: QuantityRule, required: bool = True) -> Reader:
        return Reader(field, rule, reading.quantity(rule), pa.int64(), required, reading.units)

    def _time(self, field: str, rule: TimeRule, required: bool = True) -> Reader:
        return Reader(field, rule, reading.moment(rule), pa.int64(), required)

    def _receipt(self, i: int, receipt: Receipt) -> tuple[Reader, Reader]:
        name = f"incoming.{i}"
        return (
            self._time(f"{name}.expected_at", receipt.expected_at, False),
            self._units(f"{name}.quantity", receipt.quantity, False),
        )


def _made_ids(read: Read, numbers: pa.Int64Array) -> pa.Array:
    """Made of where a row stood: a later row, and a later reading, has the greater id."""
    prefix = read.origin[: ID_CHARACTERS_MAX - NUMBER_DIGITS - 1]
    return pc.binary_join_element_wise(prefix, pc.utf8_lpad(numbers.cast(pa.string()), NUMBER_DIGITS, "0"), ":")
