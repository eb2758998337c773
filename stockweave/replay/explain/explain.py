"""Why a SKU's number is what it is: its updates read from the log, and its live row beside them.

Invariant: as of a time the log is what Kafka had then, by LogAppendTime; the live row and the offset that it stands for
are of one moment, and it is compared with the fold of exactly the updates below that offset. Only messages of the SKU's
key are decoded, and nothing is written. Called by the command, and by whoever has many questions.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from types import TracebackType
from typing import NamedTuple, Self, cast

import msgspec
from confluent_kafka import Consumer, Message

from inventory.availability import Availability, availability
from inventory.digest import meaning
from inventory.policies import Rules
from inventory.stock import Limits
from schemas import keys
from schemas.admin import find_topics
from schemas.codec import Codec
from schemas.keys import id_problem, partition_of
from schemas.policy_log import Change
from schemas.policy_log import read as read_policies
from schemas.registry import open_registry
from schemas.rows import Position, StockRow, decode_position, decode_row
from schemas.topics import RESERVATIONS, STOCK, UPDATES
from stockweave.clients import CLIENT_LOGGER
from stockweave.errors import Fatal, Rejected
from stockweave.policies.table import policies_of
from stockweave.replay.checkpoint.lookup import Found, newest_fitting
from stockweave.replay.ends import log_ends, offset_at
from stockweave.replay.explain.history import History, updates_offset
from stockweave.replay.explain.reservations import NONE as NO_RESERVATIONS
from stockweave.replay.explain.reservations import Decided, Reservations
from stockweave.replay.facts import Facts, reader_config
from stockweave.replay.reservations import checked, told
from stockweave.settings import Settings

SCAN_EVENTS_MAX = 50_000
LIVE_STRETCH_EVENTS = 100_000  # of the compacted topic, from its end back; each further one is as long as all before
QUEUED_KBYTES_MAX = 16 << 10  # that wait to be looked at; small messages take several times their bytes
KEPT_BYTES_MAX = 16 << 20  # of messages that the next question may want
MESSAGE_BYTES = 1_000  # that a message takes beside its value, about
REFUSED_MAX = 10
WAIT_S, WAIT_STEP_S = 10.0, 0.05  # for the end of a transaction to be seen


class Live(NamedTuple):
    """The row that the live generation has.

    `row`: encoded, None: none; `offset`: it holds all updates below; `facts`: of reservations that are in it.
    """

    topic: str
    row: bytes | None
    offset: int
    facts: int = 0


class Beside(NamedTuple):
    """The live row beside the fold of the same updates.

    `same`: whether both mean the same, None where they cannot be compared, for `why`; `behind`: so many updates of the
    SKU are in the log and not yet in the live row; `replayed`: what the live row should be.
    """

    live: Live
    same: bool | None
    why: str
    behind: int
    replayed: StockRow | None


class Explained(NamedTuple):
    """The answer.

    Attributes:
        sku: asked for.
        topic, partition: of its updates, as deployed.
        start, end: the updates in [start, end) were looked at.
        as_of_ms: as asked; None: now.
        at_ms: when availability is judged.
        rules: the policies of that time for the SKU, in the default channel.
        checkpoint: the name of the one that `start` is of.
        row: None where there was none.
        history: of the updates looked at.
        beside: the live row; None where a time was asked for.
        first_ms: where there was no update yet, when the first came in.
        reservations: the facts of the SKU, and what is in `row` of them.
    """

    sku: str
    topic: str
    partition: int
    start: int
    end: int
    as_of_ms: int | None
    at_ms: int
    rules: Rules
    checkpoint: str | None
    row: StockRow | None
    history: History
    beside: Beside | None
    first_ms: int | None
    reservations: Reservations = NO_RESERVATIONS

    @property
    def answer(self) -> Availability | None:
        """What could be sold; None where there is no row."""
        return None if self.row is None else availability(self.row, self.rules, self.at_ms)


class _Decided(NamedTuple):
    """Facts of one key among those below an offset, of which there are so many in all."""

    key: bytes = b""
    until: int = 0
    seen: int = 0
    facts: tuple[Decided, ...] = ()


class _Kept(NamedTuple):
    start: int
    end: int
    messages: list[Message]
    bytes: int


class Explainer:
    """Answers questions about SKUs; what was read of a SKU's updates is kept for its next question, if it is not much.

    Args:
        settings: `bootstrap_servers` set.
        on_events: told how many records a scan has passed.
        on_scan: told how many it will pass; less than none when it ends early.
        refused_max: how many of the updates that changed nothing are told, the newest.
    """

    def __init__(
        self,
        settings: Settings,
        on_events: Callable[[int], None] = lambda _: None,
        on_scan: Callable[[int], None] = lambda _: None,
        refused_max: int = REFUSED_MAX,
    ) -> None:
        self._settings, self._on_events, self._on_scan = settings, on_events, on_scan
        self._refused_max = refused_max
        self._bootstrap_servers = settings.bootstrap_servers or ""
        self._deployed = find_topics(settings, self._bootstrap_servers)
        self._updates = self._deployed[UPDATES.name]
        registry = open_registry(settings)
        self._codec, self._policy_codec = Codec("StockUpdate", registry), Codec("Policy", registry)
        self._limits = Limits(settings.horizon_ms, settings.entries_max)
        config = reader_config(self._bootstrap_servers) | {"queued.max.messages.kbytes": QUEUED_KBYTES_MAX}
        self._consumer = Consumer(config, logger=CLIENT_LOGGER)
        self._facts_codec = Codec("ReservationFact", registry)
        self._kept: dict[bytes, _Kept] = {}
        self._decided = _Decided()  # of the last question
        self._policies: list[Change] | None = None

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
        key = _key(sku)
        number = partition_of(key, self._updates.partitions)
        live = self.live(key, number) if as_of_ms is None else None
        low, high = self._ends(self._updates.name, number)
        end = high if as_of_ms is None else min(high, self._end_at(number, as_of_ms, high))
        compared = live is not None and low <= live.offset <= end
        seed, start, name = self._begin(key, number, as_of_ms, live.offset if live and compared else end)
        if start < low:
            raise Fatal(
                f"{self._updates.name} partition {number} begins at offset {low}, and no checkpoint covers what came "
                "before the asked time; ask for a later --as-of, or bring the checkpoint back "
                "(`stockweave checkpoint list`)"
            )
        known = self._reservations(key, number, 0 if live is None else live.facts)
        history = History(self._codec, self._limits, key, number, self._updates.partitions, seed, self._refused_max)
        with closing(self._messages(key, number, start, end)) as batches:
            if live is None or not compared:
                for messages in batches:
                    history.take(messages)
                beside = None if live is None else _not_compared(live)
            else:
                beside = _beside(live, history, batches, sku, known)
        first_ms = None
        if history.row is None and not any(history.outcomes):
            first_ms = self._first_ms(key, number, end, high)
            if first_ms is None:
                raise self._unknown(sku, name)
        at_ms = time.time_ns() // 1_000_000 if as_of_ms is None else as_of_ms
        reservations = known if as_of_ms is None else known.as_of(as_of_ms)
        row = None if history.row is None else reservations.row(sku, history.row)
        rules = self._rules(sku, as_of_ms)
        return Explained(
            sku, self._updates.name, number, start, end, as_of_ms, at_ms, rules, name, row, history, beside, first_ms,
            reservations,
        )  # fmt: skip

    def live(self, key: bytes, number: int) -> Live | None:
        """The row that the live topic has under a key, and the position that it stands for, of one moment.

        The end that a read_committed consumer is told is the last stable offset, below which every transaction is
        whole. From there it is read backwards, in stretches: a SKU that changes is found near the end.

        Returns:
            None where nothing is folded in the key's partition, or there is no such topic.
        """
        stock = self._deployed.get(STOCK.name)
        if stock is None:
            return None
        low, high = self._ends(stock.name, number)
        row: bytes | None = None
        found, since = False, high
        stands: Position | None = None
        while since > low and not (found and stands is not None):
            until, since = since, max(low, since - max(LIVE_STRETCH_EVENTS, high - since))
            rows: list[bytes | None] = []
            position: bytes | None = None
            with closing(self._scan(stock.name, number, since, until)) as batches:
                for batch in batches:
                    rows = [m.value() for m in batch if m.key() == key][-1:] or rows
                    position = next((m.value() for m in reversed(batch) if m.key() == keys.POSITION), position)
            if rows and not found:
                [row], found = rows, True
            if stands is None and position is not None:
                stands = decode_position(position)
        return None if stands is None else Live(stock.name, row, updates_offset(stands), stands.facts)

    def _reservations(self, key: bytes, number: int, facts: int) -> Reservations:
        """All facts of a key, among them those with numbers below `facts`, which are committed already."""
        deployed = self._deployed.get(RESERVATIONS.name)
        if deployed is None:
            return NO_RESERVATIONS
        known = self._decided if self._decided.key == key else _Decided(key)
        deadline_s = time.monotonic() + WAIT_S
        while True:
            _, high = self._ends(deployed.name, number)
            known = self._decided = self._decided_until(known, deployed.name, number, high)
            if known.seen >= facts or time.monotonic() > deadline_s:
                return Reservations(deployed.name, known.facts)
            time.sleep(WAIT_STEP_S)  # a commit is told before its marker is in every partition

    def _decided_until(self, known: _Decided, topic: str, number: int, end: int) -> _Decided:
        found, seen, last = [*known.facts], known.seen, None
        with closing(self._scan(topic, number, known.until, end, "facts")) as batches:
            for batch in batches:
                messages = told(batch)
                last = messages[-1] if messages else last
                found += self._facts_of([message for message in messages if message.key() == known.key])
        if last is not None:
            [(_, fact)] = self._facts_of([last])
            seen = fact["number"] + 1
        return _Decided(known.key, max(known.until, end), seen, tuple(found))

    def _facts_of(self, messages: list[Message]) -> list[Decided]:
        decoded = self._facts_codec.decode([message.value() for message in messages]) if messages else []
        return [Decided(_offset(m), checked(m, fact)) for m, fact in zip(messages, decoded, strict=True)]

    def _rules(self, sku: str, as_of_ms: int | None) -> Rules:
        if self._policies is None:  # as of the first question
            self._policies = read_policies(self._settings, self._bootstrap_servers, self._policy_codec)
        return policies_of(self._policies, as_of_ms).rules(sku)

    def _begin(self, key: bytes, number: int, as_of_ms: int | None, until: int) -> tuple[bytes | None, int, str | None]:
        """What to begin with: the row, the offset of the first update after it, the checkpoint that it is of."""
        found: Found | None = newest_fitting(self._settings, self._deployed, number, until)
        if found is None:
            return None, 0, None
        with found:
            if as_of_ms is not None and found.newest_at > as_of_ms:
                return None, 0, None
            return found.find(key), updates_offset(found.position), found.name

    def _first_ms(self, key: bytes, number: int, start: int, end: int) -> int | None:
        """When the first update of a key in [start, end) came in."""
        with closing(self._messages(key, number, start, end)) as batches:
            for messages in batches:
                return messages[0].timestamp()[1]
        return None

    def _unknown(self, sku: str, checkpoint: str | None) -> Rejected:
        problem = id_problem(sku)
        hint = "check the spelling" if problem is None else f"and no SKU is like it, for it {problem}"
        since = "" if checkpoint is None else f" after the checkpoint {checkpoint}, nor has that a row of it"
        return Rejected(
            "unknown_sku", f"SKU {sku!r} is unknown: no update in {self._updates.name} has it{since}; {hint}"
        )

    def _ends(self, topic: str, number: int) -> tuple[int, int]:
        return log_ends(self._bootstrap_servers, topic, [number], self._consumer)[number]

    def _end_at(self, number: int, at_ms: int, high: int) -> int:
        end = offset_at(self._consumer, self._updates.name, number, at_ms + 1)
        return high if end is None else end

    def _messages(self, key: bytes, number: int, start: int, end: int) -> Generator[list[Message], None, None]:
        """The messages of a key in [start, end); no list is empty."""
        kept = self._kept.get(key)
        if kept is not None and kept.start <= start and end <= kept.end:
            known = [m for m in kept.messages if start <= _offset(m) < end]
            if known:
                yield known
            return
        self._kept.pop(key, None)
        room = KEPT_BYTES_MAX - sum(other.bytes for other in self._kept.values())
        found: list[Message] = []
        size = 0
        with closing(self._scan(self._updates.name, number, start, end)) as batches:
            for batch in batches:
                own = [message for message in batch if message.key() == key]
                if not own:
                    continue
                size += sum(map(len, own)) + MESSAGE_BYTES * len(own)
                if size <= room:
                    found += own
                else:
                    found = []
                yield own
        if size <= room:
            self._kept[key] = _Kept(start, end, found, size)

    def _scan(
        self, topic: str, number: int, start: int, end: int, what: str = "updates"
    ) -> Generator[list[Message], None, None]:
        """All messages in [start, end), in batches."""
        left = end - start
        self._on_scan(left)
        facts = Facts(self._bootstrap_servers, topic, number, start, end, self._consumer, what)
        try:
            with closing(cast("Generator[list[Message], None, None]", facts.batches(SCAN_EVENTS_MAX))) as batches:
                for batch in batches:
                    self._on_events(len(batch))
                    left -= len(batch)
                    yield batch
        finally:
            self._on_scan(-left)


def _not_compared(live: Live) -> Beside:
    why = f"it stands at offset {live.offset:,}, and the log has only updates of after, or ends before"
    return Beside(live, None, why, 0, None)


def _beside(
    live: Live, history: History, batches: Iterable[list[Message]], sku: str, reservations: Reservations
) -> Beside:
    """Fold on to where the live row stands, and compare; then fold on to the end."""
    behind: list[int] = []
    replayed: list[bytes | None] = []
    for messages in batches:
        cut = bisect_left(messages, live.offset, key=_offset)
        history.take(messages[:cut])
        if cut < len(messages):
            replayed.append(history.row)
            behind.append(len(messages) - cut)
            history.take(messages[cut:])
    due = reservations.until(live.facts).encoded_row(sku, [*replayed, history.row][0])
    return Beside(live, _same(live.row, due), "", sum(behind), None if due is None else decode_row(due))


def _offset(message: Message) -> int:
    return cast("int", message.offset())


def _key(sku: str) -> bytes:
    try:
        return sku.encode()
    except UnicodeEncodeError as error:
        raise Rejected(
            "unknown_sku", f"SKU {sku!r} is no UTF-8; check the spelling, or the terminal's locale"
        ) from error


def _same(live: bytes | None, replayed: bytes | None) -> bool:
    if live is None or replayed is None:
        return live is replayed
    try:
        return meaning(live) == meaning(replayed)
    except msgspec.DecodeError:
        return False
