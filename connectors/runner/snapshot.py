"""Full snapshots: what one does not name any more is gone, unless so much is gone or changed that a person has to look.

Invariant: nothing of a snapshot reaches Kafka before all of it was read and found plausible; so one that breaks off
changes nothing. What the last one offered is kept with the feed's progress (`progress`), in buckets, so that a snapshot
like the one before writes next to nothing. Used by `feed`.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import zlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.configuration.models import HoldBack, Snapshot
from connectors.documents import Document
from connectors.mapping.mapper import UPDATES, Mapped
from connectors.runner.blocks import guarded
from schemas.keys import SOURCE_SEPARATOR

BUCKETS = 256  # of millions of offers, each still fits well into a message
BLOCK_BYTES = 1 << 20
IN_MEMORY_BYTES = 4 << 20
OFFER = pa.schema([("sku", pa.string()), ("location_id", pa.string()), ("quantity", pa.int64())])


class Verdict(NamedTuple):
    """How a snapshot differs from the one before. `why`: it is held back; None: it is not."""

    known: int
    missing: int
    changed: int
    why: str | None


@dataclass
class Spooled:
    """A document that was read, and can be read again."""

    document: Document
    file: tempfile.SpooledTemporaryFile[bytes]

    def again(self) -> Document:
        """The same, to be read once more."""
        return replace(self.document, blocks=None if self.document.blocks is None else self._blocks(), rows=0)

    def close(self) -> None:
        """Let go of its bytes."""
        self.file.close()

    async def _blocks(self) -> AsyncGenerator[bytes, None]:
        self.file.seek(0)
        while block := self.file.read(BLOCK_BYTES):
            yield block


async def spool(document: Document) -> Spooled:
    """Keep a document's bytes, on the disk if they are many."""
    with contextlib.ExitStack() as until_whole:
        file: tempfile.SpooledTemporaryFile[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115
        until_whole.enter_context(file)
        if document.blocks is not None:
            async for block in guarded(document.blocks):
                file.write(block)
        until_whole.pop_all()  # `Spooled.close` from here on
    return Spooled(document, file)


class Offers:
    """What a snapshot offers, as it is read: SKU, location and units; of a SKU that is there twice, the last."""

    def __init__(self) -> None:
        self._read: list[pa.RecordBatch] = []
        self.is_whole = True
        """Whether each row says what it is of; else nothing can be said to be missing."""

    def add(self, mapped: Mapped, broken: int) -> None:
        """Of rows that were mapped, and so many that could not be taken apart.

        What is withdrawn is not offered. What is offered in a row that is of no use otherwise is not missing. SKUs are
        ours, as the map has them: what it gives another meaning is gone under the former.
        """
        offered = mapped.updates.filter(pc.not_equal(mapped.updates.column("kind"), "WITHDRAWN"))
        unknown = pa.nulls(len(mapped.named), pa.int64())
        self._read += [
            offered.select(OFFER.names),
            pa.RecordBatch.from_arrays([*mapped.named.columns, unknown], schema=OFFER),
        ]
        self.is_whole = self.is_whole and not broken and not mapped.nameless

    def join(self, other: Offers) -> None:
        """Those of another document of the same snapshot, after these."""
        self._read += other._read
        self.is_whole = self.is_whole and other.is_whole

    def buckets(self) -> dict[int, pa.Table]:
        """By bucket, sorted, each SKU of a location once."""
        table = pa.Table.from_batches(self._read, OFFER).combine_chunks()
        self._read = []
        keys = _keys(table)
        numbers = np.fromiter((zlib.crc32(key.encode()) % BUCKETS for key in keys.to_pylist()), np.uint8, len(keys))
        return {
            int(bucket): _sorted(table.filter(pa.array(numbers == bucket))) for bucket in np.unique(numbers)
        }  # fmt: skip


@dataclass
class Group:
    """The documents of one snapshot, and what they offer together."""

    spooled: list[Spooled] = field(default_factory=list)
    offers: Offers = field(default_factory=Offers)

    def done(self) -> Group:
        """Let go of them; an empty one for the next."""
        for each in self.spooled:
            each.close()
        return Group()


class Comparison:
    """A snapshot beside the one before.

    Args:
        config: what becomes of what is missing, and when it is held back.
        before: the offers of the one before, by bucket, encoded.
        offers: those of this one.
    """

    def __init__(self, config: Snapshot, before: Mapping[int, bytes], offers: Offers) -> None:
        self._config = config
        self._gone: list[pa.Table] = []
        self.kept: dict[int, bytes] = {}
        """The buckets that are other ones now."""
        known = missing = changed = 0
        now = offers.buckets()
        for bucket in sorted({*before, *now}):
            was, is_ = _decoded(before.get(bucket, b"")), now.get(bucket, OFFER.empty_table())
            known += len(was)
            gone = was.filter(pc.invert(pc.is_in(_keys(was), value_set=_keys(is_))))
            if not offers.is_whole:
                is_, gone = _sorted(pa.concat_tables([gone, is_])), gone.slice(0, 0)
            both = was.join(is_, ["sku", "location_id"], join_type="inner", right_suffix="_now")
            other = pc.not_equal(both.column("quantity"), both.column("quantity_now"))
            zeroed = pc.and_(pc.greater(both.column("quantity"), 0), pc.equal(both.column("quantity_now"), 0))
            missing += len(gone) + (pc.sum(zeroed).as_py() or 0)
            changed += len(gone) + (pc.sum(other).as_py() or 0)
            self._gone.append(gone)
            if not was.equals(is_):
                self.kept[bucket] = _encoded(is_)
        why = _why(config.hold_back, known, missing, changed)
        if known and not any(
            map(len, now.values())
        ):  # rather an accident than a supplier's wish, however few they were
            why = f"it offers nothing, and the one before offered {known}"
        self.verdict = Verdict(known, missing, changed, why)

    def withdrawals(self, supplier_id: str, feed: str, document: Document) -> Iterator[pa.RecordBatch]:
        """Updates for what is gone."""
        for gone in self._gone:
            count = len(gone)
            if count == 0:
                continue
            number = pa.int64()
            same = {
                "supplier_id": supplier_id,
                "update_id": f"{document.origin}:gone",
                "kind": "WITHDRAWN" if self._config.missing == "withdrawn" else "COUNT",
                "basis": "ON_HAND",
                "feed": feed,
            }
            columns = {name: pa.repeat(value, count) for name, value in same.items()} | {
                "sku": gone.column("sku").combine_chunks(),
                "location_id": gone.column("location_id").combine_chunks(),
                "quantity": pa.repeat(pa.scalar(0, number), count),
                "observed_at": pa.repeat(pa.scalar(document.observed_at, number), count),
                "received_at": pa.repeat(pa.scalar(document.received_at, number), count),
                "order_ref": pa.nulls(count, pa.string()),
                "incoming": pa.repeat(pa.scalar([], UPDATES.field("incoming").type), count),
                "stale_after_ms": pa.nulls(count, number),
            }
            yield pa.RecordBatch.from_arrays([columns[name] for name in UPDATES.names], schema=UPDATES)


def _why(limits: HoldBack, known: int, missing: int, changed: int) -> str | None:
    if known < limits.at_least:
        return None
    for count, percent, said in (
        (missing, limits.missing_percent, "are gone or at zero"),
        (changed, limits.changed_percent, "are other ones"),
    ):
        if count * 100 > percent * known:
            return f"{count} of {known} offers {said}, more than {percent} %"
    return None


def _keys(table: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(table.column("sku"), table.column("location_id"), SOURCE_SEPARATOR)


def _sorted(table: pa.Table) -> pa.Table:
    """By SKU and location; of the same one the last row that there was."""
    last = table.group_by(["sku", "location_id"], use_threads=False).aggregate([("quantity", "last")])
    named = last.rename_columns([*OFFER.names[:2], "quantity"]).select(OFFER.names).cast(OFFER)
    return named.sort_by([("sku", "ascending"), ("location_id", "ascending")]).combine_chunks()


def _encoded(table: pa.Table) -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_stream(out, OFFER, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return out.getvalue()


def _decoded(value: bytes) -> pa.Table:
    return pa.ipc.open_stream(value).read_all().combine_chunks() if value else OFFER.empty_table()
