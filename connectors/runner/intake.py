"""One document's way to Kafka: taken apart, mapped, published; what cannot be used becomes a dead letter.

Invariant: what `take` has reported as done is in Kafka, each row as an update or as a dead letter, up to that row. The
rows are read in a thread, some thousands ahead of what Kafka has; so memory does not grow with the document.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.configuration.load import Feed
from connectors.documents import Document
from connectors.formats.reader import read_packed
from connectors.formats.rows import Rows
from connectors.mapping.mapper import Mapped, Mapper, Read
from connectors.parcel import Parcel
from connectors.publisher import InDoubt, Publisher
from connectors.runner.blocks import Blocks, reading
from connectors.runner.corrections import Corrections
from connectors.runner.letters import BYTES_MAX, Letter, headers
from connectors.runner.skus import SkuFollower
from connectors.runner.snapshot import Offers
from connectors.runner.watch import Watch
from schemas.codec import Codec
from stockweave.errors import Rejected

PIECE_ROWS = 20_000  # after each, progress is written
AT_ONCE = 5_000  # updates handed to Kafka in one go: the loop is busy for some milliseconds
LETTERS_AT_ONCE = 500
PATIENCE_S = 30.0  # with a Kafka that is away


class Piece(NamedTuple):
    """Some rows, ready to be sent.

    `end`: the number after the last of them; `lowest`: of the counts, None if none; `newest`: of the times at which
    they were observed, None if none; `corrections`: as `Corrections` counts.
    """

    keys: list[str]
    values: list[bytes]
    letters: list[Letter]
    end: int
    lowest: int | None
    newest: int | None
    corrections: int


class Stopped(Exception):
    """The feed is to stop in the midst of a document: Kafka has all that its progress says."""


@dataclass
class Taken:
    """What a document came to.

    `lowest`: of its counts, in units. `newest`: of its times, `ahead_ms`: by how much one was later than its receipt.
    `is_whole`: whether it could be read to its end.
    """

    rows: int = 0
    updates: int = 0
    letters: int = 0
    lowest: int | None = None
    newest: int | None = None
    ahead_ms: int = 0
    corrections: int = 0
    is_whole: bool = True


class Intake:
    """What one feed's documents go through.

    Args:
        feed: checked.
        updates: the publisher of updates.
        letters: that of dead letters.
        codec: of StockUpdate.
        watch: sees what is read, once.
        follower: of the map of SKUs; asked only by a feed that maps by it.
    """

    def __init__(
        self, feed: Feed, updates: Publisher, letters: Publisher, codec: Codec, watch: Watch,
        follower: SkuFollower | None = None,
    ) -> None:  # fmt: skip
        self._format = feed.config.format
        self._follower = None if feed.config.mapping.sku_map is None else follower
        self._skus = None if self._follower is None else self._follower.of(feed.supplier)
        self._mapper = Mapper(feed.config.mapping, feed.supplier, feed.whole_name, self._skus)
        self._feed = f"{feed.whole_name}@{feed.config.mapping.version}"
        self._key = feed.whole_name
        self._updates = updates
        self._letters = letters
        self._codec = codec
        self._corrections = Corrections(is_remembered=feed.config.mapping.observed_at is not None)
        self._watch = watch
        self._is_surveyed = feed.config.snapshot is not None

    async def ready(self) -> None:
        """Until there is all that mapping needs; nothing is to be taken before."""
        if self._follower is not None:
            await self._follower.ready()

    def same_skus(self) -> AbstractContextManager[None]:
        """Within it, each SKU means the same, whatever is changed meanwhile."""
        return nullcontext() if self._skus is None else self._skus.held()

    async def take(
        self,
        document: Document,
        done: int,
        on_done: Callable[[int], Awaitable[None]],
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Taken:
        """Bring a document's rows to Kafka.

        Args:
            document: whose bytes were not read yet.
            done: rows that Kafka has already; they are passed over.
            on_done: awaited with the number of rows that Kafka has, each time that it is a higher one and more follow.
            is_wanted: whether to go on.

        Raises:
            Stopped: it is not wanted any more; what was sent is done.
            Retriable: the supplier or Kafka is away; what was reported as done stays so.
            Fatal: the process has to be started again.
        """
        if document.blocks is None:
            return Taken()
        taken = Taken()
        loop, blocks = asyncio.get_running_loop(), Blocks(document.blocks)
        pieces = self._pieces(document, blocks, done)
        sent: tuple[Piece, list[Parcel]] | None = None
        try:
            async with reading(blocks) as thread:
                while (piece := await loop.run_in_executor(thread, next, pieces, None)) is not None:
                    if not is_wanted():
                        raise Stopped
                    before, sent = sent, (piece, await self._sent(piece, document))
                    await self._settle(before, taken, on_done)
        except Rejected as why:
            await self._settle(sent, taken)
            await self._refuse(document, blocks, why)
            taken.letters += 1
            taken.is_whole = False
        except Stopped:
            await self._settle(sent, taken, on_done)
            raise
        else:
            await self._settle(sent, taken)
        document.rows = taken.rows
        taken.ahead_ms = max(0, (taken.newest or 0) - document.received_at)
        return taken

    async def survey(self, document: Document) -> Offers:
        """What a snapshot's document offers; nothing of it goes to Kafka.

        Raises:
            Retriable: the supplier is away.
            Rejected: it is of no use as a whole; a dead letter says so.
        """
        if document.blocks is None:
            return Offers()
        loop, blocks, offers = asyncio.get_running_loop(), Blocks(document.blocks), Offers()

        def read_all() -> None:
            for rows in self._rows(blocks):
                self._watch.see(rows)
                offers.add(self._map(rows, document), len(rows.broken))
                document.rows += len(rows.numbers) + len(rows.broken)

        try:
            async with reading(blocks) as thread:
                await loop.run_in_executor(thread, read_all)
        except Rejected as why:
            await self._refuse(document, blocks, why)
            raise
        return offers

    async def send(self, updates: pa.RecordBatch) -> None:
        """Updates that no row says, to Kafka; raises as `take`."""
        parcel = await self._updates.send_encoded(
            self._codec.encode_columns(updates), updates.column("sku").to_pylist(), patience_s=PATIENCE_S
        )
        await self._updates.settle(parcel)
        if parcel.failures:
            _complain(parcel)

    def _pieces(self, document: Document, blocks: Blocks, done: int) -> Iterator[Piece]:
        """In a thread: each step reads on."""
        for rows in self._rows(blocks):
            yield from self._mapped(rows, document, done)

    def _rows(self, blocks: Blocks) -> Iterator[Rows]:
        return read_packed(blocks, self._format, self._mapper.mapping.paths)

    def _map(self, rows: Rows, document: Document) -> Mapped:
        at = Read(document.origin, document.observed_at, document.received_at)
        return self._mapper.map(rows.columns, rows.numbers, at)

    def _mapped(self, rows: Rows, document: Document, done: int) -> Iterator[Piece]:
        ends = [number.as_py() for number in rows.numbers[-1:]] + [broken.number for broken in rows.broken[-1:]]
        end = max(ends, default=-1) + 1
        if end <= done:
            return
        if not self._is_surveyed:
            self._watch.see(rows)
        mapped = self._map(rows, document)
        letters = sorted(_letters(rows, mapped), key=_number)
        numbers = rows.numbers.take(mapped.rows).to_numpy()
        for first in range(max(done, _first(rows)), end, PIECE_ROWS):
            last = min(first + PIECE_ROWS, end)
            a, b = np.searchsorted(numbers, (first, last))
            updates = mapped.updates.slice(a, b - a)
            of_piece = [letter for letter in letters if first <= _number(letter) < last]
            values = self._codec.encode_columns(updates) if len(updates) else []
            newest: int | None = pc.max(updates.column("observed_at")).as_py()
            corrections = self._corrections.count(updates)
            skus = updates.column("sku").to_pylist()
            yield Piece(skus, values, of_piece, last, _lowest(updates), newest, corrections)

    async def _sent(self, piece: Piece, document: Document) -> list[Parcel]:
        parcels = []
        for first in range(0, len(piece.values), AT_ONCE):
            last = first + AT_ONCE
            values, keys = piece.values[first:last], piece.keys[first:last]
            parcels.append(await self._updates.send_encoded(values, keys, patience_s=PATIENCE_S))
        for first in range(0, len(piece.letters), LETTERS_AT_ONCE):
            some = piece.letters[first : first + LETTERS_AT_ONCE]
            parcels.append(await self._sent_letters(some, document))
        return parcels

    async def _sent_letters(self, letters: list[Letter], document: Document) -> Parcel:
        return await self._letters.send_encoded(
            [letter.original[:BYTES_MAX] for letter in letters],
            [self._key] * len(letters),
            [headers(letter, self._feed, document) for letter in letters],
            PATIENCE_S,
        )

    async def _settle(
        self,
        sent: tuple[Piece, list[Parcel]] | None,
        taken: Taken,
        on_done: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """`on_done`: unless the whole document is done with it, of which the caller tells."""
        if sent is None:
            return
        piece, parcels = sent
        for parcel in parcels:
            await self._updates.settle(parcel)
            if parcel.failures:
                _complain(parcel)
        taken.rows, taken.updates = piece.end, taken.updates + len(piece.values)
        taken.letters += len(piece.letters)
        taken.corrections += piece.corrections
        known = [units for units in (taken.lowest, piece.lowest) if units is not None]
        taken.lowest = min(known, default=None)
        times = [time for time in (taken.newest, piece.newest) if time is not None]
        taken.newest = max(times, default=None)
        if on_done is not None:
            await on_done(piece.end)

    async def _refuse(self, document: Document, blocks: Blocks, why: Rejected) -> None:
        """What is left of the document cannot be read."""
        self._watch.refused(why)
        letter = Letter(bytes(blocks.head), None, why.reason, str(why))
        parcel = await self._sent_letters([letter], document)
        await self._letters.settle(parcel)
        if parcel.failures:
            _complain(parcel)


def _letters(rows: Rows, mapped: Mapped) -> Iterator[Letter]:
    for broken in rows.broken:
        yield Letter(broken.original, broken.number, "malformed_row", broken.detail, rows.head)
    for row, faults in mapped.faults.items():
        detail = "; ".join(fault.detail for fault in faults)
        yield Letter(rows.original(row), rows.numbers[row].as_py(), faults[0].reason, detail, rows.head, faults[0].sku)


def _first(rows: Rows) -> int:
    """The lowest number of a row, whole or broken."""
    first: int = min([number.as_py() for number in rows.numbers[:1]] + [broken.number for broken in rows.broken[:1]])
    return first


def _number(letter: Letter) -> int:
    return letter.number or 0


def _lowest(updates: pa.RecordBatch) -> int | None:
    counts = updates.column("quantity").filter(pc.equal(updates.column("kind"), "COUNT"))
    lowest: int | None = pc.min(counts).as_py()
    return lowest


def _complain(parcel: Parcel) -> None:
    """Kafka has not all of it: none of it counts as done, and it is sent again with the same ids."""
    failure = parcel.failures[0]
    raise InDoubt(f"{len(parcel.failures)} of a piece failed; the first {failure.detail}") from None
