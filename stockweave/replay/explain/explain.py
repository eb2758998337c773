"""Why a SKU's number is what it is: its updates folded one by one, so that the outcome of each is known.

Invariant: each update goes through the workers' own `Folder`, in log order; only messages of the SKU's key are decoded.
As of a time the log is what Kafka had then, by LogAppendTime. Called by the command, and by whoever has many questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self, cast

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from inventory.stock import Limits
from schemas.admin import ensure_topics
from schemas.codec import Codec
from schemas.keys import partition_of
from schemas.registry import open_registry
from schemas.rows import OUTCOMES, Position, StockRow, decode_row
from schemas.topics import STOCK, UPDATES
from state.store import PartitionStore
from stockweave.clients import CLIENT_LOGGER
from stockweave.errors import Fatal, Rejected, Retriable
from stockweave.replay.checkpoint.lookup import newest_fitting
from stockweave.replay.facts import WATERMARK_WAIT_S, Facts, log_ends, reader_config
from stockweave.settings import Settings
from streams.batch import Batch, Folder, Part

SCAN_EVENTS_MAX = 50_000


class Seen(NamedTuple):
    """One update of the SKU as it was folded. `stamp_ms`: when it came into the log; `update`: None if unreadable."""

    offset: int
    stamp_ms: int
    update: dict[str, Any] | None
    outcome: str
    reason: str | None


class Explained(NamedTuple):
    """The answer. `row`: None where there was none; `start`, `end`: the updates looked at are those in [start, end)."""

    sku: str
    topic: str
    partition: int
    start: int
    end: int
    as_of_ms: int | None
    checkpoint: str | None
    row: StockRow | None
    seen: list[Seen]


class Explainer:
    """Answers questions about SKUs; what was read of a SKU's updates is kept, for its next question.

    Args:
        settings: `bootstrap_servers` set.
        on_events: told how many updates a scan has passed.
        on_scan: told how many it will pass.
    """

    def __init__(
        self,
        settings: Settings,
        on_events: Callable[[int], None] = lambda _: None,
        on_scan: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._settings, self._on_events, self._on_scan = settings, on_events, on_scan
        self._bootstrap_servers = settings.bootstrap_servers or ""
        self._deployed = ensure_topics(settings, self._bootstrap_servers)
        self._updates = self._deployed[UPDATES.name]
        self._codec = Codec("StockUpdate", open_registry(settings))
        limits = Limits(settings.horizon_ms, settings.entries_max)
        self._folder = Folder(self._codec, limits, self._updates.partitions)
        self._consumer = Consumer(reader_config(self._bootstrap_servers), logger=CLIENT_LOGGER)
        self._read: dict[bytes, tuple[int, int, list[Message]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def explain(self, sku: str, as_of_ms: int | None = None) -> Explained:
        """The row of `sku`, now or as the log had it at a time (ms since the epoch, inclusive).

        Raises:
            Rejected: the log and the checkpoints know no such SKU.
            Fatal: the log was trimmed, and no checkpoint is of that time or before.
            Retriable: Kafka does not answer.
        """
        key, number = sku.encode(), partition_of(sku.encode(), self._updates.partitions)
        low, high = log_ends(self._bootstrap_servers, self._updates.name, [number], self._consumer)[number]
        end = high if as_of_ms is None else min(high, self._end_at(number, as_of_ms, high))
        seed, start, name = None, 0, None
        found = newest_fitting(self._settings, self._deployed, number, {UPDATES.name: end})
        if found is not None:
            with found:
                if as_of_ms is None or found.newest_at <= as_of_ms:
                    seed, name = found.find(key), found.name
                    start = found.position.offsets.get(UPDATES.name, 0)
        if start < low:
            raise Fatal(
                f"{self._updates.name} partition {number} begins at offset {low}, and no checkpoint covers what came "
                "before the asked time; ask for a later --as-of, or bring the checkpoint back "
                "(`stockweave checkpoint list`)"
            )
        messages = self._messages(key, number, start, end)
        row, seen = self._fold(key, number, seed, messages)
        if row is None and not seen and (as_of_ms is None or not self._messages(key, number, start, high)):
            why = f"SKU {sku!r} is unknown: no update in {self._updates.name} has that key; check the spelling"
            raise Rejected("unknown_sku", why)
        return Explained(sku, self._updates.name, number, start, end, as_of_ms, name, row, seen)

    def live(self, sku: str) -> StockRow | None:
        """The row that the live topic has."""
        key, stock = sku.encode(), self._deployed[STOCK.name]
        number = partition_of(key, stock.partitions)
        low, high = log_ends(self._bootstrap_servers, stock.name, [number], self._consumer)[number]
        row: bytes | None = None
        facts = Facts(self._bootstrap_servers, stock.name, number, low, high, self._consumer)
        for batch in facts.batches(SCAN_EVENTS_MAX):
            for message in batch:
                if message.key() == key:
                    row = message.value()
        return None if row is None else decode_row(row)

    def _end_at(self, number: int, at_ms: int, high: int) -> int:
        asked = TopicPartition(self._updates.name, number, at_ms + 1)
        try:
            [told] = self._consumer.offsets_for_times([asked], timeout=WATERMARK_WAIT_S)
        except KafkaException as error:
            raise Retriable(f"{asked.topic} does not tell its offset at a time: {error}; is Kafka running?") from error
        return told.offset if told.offset >= 0 else high

    def _messages(self, key: bytes, number: int, start: int, end: int) -> list[Message]:
        """The messages of a key in [start, end), read once."""
        kept = self._read.get(key)
        if kept is None or kept[0] > start or kept[1] < end:
            self._on_scan(end - start)
            found: list[Message] = []
            facts = Facts(self._bootstrap_servers, self._updates.name, number, start, end, self._consumer)
            for batch in facts.batches(SCAN_EVENTS_MAX):
                found += [message for message in batch if message.key() == key]
                self._on_events(len(batch))
            kept = self._read[key] = (start, end, found)
        return [message for message in kept[2] if start <= cast("int", message.offset()) < end]

    def _fold(
        self, key: bytes, number: int, seed: bytes | None, messages: Sequence[Message]
    ) -> tuple[StockRow | None, list[Seen]]:
        store, position, seen = _OneRow(seed), Position({}, {}), []
        for message in messages:
            part = Part(number, cast("PartitionStore", store), position, [message])
            [folded] = self._folder.fold(Batch([part], None))
            store.row = folded.rows.get(key, store.row)
            [decoded] = self._codec.decode([message.value()])
            letter = folded.dead_letters[0] if folded.dead_letters else None
            seen.append(
                Seen(
                    cast("int", message.offset()),
                    message.timestamp()[1],
                    None if isinstance(decoded, Rejected) else decoded,
                    OUTCOMES[folded.outcomes.index(1)],
                    None if letter is None else f"{letter.reason}: {letter.detail}",
                )
            )
        return (None if store.row is None else decode_row(store.row)), seen


class _OneRow:
    """What the fold asks of a store, for one row."""

    def __init__(self, row: bytes | None) -> None:
        self.row = row

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.row] * len(keys)
