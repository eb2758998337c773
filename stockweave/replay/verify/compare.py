"""Compares two stores of one partition, the live one and the one of its replay: rows, holds, and the two together.

Invariant: every record of either side is looked at, and two are the same only if they mean the same. A hold that is on
one side alone is no difference where the other's position says that it may be forgotten. Called by verify and by
rebuilds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, takewhile

import msgspec

from inventory.digest import PartitionDigest, meaning
from inventory.reservations.reserved import Reserved, of_holds
from inventory.reservations.retention import is_explained, is_past
from schemas import keys, rows
from schemas.reservations import Hold, decode_hold
from schemas.rows import StockRow, decode_row
from state.store import PartitionStore
from stockweave.errors import Fatal

SHOWN_MAX = 5
_LAST_OF_ID = b"\0"  # ends an id within a key

Entry = tuple[bytes, bytes]


@dataclass(frozen=True)
class Differing:
    """A record that is not what the replay says; None on the side that has none."""

    key: bytes
    live: bytes | None
    replayed: bytes | None


@dataclass(frozen=True)
class Compared:
    """What became of comparing two stores. `first`: the differing row with the lowest key; digests in hexadecimal."""

    rows: int
    differ: int
    first: Differing | None
    live_digest: str
    replayed_digest: str


@dataclass(frozen=True)
class ComparedHolds:
    """What became of comparing what lies beside the rows.

    Attributes:
        holds: that either side has, without those that the other has forgotten.
        differ: of them, and of the records that tell which orders they belong to.
        first: the first of those.
        disagree: SKUs of whose row something else is reserved than its holds take, or forgotten ones left.
        disagreeing: the first of those: SKU, what the row has reserved, and what its holds take.
    """

    holds: int
    differ: int
    first: list[Differing]
    disagree: int
    disagreeing: list[tuple[str, Reserved, Reserved]]


def compare(live: PartitionStore, replayed: PartitionStore) -> Compared:
    """Compare the rows, in the order of the keys.

    Raises:
        Fatal: a live row is not a row.
    """
    count = differ = 0
    first: Differing | None = None
    digest = PartitionDigest()
    for key, left, right in pairs(live.rows(), replayed.rows()):
        count += 1
        try:
            if left is not None:
                digest.add(key, left)
            same = left is not None and right is not None and same_meaning(left, right)
        except msgspec.DecodeError as error:
            raise _no_row(key, error) from error
        if not same:
            differ += 1
            first = first or Differing(key, left, right)
    live_digest = digest.hexdigest()
    return Compared(count, differ, first, live_digest, digest_of(replayed) if differ else live_digest)


def compare_holds(live: PartitionStore, replayed: PartitionStore) -> ComparedHolds:
    """Compare holds and orders' records, and what each live row has reserved with what its live holds take.

    A row with something reserved and no holds differs from its replay, so it is enough to look at the SKUs of holds.
    """
    count, differ, first = compare_others(live, replayed)
    disagree = 0
    disagreeing: list[tuple[str, Reserved, Reserved]] = []
    for sku, of_sku in groupby(live.holds(), lambda item: sku_of(item[0])):
        said, due = _reserved(live, sku, [hold for _, value in of_sku if (hold := hold_of(value)) is not None])
        if not is_explained(said, due, _forgotten_to(live)):
            disagree += 1
            disagreeing += [(sku.decode(errors="backslashreplace"), said, due)][: SHOWN_MAX - len(disagreeing)]
    return ComparedHolds(count, differ, first, disagree, disagreeing)


def compare_others(live: PartitionStore, replayed: PartitionStore) -> tuple[int, int, list[Differing]]:
    """Holds on either side, how many of them and of orders' records differ, and the first of those."""
    count = differ = 0
    first: list[Differing] = []
    for key, left, right in pairs(others(live), others(replayed)):
        there, away = (replayed, live) if left is None else (live, replayed)
        if None in (left, right) and _is_forgotten(key, there, away):
            continue
        if left is not None and _outlives_its_hold(key, live):
            right = None
        count += key.startswith(keys.HOLD_PREFIX)
        if left != right and not _same_hold(key, left, right):
            differ += 1
            first += [Differing(key, left, right)][: SHOWN_MAX - len(first)]
    return count, differ, first


def _same_hold(key: bytes, left: bytes | None, right: bytes | None) -> bool:
    """Whether both say the same, by whichever version of ours they were written."""
    hold = hold_of(left) if key.startswith(keys.HOLD_PREFIX) else None
    return hold is not None and hold == hold_of(right)


def _is_forgotten(key: bytes, there: PartitionStore, away: PartitionStore) -> bool:
    """Whether a record that is `there` alone is of a hold that may be forgotten where it is `away`, and is."""
    forgotten_to = _forgotten_to(away)
    if not forgotten_to:
        return False
    of_hold = _of_hold(key)
    hold = hold_of(there.get(of_hold))
    return hold is not None and is_past(hold, forgotten_to) and away.get(of_hold) is None


def _outlives_its_hold(key: bytes, store: PartitionStore) -> bool:
    """Whether the record of an order is there though its hold is forgotten."""
    return key.startswith(keys.ORDER_PREFIX) and _forgotten_to(store) > 0 and store.get(_of_hold(key)) is None


def _of_hold(key: bytes) -> bytes:
    """The key of the hold that a record is about."""
    if key.startswith(keys.ORDER_PREFIX):
        return keys.HOLD_PREFIX + key[len(keys.ORDER_PREFIX) :].partition(_LAST_OF_ID)[2]
    return key


def _forgotten_to(store: PartitionStore) -> int:
    return 0 if store.position is None else store.position.forgotten_to


def _reserved(store: PartitionStore, sku: bytes, holds: list[Hold]) -> tuple[Reserved, Reserved]:
    value = store.get(sku)
    try:
        row = StockRow(sku.decode(), 0, 0, 0, {}) if value is None else decode_row(value)
    except msgspec.DecodeError as error:
        raise _no_row(sku, error) from error
    return row.reserved, of_holds(holds, {key: source.count for key, source in row.sources.items()})


def _no_row(key: bytes, error: msgspec.DecodeError) -> Fatal:
    return Fatal(f"the live row under {key!r} is no row ({error}); `stockweave rebuild` makes all anew")


def sku_of(key: bytes) -> bytes:
    """The SKU in the key of a hold."""
    return key[len(keys.HOLD_PREFIX) :].partition(_LAST_OF_ID)[0]


def hold_of(value: bytes | None) -> Hold | None:
    """The hold of its bytes; None where they are none."""
    try:
        return None if value is None else decode_hold(value)
    except msgspec.DecodeError:
        return None


def others(store: PartitionStore) -> Iterator[Entry]:
    """What lies beside the rows, in the order of the keys."""
    return takewhile(lambda item: item[0] < keys.ROW_FIRST, store.records())


def digest_of(store: PartitionStore) -> str:
    """The digest of all rows of a store."""
    digest = PartitionDigest()
    for key, row in store.rows():
        digest.add(key, row)
    return digest.hexdigest()


def same_meaning(left: bytes, right: bytes) -> bool:
    """Whether two encoded rows mean the same; most rows show it without decoding their sources."""
    a, b = rows.decode_packed_row(left), rows.decode_packed_row(right)
    if a.sku == b.sku and a.on_hand == b.on_hand and a.sources == b.sources and a.reserved == b.reserved:
        return True
    return meaning(left) == meaning(right)


def same_but_for_reserved(left: bytes | None, right: bytes | None) -> bool:
    """Whether two rows are what the same updates make of them."""
    if left is None or right is None:
        return False
    return meaning(without_reserved(left)) == meaning(without_reserved(right))


def without_reserved(row: bytes) -> bytes:
    """A row as its updates alone make it.

    Raises:
        msgspec.DecodeError: it is no row.
    """
    packed = rows.decode_packed_row(row)
    if not packed.reserved:
        return row
    packed.reserved = {}
    return rows.encode(packed)


def pairs(left: Iterator[Entry], right: Iterator[Entry]) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Both sides joined by key; each in its order."""
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[0] < b[0]):
            assert a is not None  # noqa: S101 - by the loop's condition
            yield a[0], a[1], None
            a = next(left, None)
        elif a is None or b[0] < a[0]:
            yield b[0], None, b[1]
            b = next(right, None)
        else:
            yield a[0], a[1], b[1]
            a, b = next(left, None), next(right, None)
