"""Applies the facts of reservations of one partition again, from a position on, to a store that has its rows.

The rules are the workers' own (`inventory.reservations.facts`). Updates and facts may be applied in any order, so a
replay folds all updates first. Invariant: a fact is applied once, by its number; one that is missing or there twice is
told. Called by verify, rebuild and checkpoints; where there is nothing to apply, nothing is asked of Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol, cast

from confluent_kafka import Consumer, Message
from msgspec.structs import replace

from inventory.reservations.facts import Fact, hold_after, keys_of, records_of, row_after, row_to_come
from inventory.reservations.retention import is_past
from schemas import keys, rows
from schemas.codec import Codec
from schemas.keys import hold_key
from schemas.registry import open_registry
from schemas.reservations import Hold, decode_hold
from schemas.rows import PackedRow, Position, decode_packed_row
from schemas.topics import COMMANDS, RESERVATION_STEPS, RESERVATIONS, UPDATES
from stockweave.errors import Fatal, Rejected
from stockweave.replay.ends import log_ends
from stockweave.replay.facts import Facts
from stockweave.replay.refold import no_cycle_search
from stockweave.settings import Settings

FACTS_MAX = 20_000  # decoded and applied at once: a row that is hit again within them is encoded once
REMOVED_MAX = 20_000  # keys, in one write
TO_ENCODE = b""  # a row that is encoded once, when all facts are applied


class Store(Protocol):
    """Rows and holds: `state.store.PartitionStore`, or one that writes elsewhere as well."""

    def get_many(self, row_keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values of many keys."""

    def write(self, changed: Mapping[bytes, bytes | None], next_offset: int) -> None:
        """Take them, the position among them."""


class ForgettingStore(Store, Protocol):
    """The same, for who removes holds."""

    def holds(self) -> Iterator[tuple[bytes, bytes]]:
        """All of them, as they stand now."""


@dataclass
class Applied:
    """What came of it.

    Attributes:
        position: what the store stands for now.
        count: facts applied.
        problems: in words: numbers that are missing, or there twice.
        beyond: the offset of the first fact that was left out, as far as was read; None: none was seen.
    """

    position: Position
    count: int = 0
    problems: list[str] = field(default_factory=list)
    beyond: int | None = None


def facts_codec(settings: Settings) -> Codec:
    """Of the facts."""
    return Codec("ReservationFact", open_registry(settings))


def facts_log(settings: Settings, partition: int, start: int, consumer: Consumer | None = None) -> Facts:
    """A partition of inventory.reservations from an offset on, to the end that it has now.

    To the end of all that is there: what a transaction has committed may be told as the end a moment later.

    Raises:
        Retriable: Kafka does not answer.
    """
    bootstrap, topic = settings.bootstrap_servers or "", settings.topic(RESERVATIONS.name)
    _, high = log_ends(bootstrap, topic, [partition])[partition]
    return Facts(bootstrap, topic, partition, start, high, consumer, "facts")


def apply_facts(
    settings: Settings,
    partition: int,
    store: Store,
    seed: Position,
    until: int,
    on_facts: Callable[[int], None] = lambda _: None,
) -> Applied:
    """Apply the facts with numbers from `seed.facts` to below `until`.

    Args:
        settings: `bootstrap_servers` answers.
        partition: its number.
        store: with the rows and holds of `seed`; afterwards with those of the result.
        seed: where to go on from.
        until: facts of the position that is to be reached; below `seed.facts`, nothing is done.
        on_facts: told how many each batch had.

    Raises:
        Fatal: the log does not begin where it has to, or something in it is no fact.
        Retriable: Kafka or the registry does not answer.
    """
    done = Applied(seed)
    if until <= seed.facts:
        return done
    log = facts_log(settings, partition, seed.facts_from)
    where = f"partition {partition}"
    with no_cycle_search(), closing(_numbered(log, facts_codec(settings))) as batches:
        for batch in batches:
            some = list(_usable(batch, done, seed.facts, until, where))
            done.position = _advanced(done.position, some)
            changed = changes(store, [fact for _, fact in some])
            position = {keys.POSITION: rows.encode(done.position)}
            store.write({**changed, **position}, done.position.offsets.get(UPDATES.name, 0))
            done.count += len(some)
            on_facts(len(some))
            if done.beyond is not None:
                break
    if done.position.facts < until:
        done.problems.append(f"{where}: facts {_numbers(done.position.facts, until)} are missing in {log.topic}")
    return done


def changes(store: Store, facts: Sequence[Fact]) -> dict[bytes, bytes | None]:
    """Rows, holds and orders' records that facts change, as they are after all of them; None: removed."""
    hold_keys = [hold_key(fact["sku"], fact["reservation_id"]) for fact in facts]
    skus = [fact["sku"].encode() for fact in facts]
    wanted = list(dict.fromkeys([*hold_keys, *skus]))
    stored = {key: value for key, value in zip(wanted, store.get_many(wanted), strict=True) if value is not None}
    holds: dict[bytes, Hold] = {}
    touched: dict[bytes, PackedRow | None] = {}
    changed: dict[bytes, bytes | None] = {}
    for key, sku, fact in zip(hold_keys, skus, facts, strict=True):
        before = holds.get(key) or (decode_hold(stored[key]) if key in stored else None)
        after = holds[key] = hold_after(before, fact)
        changed |= records_of(before, after)
        if sku not in touched:
            touched[sku] = decode_packed_row(stored[sku]) if sku in stored else None
        row = touched[sku]
        if row is None and after.parts:
            row = touched[sku] = row_to_come(after.sku)
        if row is not None and row_after(row, before, after):
            changed[sku] = TO_ENCODE
    return {key: rows.encode(touched[key]) if value == TO_ENCODE else value for key, value in changed.items()}


def drop_forgotten(store: ForgettingStore, position: Position, forgotten_to: int) -> Position:
    """Remove the holds that may be forgotten where all are that ended at or before `forgotten_to`.

    Args:
        store: with the holds of `position`.
        position: afterwards as returned.
        forgotten_to: of the live rows, in ms.
    """
    if forgotten_to <= position.forgotten_to:
        return position
    position = replace(position, forgotten_to=forgotten_to)
    said = {keys.POSITION: rows.encode(position)}
    removed: dict[bytes, bytes | None] = {}
    for _, value in store.holds():
        hold = decode_hold(value)
        if is_past(hold, forgotten_to):
            removed |= dict.fromkeys(keys_of(hold))
        if len(removed) >= REMOVED_MAX:
            store.write({**removed, **said}, position.offsets.get(UPDATES.name, 0))
            removed = {}
    store.write({**removed, **said}, position.offsets.get(UPDATES.name, 0))
    return position


def _numbered(log: Facts, codec: Codec) -> Generator[list[tuple[int, Fact]], None, None]:
    """Offsets and facts, in batches."""
    for batch in log.batches(FACTS_MAX):
        messages = told(batch)
        decoded = codec.decode([message.value() for message in messages])
        yield [(cast("int", m.offset()), checked(m, fact)) for m, fact in zip(messages, decoded, strict=True)]


def told(messages: Sequence[Message]) -> list[Message]:
    """Those that are to be facts: what was to be undone alone may lie between them, where Kafka lost an end."""
    return [message for message in messages if message.key() != keys.UNDONE]


def checked(message: Message, decoded: object) -> Fact:
    """What a message was decoded to, if it is a fact.

    Raises:
        Fatal: it is none.
    """
    if isinstance(decoded, Rejected):
        raise Fatal(
            f"partition {message.partition()} of {message.topic()} holds what is no fact, at offset "
            f"{message.offset()} ({decoded}); only workers may write there"
        )
    return cast("Fact", decoded)


def _usable(
    batch: list[tuple[int, Fact]], done: Applied, first: int, until: int, where: str
) -> Iterator[tuple[int, Fact]]:
    """Those that are to be applied."""
    due = done.position.facts
    for offset, fact in batch:
        number = fact["number"]
        if number >= until:
            done.beyond = offset
            return
        if number < due:
            if number >= first:
                done.problems.append(f"{where}: fact {number:,} is there twice, the second time at offset {offset:,}")
            continue
        if number > due:
            done.problems.append(f"{where}: facts {_numbers(due, number)} are missing before offset {offset:,}")
        due = number + 1
        yield offset, fact


def _numbers(first: int, end: int) -> str:
    return f"{first:,}" if end == first + 1 else f"{first:,} to {end - 1:,}"


def _advanced(before: Position, some: Sequence[tuple[int, Fact]]) -> Position:
    if not some:
        return before
    last_offset, last = some[-1]
    offsets = dict(before.offsets)
    for topic, field_name in ((COMMANDS.name, "command_offset"), (RESERVATION_STEPS.name, "step_offset")):
        decided = [fact[field_name] + 1 for _, fact in some if fact[field_name] is not None]
        if decided:
            offsets[topic] = max(offsets.get(topic, 0), *decided)
    return replace(
        before,
        offsets=offsets,
        facts=last["number"] + 1,
        facts_from=last_offset + 1,
        decided_at=max(before.decided_at, *(fact["decided_at"] for _, fact in some)),
    )
