"""Rows of inventory.stock as workers and readers hold them: msgspec structs, on the wire as MessagePack arrays.

The field order is that of schemas/avro/StockRow.3.avsc and Position.4.avsc (a test holds them together); a field is
only ever appended, with a default, so that older bytes stay readable. Made for the hot path: a row's sources are
encoded each on its own and are byte strings within the row, so that an update of one does not pay for the hundreds
beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Count(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """A source's present count. `kind`: 0 COUNT, 1 WITHDRAWN; `at`: observed_at in ms; `quantity`: units."""

    kind: int
    id: str
    at: int
    quantity: int


class Delta(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """A change observed after the count; `quantity`: units, signed; `at`: observed_at in ms."""

    at: int
    id: str
    quantity: int
    order_ref: str | None = None


class Receipt(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Units announced for `expected_at` (ms)."""

    expected_at: int
    quantity: int


class Source(msgspec.Struct, array_like=True, gc=False):
    """One supplier at one location; see StockRow.3.avsc for every field."""

    count: Count | None = None
    deltas: list[Delta] = []
    carried: int = 0
    floor_at: int | None = None
    basis: int = 0
    incoming: list[Receipt] = []
    stale_after_ms: int | None = None
    received_at: int = 0
    offset: int = 0

    @property
    def on_hand(self) -> int:
        """Units: the count, what was carried, and the deltas; below zero when oversold at the supplier."""
        total = self.carried if self.count is None else self.carried + self.count.quantity
        for delta in self.deltas:
            total += delta.quantity
        return total


class Open(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Units reserved of a source, for one channel; whether its count knows of them is asked when the row is read.

    `committed_at`: a count of basis AVAILABLE observed then or later knows; `fulfilled_at`: any count does. In ms.
    """

    units: int
    channel: str
    committed_at: int | None = None
    fulfilled_at: int | None = None


class StockRow(msgspec.Struct, array_like=True, gc=False):
    """A whole row, for readers: see `decode_row`, `encode_row`.

    `sources`, `reserved`: by `schemas.keys.source_key`; reserved under "": sold beyond the stock. `alert`, `oversold`:
    what was told of it, see `inventory.alerts`.
    """

    sku: str
    version: int
    on_hand: int
    changed_at: int
    sources: dict[str, Source]
    reserved: dict[str, list[Open]] = {}
    alert: int = 0
    oversold: list[str] = []


class PackedRow(msgspec.Struct, array_like=True, gc=False):
    """The same row as it is on the wire, with its sources still encoded, for the fold."""

    sku: str
    version: int
    on_hand: int
    changed_at: int
    sources: dict[str, bytes]
    reserved: dict[str, list[Open]] = {}
    alert: int = 0
    oversold: list[str] = []


class Position(msgspec.Struct, array_like=True, gc=False):
    """How far a partition is folded; see Position.4.avsc. `outcomes`: by supplier, in the order of `OUTCOMES`."""

    offsets: dict[str, int]
    outcomes: dict[str, list[int]]
    clock: int = 0
    oldest_received_at: int = 0
    updates_generation: str = ""
    facts: int = 0
    facts_from: int = 0
    decided_at: int = 0
    forgotten_to: int = 0

    def events(self) -> int:
        """Events folded so far: every one ended as exactly one outcome."""
        return sum(map(sum, self.outcomes.values()))


OUTCOMES = ("applied", "duplicate", "superseded", "rejected")

UNATTRIBUTED = ""  # in a position's outcomes: what named no supplier by a valid id
OTHERS = " others"  # and the suppliers beyond the `SUPPLIERS_MAX` that came first; an id never begins with a space
SUPPLIERS_MAX = 10_000  # by name, in a position record, which every transaction writes

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
encode_into = _encoder.encode_into
decode_packed_row = msgspec.msgpack.Decoder(PackedRow).decode
_decode_packed_rows = msgspec.msgpack.Decoder(list[PackedRow]).decode
decode_source = msgspec.msgpack.Decoder(Source).decode
decode_position = msgspec.msgpack.Decoder(Position).decode


def decode_packed_rows(rows: Sequence[bytes]) -> list[PackedRow]:
    """The rows of their bytes, some dozens at a time, in two thirds of the time of one by one.

    They are copied next to each other first: the processor fetches many rows at once then, where a decoder waits for
    each. (They are the MessagePack array of their number, its longest form: `array 32`.)

    Raises:
        msgspec.DecodeError: they are no rows.
    """
    return _decode_packed_rows(b"".join((b"\xdd", len(rows).to_bytes(4, "big"), *rows)))


def decode_row(row: bytes) -> StockRow:
    """The whole row of its bytes.

    Raises:
        msgspec.DecodeError: they are no row.
    """
    return unpacked(decode_packed_row(row))


def unpacked(row: PackedRow) -> StockRow:
    """The whole row of a packed one.

    Raises:
        msgspec.DecodeError: a source of it is none.
    """
    sources = {key: decode_source(source) for key, source in row.sources.items()}
    return StockRow(
        row.sku, row.version, row.on_hand, row.changed_at, sources, row.reserved, row.alert, row.oversold
    )  # fmt: skip


def encode_row(row: StockRow) -> bytes:
    """The bytes of a whole row."""
    sources = {key: encode(source) for key, source in row.sources.items()}
    return encode(
        PackedRow(row.sku, row.version, row.on_hand, row.changed_at, sources, row.reserved, row.alert, row.oversold)
    )
