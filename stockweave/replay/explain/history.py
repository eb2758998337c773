"""One SKU's updates folded one by one, so that the outcome of each is known: where what the row holds came from.

Invariant: each update goes through the workers' own fold, in log order; what they would not even bring to it, through
their `Folder`. What is kept is bounded by the row and by `refused_max`, however many updates there are. No Kafka, no
clock. Called by the explainer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, cast

from confluent_kafka import Message

from inventory.fold import fold
from inventory.stock import DELTA, Limits, StockUpdate
from inventory.updates import Updates
from schemas.codec import Codec
from schemas.keys import source_key
from schemas.rows import OUTCOMES, Count, Position, Source, decode_packed_row, decode_row, decode_source
from schemas.topics import UPDATES
from state.store import PartitionStore
from stockweave.errors import Rejected
from stockweave.replay.verify.report import iso
from streams.batch import REMEDIES, Batch, Folder, Part, placed_in

APPLIED, DUPLICATE, SUPERSEDED, _ = OUTCOMES
DECODED_MAX = 1_000  # at once
UNHELD_MAX = 1_000  # traces of what a row no longer holds, before they are looked through


class Trace(NamedTuple):
    """Where an update is in the log. `stamp_ms`: when it came in, `received_at`: at the connector; None: not known."""

    offset: int
    stamp_ms: int | None
    received_at: int


class Refused(NamedTuple):
    """An update that changed nothing.

    `update`: None if it cannot be decoded; `outcome`: as `schemas.rows.OUTCOMES`; `reason`: a stable code; `why`: in
    words.
    """

    offset: int
    stamp_ms: int
    update: StockUpdate | None
    outcome: str
    reason: str
    why: str


Held = tuple[str, bool, str]
"""What a row holds of an update: the source's key, whether it is a delta, and its id."""


class History:
    """Folds the updates of one key.

    Args:
        codec: of StockUpdate.
        limits: of every source.
        key: the SKU in UTF-8.
        partition: of all its updates.
        partitions: of their topic.
        seed: the row to begin with, encoded; None: there was none.
        refused_max: how many of the updates that changed nothing are kept, the newest.

    Attributes:
        row: as it is now, encoded; None where there is none.
        outcomes: how many updates ended as each, as `schemas.rows.OUTCOMES`.
        refused: oldest first.
    """

    def __init__(
        self,
        codec: Codec,
        limits: Limits,
        key: bytes,
        partition: int,
        partitions: int,
        seed: bytes | None,
        refused_max: int,
    ) -> None:
        self.row = seed
        self.outcomes = [0] * len(OUTCOMES)
        self.refused: deque[Refused] = deque(maxlen=refused_max)
        self._codec, self._limits, self._key, self._partition = codec, limits, key, partition
        self._folder = Folder(codec, limits, partitions)
        self._is_here = placed_in(partition, partitions)
        self._traces = {} if seed is None else _traces_of(seed)
        self._look_through_at = UNHELD_MAX

    def take(self, messages: Sequence[Message]) -> None:
        """The next updates."""
        for first in range(0, len(messages), DECODED_MAX):
            some = messages[first : first + DECODED_MAX]
            for message, decoded in zip(some, self._codec.decode([m.value() for m in some]), strict=True):
                self._take(message, None if isinstance(decoded, Rejected) else cast("StockUpdate", decoded))

    def _take(self, message: Message, update: StockUpdate | None) -> None:
        before = self.row
        offset, stamp_ms = cast("int", message.offset()), message.timestamp()[1]
        if update is None or update["sku"].encode() != self._key:
            at, reason, why = self._foreign(message)
        else:
            at, reason, why = self._fold(update, offset)
        self.outcomes[at] += 1
        outcome = OUTCOMES[at]
        if outcome == APPLIED and update is not None:
            self._traces[_held(update)] = Trace(offset, stamp_ms, update["received_at"])
            if len(self._traces) > self._look_through_at:
                self._look_through()
            return
        if update is not None and not why:
            why = self._same_as(update) if outcome == DUPLICATE else _overtaken(update, before)
        self.refused.append(Refused(offset, stamp_ms, update, outcome, reason, why))

    def _fold(self, update: StockUpdate, offset: int) -> tuple[int, str, str]:
        """Fold one; its place in `OUTCOMES`, and of what was rejected the reason and that in words."""
        folded = fold(Updates.of([update]), [self._key], [offset], self.get_many, self._limits, self._is_here)
        self.row = folded.rows.get(self._key, self.row)
        [tally] = folded.tallies.values()
        at = tally.index(1)
        if not folded.refused:
            return at, OUTCOMES[at], ""
        reason, _, detail = folded.refused[0][1].partition(": ")
        return at, reason, detail or REMEDIES[reason]

    def _foreign(self, message: Message) -> tuple[int, str, str]:
        """As `_fold`, for what cannot be read or is not of its key's SKU."""
        part = Part(self._partition, cast("PartitionStore", self), Position({}, {}), [message])
        [folded] = self._folder.fold(Batch([part], None))
        [letter] = folded.dead_letters
        return folded.outcomes.index(1), letter.reason, letter.detail

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """What the fold asks of a store."""
        return [self.row if key == self._key else None for key in keys]

    def trace(self, source: str, entry_id: str, *, delta: bool) -> Trace | None:
        """Where what the row holds under this id came from; None where only a checkpoint knew."""
        return self._traces.get((source, delta, entry_id))

    def _look_through(self) -> None:
        """Forget what the row no longer holds."""
        sources = {} if self.row is None else decode_row(self.row).sources
        held = {entry for key, source in sources.items() for entry in _entries(key, source)}
        self._traces = {key: trace for key, trace in self._traces.items() if key in held}
        self._look_through_at = 2 * len(self._traces) + UNHELD_MAX

    def _same_as(self, update: StockUpdate) -> str:
        trace = self._traces.get(_held(update))
        where = "one of before" if trace is None else f"the one at offset {trace.offset}"
        return f"the same update_id, kind, time and quantity as {where}"


def _held(update: StockUpdate) -> Held:
    return source_key(update["supplier_id"], update["location_id"]), update["kind"] == DELTA, update["update_id"]


def _overtaken(update: StockUpdate, row: bytes | None) -> str:
    """Why an update was superseded, by the count that the row had."""
    count = _count(row, source_key(update["supplier_id"], update["location_id"]))
    if count is None:
        return "an update of before was later"
    what = f"the count {count.id!r}" if count.kind == 0 else f"the withdrawal {count.id!r}"
    if update["observed_at"] < count.at:
        return f"observed before {what} of {iso(count.at)}"
    if update["kind"] == DELTA:
        return f"observed at the time of {what}, which holds it already"
    return f"observed at the time of {what}, whose id is the greater and wins"


def _count(row: bytes | None, source: str) -> Count | None:
    if row is None:
        return None
    packed = decode_packed_row(row).sources.get(source)
    return None if packed is None else decode_source(packed).count


def _traces_of(row: bytes) -> dict[Held, Trace]:
    """What a row itself tells of where it came from.

    A source has the offset and the receipt of the last update that was applied to it, and not which that was: so much
    is certain only of a source that holds one.
    """
    traces: dict[Held, Trace] = {}
    for key, source in decode_row(row).sources.items():
        held = _entries(key, source)
        if len(held) == 1 and source.floor_at is None:
            traces[held[0]] = Trace(source.offset, None, source.received_at)
    return traces


def _entries(key: str, source: Source) -> list[Held]:
    count = [] if source.count is None else [(key, False, source.count.id)]
    return [*count, *((key, True, delta.id) for delta in source.deltas)]


def updates_offset(position: Position | None) -> int:
    """How far updates are folded; 0 where nothing is."""
    return 0 if position is None else position.offsets.get(UPDATES.name, 0)
