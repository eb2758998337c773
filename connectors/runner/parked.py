"""Rows that wait for the map of SKUs: dead letters that become updates as soon as it knows their SKU.

Invariant: a letter is noted as settled only once Kafka has its update, which has the id and the times that it would
have had; who dies between sends it again, and it counts once. What a person has settled is left alone. Each letter is
read once, to learn its SKU, and once more when that is known; beyond `WAITING_MAX` that wait, the rest is read again
with each change of the map. Run by `feed` between polls, so by whoever has its lease alone, and no row is just on its
way to become a letter.
"""

from __future__ import annotations

import asyncio
import sys
import time
from bisect import bisect_left
from itertools import groupby
from typing import cast

import pyarrow as pa
import structlog
from confluent_kafka import Message

from connectors.configuration.load import Feed
from connectors.mapping.mapper import PARKED, Mapper
from connectors.runner.again import document_of, once_more, together
from connectors.runner.intake import Intake
from connectors.runner.letter_log import SOME_MAX, LetterLog, LetterReader
from connectors.runner.letters import FEED, SKU
from connectors.runner.progress import Keeper, ParkedFrom
from connectors.runner.skus import SkuFollower
from schemas.dead_letters import REASON, RETRIED, letter_id, place_of, settled_note
from schemas.keys import partition_of
from stockweave import metrics
from stockweave.errors import Rejected, Retriable

log = structlog.get_logger(__name__)

WAITING_MAX = 200_000  # letters of a feed that are remembered, some 150 bytes each
KNOWN_ROOM = 50_000  # of these, for those that can be taken at once
AT_ONCE = 1_000  # updates of one step
BYTES_AT_ONCE = 8 << 20
STEP_S = 0.5  # so long a step reads on, while the feed waits
AGAIN_S = 1.0  # after Kafka was away


class Parked:
    """Of one feed.

    Args:
        feed: that parks; none with snapshots, for the next of them brings what the map knows by then.
        log_: where letters are.
        intake: sends updates.
        keeper: keeps from where on letters may wait.
        follower: of the map.
    """

    def __init__(self, feed: Feed, log_: LetterLog, intake: Intake, keeper: Keeper, follower: SkuFollower) -> None:
        self._feed = feed
        self._log = log_
        self._intake = intake
        self._keeper = keeper
        self._follower = follower
        self._skus = follower.of(feed.supplier)
        mapping = feed.config.mapping
        self._mapper = Mapper(mapping, feed.supplier, feed.whole_name, self._skus)
        self._theirs = Mapper(mapping, feed.supplier, feed.whole_name)  # leaves SKUs as the supplier has them
        self._told = f"{feed.whole_name}@{mapping.version}".encode()
        self._key = feed.whole_name.encode()
        self._partition = partition_of(self._key, log_.letters.partitions)
        kept = keeper.kept.parked
        self._next = kept.offset if kept is not None and kept.partition == self._partition else 0
        self._waiting: dict[int, str] = {}  # by offset, the SKU
        self._beyond: int | None = None  # the first letter that is not among them, since they are too many
        self._settled_to = 0
        self._is_read = False
        self._is_changed = False
        self._is_paused = False
        self.due = asyncio.Event()
        """Whether letters may have become of use: the map has changed, or nobody has looked yet."""

    def start(self) -> None:
        """Hear of the map. It was read before."""
        self._follower.tell(self._feed.supplier, self.hear)
        self.due.set()

    def stop(self) -> None:
        """Hear no more."""
        self._follower.tell_no_more(self.hear)

    def hear(self) -> None:
        """The map has changed: what was parked by then may be of use."""
        self._is_changed = True
        self.due.set()

    async def step(self) -> None:
        """Bring some letters back; `due` is set again if there are more. Kafka's failures are tried again."""
        self.due.clear()
        try:
            async with self._log.turn:
                letters, is_all = await asyncio.to_thread(self._look)
            if letters:
                await self._take(letters)
            await self._keep()
        except Retriable as why:
            log.warning("parked_rows_wait", feed=self._feed.whole_name, why=str(why))
            asyncio.get_running_loop().call_later(AGAIN_S, self.due.set)
            return
        if not is_all:
            self.due.set()

    def _look(self) -> tuple[list[Message], bool]:
        """In a thread: letters whose SKU is known now, and whether that is all."""
        if self._is_changed:
            self._is_changed, self._is_read = False, False
        with LetterReader(self._log.bootstrap_servers) as reader:
            self._is_read = self._is_read or self._read_on(reader)
            if not self._is_read:
                return [], False
            self._strike_settled(reader)
            known = self._known()
            letters = self._letters(reader, known[:AT_ONCE])
        if len(known) > len(letters):
            return letters, False
        is_all, self._is_paused = not self._is_paused, False
        if not is_all:
            self._is_read, self._settled_to = False, 0  # of those that are read next, notes may have been passed over
        elif self._beyond is not None:  # next time these once more
            self._next, self._beyond, self._settled_to, self._is_read = self._beyond, None, 0, False
        return letters, is_all

    def _read_on(self, reader: LetterReader) -> bool:
        """Learn what waits; whether there is enough to go on with: all, or as many of use as there is room for."""
        until_s = time.monotonic() + STEP_S
        while time.monotonic() < until_s:
            some = reader.some(self._log.letters.name, self._partition, self._next)
            for message in some.messages:
                if message.key() == self._key and (sku := self._sku(message)) is not None:
                    self._is_paused = not self._learn(cast("int", message.offset()), sku)
                    if self._is_paused:
                        self._next = cast("int", message.offset())
                        return True
            self._next = some.after
            if some.is_end:
                return True
        return False

    def _learn(self, offset: int, sku: str) -> bool:
        """Whether it can be dealt with now. Some room is kept for those that the map knows, behind others."""
        room = WAITING_MAX - len(self._waiting)
        if room <= KNOWN_ROOM and self._skus.look_up([sku]) == [None]:
            if self._beyond is None:
                self._beyond = offset
        elif room > 0:
            self._waiting[offset] = sys.intern(sku)
        else:
            return False
        return True

    def _sku(self, message: Message) -> str | None:
        """The supplier's, as the mapping reads it now; None if the letter is no such, or of no use by itself."""
        headers = _headers(message)
        if headers.get(REASON) != PARKED.encode() or FEED not in headers:
            return None
        if headers[FEED] == self._told and SKU in headers:
            return headers[SKU].decode(errors="replace")
        if headers[FEED].rpartition(b"@")[0] != self._key:
            return None
        try:
            updates = once_more(headers, message.value(), self._feed, self._theirs)
        except Rejected:
            return None
        return cast("str", updates.column("sku")[0].as_py())

    def _strike_settled(self, reader: LetterReader) -> None:
        """Let go of what was retried or dropped by a command."""
        is_end = not self._waiting
        while not is_end:
            some = reader.some(self._log.settled.name, 0, self._settled_to)
            for message in some.messages:
                place = place_of(message.key() or b"")
                if place is not None and place[0] == self._partition:
                    self._waiting.pop(place[1], None)
            self._settled_to, is_end = some.after, some.is_end

    def _known(self) -> list[int]:
        """The offsets of letters whose SKU the map knows."""
        ours = self._skus.look_up(list(self._waiting.values()))
        return sorted(offset for offset, sku in zip(self._waiting, ours, strict=True) if sku is not None)

    def _letters(self, reader: LetterReader, offsets: list[int]) -> list[Message]:
        """Those at offsets, in their order, as many as may be held at once."""
        found: list[Message] = []
        wanted, size, at, until_s = set(offsets), 0, 0, time.monotonic() + STEP_S
        for place, offset in enumerate(offsets):
            if offset < at:
                continue  # read with one before it
            if size >= BYTES_AT_ONCE or (found and time.monotonic() > until_s):
                break
            last = offsets[bisect_left(offsets, offset + SOME_MAX, place) - 1]
            some = reader.some(self._log.letters.name, self._partition, offset, last + 1 - offset)
            here = [message for message in some.messages if message.offset() in wanted]
            if not here or here[0].offset() != offset:
                del self._waiting[offset]  # it is kept no more
            found += here
            size, at = size + sum(map(len, here)), some.after
        return found

    async def _take(self, letters: list[Message]) -> None:
        """Updates first, then notes that they are there."""
        done, batches = await asyncio.to_thread(self._mapped, letters)
        if batches:
            name = self._feed.whole_name
            await self._intake.send(pa.Table.from_batches(batches).combine_chunks().to_batches()[0])
            metrics.FEED_ROWS.labels(name, "brought_back").inc(len(done))
            await self._note(done)
            log.info("parked_rows_brought_back", feed=name, rows=len(done), still_wait=len(self._waiting))

    def _mapped(self, letters: list[Message]) -> tuple[list[int], list[pa.RecordBatch]]:
        """In a thread: of the letters that are of use, their offsets and updates."""
        done: list[int] = []
        batches: list[pa.RecordBatch] = []
        for _, group in groupby(letters, lambda message: document_of(_headers(message))):
            some = list(group)
            updates = together([(_headers(each), each.value()) for each in some], self._feed, self._mapper)
            if updates is not None:
                batches.append(updates)
                done += [cast("int", each.offset()) for each in some]
                continue
            for message in some:
                offset = cast("int", message.offset())
                try:
                    batches.append(once_more(_headers(message), message.value(), self._feed, self._mapper))
                    done.append(offset)
                except Rejected as why:
                    if why.reason != PARKED:  # else its entry was just removed
                        del self._waiting[offset]
                        log.warning("parked_row_of_no_use", letter=letter_id(self._partition, offset), why=str(why))
        return done, batches

    async def _note(self, offsets: list[int]) -> None:
        note, keys = settled_note(RETRIED), [letter_id(self._partition, offset) for offset in offsets]
        parcel = await self._log.notes.send_encoded([note] * len(keys), keys)
        await self._log.notes.settle(parcel)
        if parcel.failures:
            raise Retriable(f"letters are not noted as settled: the first {parcel.failures[0].detail}")
        for offset in offsets:
            del self._waiting[offset]

    async def _keep(self) -> None:
        """From where on letters wait, for whoever has the feed next."""
        first = min(self._waiting, default=self._next)
        from_ = ParkedFrom(
            self._partition, min(first, self._next, self._next if self._beyond is None else self._beyond)
        )
        if from_ != self._keeper.kept.parked:
            await self._keeper.keep_parked(from_)


def _headers(message: Message) -> dict[str, bytes]:
    return dict(cast("list[tuple[str, bytes]]", message.headers() or []))
