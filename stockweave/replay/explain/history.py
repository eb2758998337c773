"""One SKU's updates folded one by one, so that the outcome of each is known: where what the row holds came from.

Invariant: each update goes through the workers' own `Folder`, in log order. What is kept is bounded by the row and by
`refused_max`, however many updates there are. No Kafka, no clock. Called by the explainer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, cast

from confluent_kafka import Message

from inventory.stock import DELTA, StockUpdate
from schemas.codec import Codec
from schemas.keys import source_key
from schemas.rows import OUTCOMES, Count, Position, Source, decode_packed_row, decode_row, decode_source
from schemas.topics import UPDATES
from state.store import PartitionStore
from stockweave.errors import Rejected
from stockweave.replay.verify.report import iso
from streams.batch import Batch, Folder, Part

APPLIED, DUPLICATE, SUPERSEDED, _ = OUTCOMES
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
        folder: the workers' fold.
        codec: of StockUpdate.
        key: the SKU in UTF-8.
        partition: of all its updates.
        seed: the row to begin with, encoded; None: there was none.
        refused_max: how many of the updates that changed nothing are kept, the newest.

    Attributes:
        row: as it is now, encoded; None where there is none.
        outcomes: how many updates ended as each, as `schemas.rows.OUTCOMES`.
        refused: oldest first.
    """

    def __init__(
        self, folder: Folder, codec: Codec, key: bytes, partition: int, seed: bytes | None, refused_max: int
    ) -> None:
        self.row = seed
        self.outcomes = [0] * len(OUTCOMES)
        self.refused: deque[Refused] = deque(maxlen=refused_max)
        self._folder, self._codec, self._key, self._partition = folder, codec, key, partition
        self._traces: dict[Held, Trace] = {}
        self._look_through_at = UNHELD_MAX
        self._position = Position({}, {})

    def take(self, message: Message) -> None:
        """The next update."""
        before = self.row
        part = Part(self._partition, cast("PartitionStore", self), self._position, [message])
        [folded] = self._folder.fold(Batch([part], None))
        self.row = folded.rows.get(self._key, before)
        at = folded.outcomes.index(1)
        self.outcomes[at] += 1
        [decoded] = self._codec.decode([message.value()])
        update = None if isinstance(decoded, Rejected) else cast("StockUpdate", decoded)
        offset, stamp_ms = cast("int", message.offset()), message.timestamp()[1]
        outcome = OUTCOMES[at]
        if outcome == APPLIED and update is not None:
            self._traces[_held(update)] = Trace(offset, stamp_ms, update["received_at"])
            if len(self._traces) > self._look_through_at:
                self._look_through()
            return
        reason, why = outcome, ""
        if folded.dead_letters:
            reason, why = folded.dead_letters[0].reason, folded.dead_letters[0].detail
        elif update is not None:
            why = self._same_as(update) if outcome == DUPLICATE else _overtaken(update, before)
        self.refused.append(Refused(offset, stamp_ms, update, outcome, reason, why))

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """What the fold asks of a store."""
        return [self.row if key == self._key else None for key in keys]

    def trace(self, source: str, entry_id: str, *, delta: bool) -> Trace | None:
        """Where what the row holds under this id came from; None where that was before the first update taken."""
        return self._traces.get((source, delta, entry_id))

    def _look_through(self) -> None:
        """Forget what the row no longer holds."""
        held: set[Held] = set()
        for key, source in decode_row(self.row or b"").sources.items():
            if source.count is not None:
                held.add((key, False, source.count.id))
            held.update((key, True, delta.id) for delta in source.deltas)
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


def of_seed(source: Source) -> Trace | None:
    """Where the only thing that a source holds came from, as far as the row tells; None where it holds several.

    A source tells the offset and the receipt of the last update that was applied to it, and not which that was.
    """
    held = (source.count is not None) + len(source.deltas)
    return Trace(source.offset, None, source.received_at) if held == 1 and source.floor_at is None else None


def updates_offset(position: Position | None) -> int:
    """How far updates are folded; 0 where nothing is."""
    return 0 if position is None else position.offsets.get(UPDATES.name, 0)
