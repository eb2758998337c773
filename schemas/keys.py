"""Keys of inventory.stock and of every local store: SKUs as they are, and reserved prefixes for all else.

A SKU has no control characters, so a first byte below 0x20 never begins one, and rows sort after the reserved keys.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Collection

POSITION = b"\x00position"  # the partition's position record, in the topic and in the store
LOCAL = b"\x00local"  # the follower's own bookkeeping; in the store alone, never in a topic
UNDONE = b"\x00undone"  # of records that are to be undone; who sees one, since Kafka lost the end, passes over it
HOLD_PREFIX = b"\x01"
ORDER_PREFIX = b"\x02"
ROW_FIRST = b"\x20"  # the lowest byte that a row's key can begin with

SOURCE_SEPARATOR = "\x1f"
ID_CHARACTERS_MAX = 128

_CONTROL = r"\u0000-\u001f\u007f-\u009f"
_SPACE = r" \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_EDGE, _INSIDE = f"[^{_CONTROL}{_SPACE}]", f"[^{_CONTROL}]"
_PART_EDGE, _PART = f"[^{_CONTROL}{_SPACE},]", f"[^{_CONTROL},]"
ID_PATTERN = f"^{_EDGE}({_INSIDE}{{0,{ID_CHARACTERS_MAX - 2}}}{_EDGE})?$"
"""What `id_problem` lets pass, but for the composed form, which no pattern can tell; for descriptions, as ECMA-262."""
IDS_PATTERN = "^{0}(,{0})*$".format(f"{_PART_EDGE}({_PART}{{0,{ID_CHARACTERS_MAX - 2}}}{_PART_EDGE})?")
"""One or more ids without commas, with commas between them."""


def hold_key(sku: str, reservation_id: str) -> bytes:
    """Key of a hold: all holds of a SKU are neighbours."""
    return HOLD_PREFIX + sku.encode() + b"\x00" + reservation_id.encode()


def order_prefix(order_id: str) -> bytes:
    """What the keys of an order's lines begin with."""
    return ORDER_PREFIX + order_id.encode() + b"\x00"


def order_key(order_id: str, sku: str, reservation_id: str) -> bytes:
    """Key of a record that says nothing but that this hold belongs to this order."""
    return line_prefix(order_id, sku) + reservation_id.encode()


def line_prefix(order_id: str, sku: str) -> bytes:
    """What the keys of an order's lines of one SKU begin with."""
    return order_prefix(order_id) + sku.encode() + b"\x00"


def source_key(supplier_id: str, location_id: str) -> str:
    """Key of a source within its row."""
    return f"{supplier_id}{SOURCE_SEPARATOR}{location_id}"


def plain_ids(values: Collection[str]) -> bool:
    """Whether all are printable ASCII without outer spaces and of an allowed length: the quick yes for most ids."""
    together = "|".join(values)
    return (
        together.isascii()
        and together.isprintable()
        and all(values)
        and max(map(len, values), default=0) <= ID_CHARACTERS_MAX
        and not (" |" in together or "| " in together or together.startswith(" ") or together.endswith(" "))
    )


def id_problem(value: str) -> str | None:
    """What is wrong with an id (SKU, supplier, location, update, order), or None.

    Ids are 1 to 128 characters, NFC-normalised, without control characters and without spaces at the ends.
    """
    if not value:
        return "is empty"
    if len(value) > ID_CHARACTERS_MAX:
        return f"has {len(value)} characters; at most {ID_CHARACTERS_MAX} are allowed"
    if value.isascii() and value.isprintable():
        return "begins or ends with a space" if value[0] == " " or value[-1] == " " else None
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in value):
        return "contains a control character"
    if value.strip() != value:
        return "begins or ends with a space"
    if not unicodedata.is_normalized("NFC", value):
        return "is not NFC-normalised; send the composed form"
    return None


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 of Kafka's Java client (`org.apache.kafka.common.utils.Utils.murmur2`), unsigned."""
    m, mask, length = 0x5BD1E995, 0xFFFFFFFF, len(data)
    h = (0x9747B28C ^ length) & mask
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if tail := data[whole:]:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


@functools.lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition that `partitioner=murmur2_random` and the Java client give a key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def feed_partition(feed: str, partitions: int) -> int:
    """Where in inventory.feeds all of a feed is: by its supplier, for all feeds of one share his budget and breaker.

    Args:
        feed: its whole name, `supplier/feed`.
        partitions: of inventory.feeds.
    """
    return partition_of(feed.partition("/")[0].encode(), partitions)
