"""What a supplier's SKUs are called with us: the records of the compacted inventory.sku-map.

A key is the supplier's id and its SKU with U+001F between them, which neither can contain; a value is `{"sku": ...}`,
and a record without one takes the entry back. Written by `stockweave skus`, read by connectors and commands.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from confluent_kafka import Message

from schemas.keys import SOURCE_SEPARATOR, id_problem
from stockweave.errors import Rejected


class Entry(NamedTuple):
    """What a supplier's SKU means. `sku`: ours; None: nothing any more."""

    supplier_id: str
    supplier_sku: str
    sku: str | None


class _Value(msgspec.Struct, frozen=True):
    sku: str


_decode = msgspec.json.Decoder(_Value).decode


def record(entry: Entry) -> tuple[bytes, bytes | None]:
    """Key and value."""
    key = f"{entry.supplier_id}{SOURCE_SEPARATOR}{entry.supplier_sku}".encode()
    return key, None if entry.sku is None else msgspec.json.encode(_Value(entry.sku))


def entry_of(message: Message) -> Entry:
    """What a record says.

    Raises:
        Rejected: it is none of ours.
    """
    key, value = message.key() or b"", message.value()
    try:
        supplier_id, separator, supplier_sku = key.decode().partition(SOURCE_SEPARATOR)
        sku = None if value is None else _decode(value).sku
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected("invalid_sku_map", f"record {key!r} of inventory.sku-map cannot be read: {error}") from None
    if not separator or (sku is not None and id_problem(sku)):
        raise Rejected("invalid_sku_map", f"record {key!r} of inventory.sku-map is no entry; remove it")
    return Entry(supplier_id, supplier_sku, sku)
