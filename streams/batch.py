"""One batch through the fold: bytes and stored rows in, changed rows, positions, alerts and dead letters out.

Reads the stores and writes nothing. Called by the Faust agent, in a thread, while the pump waits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa
from confluent_kafka import Message
from msgspec.structs import replace

from inventory.fold import fold
from inventory.reservations.facts import Fact
from inventory.reservations.shipments import Shipment
from inventory.stock import Limits, StockUpdate
from inventory.updates import Updates
from schemas.codec import Codec
from schemas.keys import partition_of
from schemas.rows import OTHERS, OUTCOMES, SUPPLIERS_MAX, UNATTRIBUTED, Position
from schemas.topics import UPDATES
from state.store import PartitionStore
from stockweave.errors import Fatal, Rejected
from streams.alerts import Alerts, Raised, rows_among
from streams.dead_letters import DeadLetter
from streams.decider import Asked, Decided, Decider
from streams.forgetting import forgotten
from streams.shipments import Above, shipments
from streams.sweep import Past

REJECTED_AT = OUTCOMES.index("rejected")
COLUMNS_MIN = 32  # messages: fewer are decoded record by record in less time than it takes to set up columns
Load = Callable[[list[bytes]], Sequence[bytes | None]]

SHOWN_MAX = 64  # bytes or characters of what a message says, in a reason


@dataclass(frozen=True)
class Part:
    """What came for one partition, contiguous from `position.offsets` on, and the store that it is folded into.

    `messages`: updates. `commands`: by topic. `due`: time and key of holds to look at. `missed`: facts that the rows do
    not have. `facts_from`: see `Position`. `closes_from`: the updates below this offset have closed what they close.
    `past`: holds that may be forgotten. `crossed`: keys of rows that time or a policy may have taken into another alert
    state. `to_cover`: see `Asked`. `quiet`: a former generation of the rows has told the alerts of this part. `at_ms`:
    by the machine's clock, when `due` was looked for, and not before the rest had come; decisions are of that time, so
    that none is made by a hold that has lapsed and is not among them.
    """

    partition: int
    store: PartitionStore
    position: Position
    messages: list[Message]
    commands: Mapping[str, Sequence[Message]] = field(default_factory=dict)
    due: Sequence[tuple[int, bytes]] = ()
    missed: Sequence[Fact] = ()
    facts_from: int = 0
    closes_from: int = 0
    past: Past | None = None
    crossed: Sequence[bytes] = ()
    to_cover: Sequence[bytes] = ()
    quiet: bool = False
    at_ms: int = 0

    @property
    def has_any(self) -> bool:
        """Whether there is anything to decide or to fold."""
        return bool(
            self.messages or self.commands or self.due or self.missed or self.past or self.crossed or self.to_cover
        )

    @property
    def decision_ms(self) -> int:
        """The decision clock of its partition, which never goes back."""
        return max(self.at_ms, self.position.decided_at)

    @property
    def next_update(self) -> int:
        """The offset after the last of `messages`."""
        if self.messages:
            return cast("int", self.messages[-1].offset()) + 1
        return self.position.offsets.get(UPDATES.name, 0)

    @property
    def settled_to(self) -> int:
        """`next_update` of what is decided; see ReservationFact.5.avsc."""
        return max(self.next_update, self.closes_from)


@dataclass(frozen=True)
class Batch:
    """What one poll brought. `group_metadata`: read after that poll, and the fence of its transaction."""

    parts: list[Part]
    group_metadata: Any

    @property
    def events(self) -> int:
        """Updates in all parts."""
        return sum(len(part.messages) for part in self.parts)


@dataclass(frozen=True)
class FoldedPart:
    """What becomes of a part once it is committed.

    `rows`: with holds. `outcomes`: events by outcome, as `schemas.rows.OUTCOMES`. `decided`: of its commands and holds,
    and of the `shipments` that its updates tell of. `removed`: keys of holds and orders' records that are there no
    longer. `doubtful`: keys of rows whose alert state is to be looked at. `timed`: time alone may change one of those.
    `short`: keys of those some source of which has less than is held of it.
    """

    part: Part
    rows: dict[bytes, bytes]
    position: Position
    dead_letters: list[DeadLetter]
    outcomes: list[int]
    shipments: Sequence[Shipment] = ()
    decided: Decided | None = None
    removed: Sequence[bytes] = ()
    doubtful: Sequence[bytes] = ()
    alerts: Sequence[Raised] = ()
    timed: bool = False
    short: Sequence[bytes] = ()


class Folder:
    """Decides commands, then decodes and folds updates, then looks for alerts.

    Args:
        codec: of StockUpdate.
        limits: of every source.
        partitions: of inventory.updates, so that no row is made where readers do not look for it; None: look at none.
        decider: None where there are no commands, as in a replay.
        alerts: None where nobody is told of any, as in a replay.
    """

    def __init__(
        self,
        codec: Codec,
        limits: Limits,
        partitions: int | None = None,
        decider: Decider | None = None,
        alerts: Alerts | None = None,
    ) -> None:
        self._codec = codec
        self._limits = limits
        self._partitions = partitions
        self._decider = decider
        self._alerts = alerts

    def fold(self, batch: Batch) -> list[FoldedPart]:
        """Fold every part.

        Raises:
            Retriable: the registry has to be asked for a schema, and does not answer; nothing has changed.
            Fatal: the outcomes do not add up to the events, which is a defect of ours.
        """
        return [self._fold_part(part) for part in batch.parts]

    def _fold_part(self, part: Part) -> FoldedPart:
        folded = self._decide_and_fold(part)
        if part.past is None:
            return folded
        removed, position = forgotten(part.past, folded.rows, folded.position)
        return dataclasses.replace(folded, removed=[*folded.removed, *removed], position=position)

    def _decide_and_fold(self, part: Part) -> FoldedPart:
        decided = self._decide(part)
        stored = part.store if decided is None else Above(decided.rows, part.store)
        folded = self._fold_updates(part, stored.get_many)
        closed = self._close(part, decided, folded)
        decided = closed if decided is None else decided.then(closed)
        whole = folded if decided is None else _joined(part, decided, folded, {} if closed is None else closed.rows)
        return whole if self._alerts is None else _with_alerts(whole, self._alerts)

    def _decide(self, part: Part) -> Decided | None:
        if self._decider is None or not (part.commands or part.due or part.missed or part.to_cover):
            return None
        before = part.position
        asked = Asked(
            before.facts, part.decision_ms, part.settled_to, part.missed, part.due, part.commands, part.to_cover
        )  # fmt: skip
        return self._decider.decide(asked, part.store, placed_in(part.partition, self._partitions))

    def _close(self, part: Part, decided: Decided | None, folded: FoldedPart) -> Decided | None:
        """What the shipments that updates tell of close, by all that was decided and folded before."""
        if self._decider is None or not folded.shipments:
            return None
        facts, at_ms, rows = part.position.facts, part.decision_ms, folded.rows
        if decided is not None:
            facts, at_ms, rows = decided.next_fact, decided.decided_at, decided.rows | rows
        return self._decider.close(folded.shipments, Asked(facts, at_ms, part.settled_to), Above(rows, part.store))

    def _fold_updates(self, part: Part, load: Load) -> FoldedPart:
        messages = part.messages
        if not messages:
            return FoldedPart(part, {}, replace(part.position, oldest_received_at=0), [], [0] * len(OUTCOMES))
        updates, keys, places, dead_letters = self._decode(messages)
        first, last = (cast("int", messages[i].offset()) for i in (0, -1))
        offsets: Sequence[int] = range(first, last + 1)
        if places is not None or len(offsets) != len(messages):  # some are unusable, or control records lie between
            offsets = [cast("int", messages[i].offset()) for i in (range(len(messages)) if places is None else places)]
        is_here = placed_in(part.partition, self._partitions)
        sure = None if self._alerts is None else self._alerts.sure()
        folded = fold(updates, keys, offsets, load, self._limits, is_here, sure)
        tallies = folded.tallies
        if dead_letters:
            tallies.setdefault(UNATTRIBUTED, [0] * len(OUTCOMES))[REJECTED_AT] += len(dead_letters)
        for i, refused in folded.refused:
            reason, _, detail = refused.partition(": ")
            message = messages[i if places is None else places[i]]
            dead_letters.append(DeadLetter(message, reason, detail or REMEDIES[reason]))
        outcomes = [sum(column) for column in zip(*tallies.values(), strict=True)]
        if sum(outcomes) != len(messages):
            n = len(messages)
            raise Fatal(f"partition {part.partition}: {n} events had {sum(outcomes)} outcomes; a defect")
        told = shipments(updates, keys, offsets, folded.others, part.closes_from) if self._decider is not None else ()
        position = _advanced(part, updates, tallies)
        return FoldedPart(part, folded.rows, position, dead_letters, outcomes, told, doubtful=folded.doubtful)

    def _decode(self, messages: list[Message]) -> tuple[Updates, list[bytes], list[int] | None, list[DeadLetter]]:
        """The usable updates, their keys, where each stood (None: all, in place), and the dead letters of the rest."""
        values = [message.value() for message in messages]
        keys = [message.key() for message in messages]
        columns = self._codec.arrow(values) if len(values) >= COLUMNS_MIN else None
        if columns is not None and keyed_by_sku(columns, keys):
            return Updates.of_batch(columns), cast("list[bytes]", keys), None, []
        usable: list[StockUpdate] = []
        places, dead = [], []
        for i, decoded in enumerate(self._codec.decode(values)):
            if isinstance(decoded, Rejected):
                dead.append(DeadLetter(messages[i], decoded.reason, str(decoded)))
            elif keys[i] != decoded["sku"].encode():
                key, sku = (keys[i] or b"")[:SHOWN_MAX], decoded["sku"][:SHOWN_MAX]
                said = f"the key is {key!r} and the sku {sku!r}; key by the SKU"
                dead.append(DeadLetter(messages[i], "key_is_not_sku", said))
            else:
                usable.append(cast("StockUpdate", decoded))
                places.append(i)
        return Updates.of(usable), [cast("bytes", keys[i]) for i in places], places, dead


def _joined(part: Part, decided: Decided, folded: FoldedPart, closed: Mapping[bytes, bytes]) -> FoldedPart:
    """A part of which commands were decided, then updates folded, and then what these have `closed` was written."""
    before = folded.position
    position = replace(
        before,
        offsets=before.offsets | {t: max(at, before.offsets.get(t, 0)) for t, at in decided.next_offsets.items()},
        facts=decided.next_fact,
        facts_from=part.facts_from,
        decided_at=decided.decided_at,
        forgotten_to=max(before.forgotten_to, decided.forgotten_to),
    )
    return FoldedPart(
        part,
        {**decided.rows, **folded.rows, **closed},
        position,
        decided.dead_letters + folded.dead_letters,
        folded.outcomes,
        decided=decided,
        removed=decided.removed,
        doubtful=[*rows_among(decided.rows), *folded.doubtful],
    )


def _with_alerts(folded: FoldedPart, alerts: Alerts) -> FoldedPart:
    """The same, with the states of its rows taken further, and the alerts of those that crossed."""
    part = folded.part
    doubtful = [*folded.doubtful, *part.crossed]
    if not doubtful:
        return folded
    found = alerts.look(part.store, folded.rows, doubtful, folded.position, quiet=part.quiet)
    folded.rows.update(found.rows)
    position = replace(folded.position, decided_at=found.at)
    return dataclasses.replace(folded, position=position, alerts=found.raised, timed=found.timed, short=found.short)


def keyed_by_sku(columns: pa.RecordBatch, keys: list[bytes | None]) -> bool:
    """Whether the key of every update is its SKU."""
    skus: list[bytes | None] = columns.column("sku").view(pa.binary()).to_pylist()
    return skus == keys


def placed_in(partition: int, partitions: int | None) -> Callable[[bytes], bool] | None:
    """Whether the row of a key belongs into `partition`, of so many; None: into any."""
    if partitions is None:
        return None
    return lambda key: partition_of(key, partitions) == partition


REMEDIES = {
    "update_id_conflict": "its update_id was used for another update of the same source; give each its own",
    "sum_out_of_range": "the sum of its source's deltas is beyond all stock; send a COUNT",
    "too_old": "it is older than what the source still tells apart; send a COUNT",
    "row_full": "its SKU has so many sources and deltas that the row would not fit a message; "
    "send COUNTs, which take the place of deltas, or sell it under several SKUs",
    "wrong_partition": "its partition is not that of its key, where it is looked for; "
    "let the producer use partitioner=murmur2_random, as Kafka's Java client does",
}


def _advanced(part: Part, updates: Updates, tallies: dict[str, list[int]]) -> Position:
    """The position after the part; the present one is left as it is, for the batch may yet be aborted."""
    before = part.position
    outcomes = dict(before.outcomes)
    if len(outcomes) + len(tallies) > SUPPLIERS_MAX:
        tallies = _capped(tallies, updates.supplier_id, outcomes)
    for supplier, tally in tallies.items():
        known = outcomes.get(supplier)
        outcomes[supplier] = tally if known is None else [a + b for a, b in zip(known, tally, strict=True)]
    received = updates.received_at
    return replace(
        before,
        offsets={**before.offsets, UPDATES.name: part.next_update},
        outcomes=outcomes,
        clock=max(before.clock, max(received, default=0)),
        oldest_received_at=min(received, default=0),
    )


def _capped(tallies: dict[str, list[int]], suppliers: Sequence[str], known: Iterable[str]) -> dict[str, list[int]]:
    """The tallies with the suppliers beyond the cap as one: those that came first in the log have their own."""
    named = set(known) | {UNATTRIBUTED}
    room = SUPPLIERS_MAX - len(named - {UNATTRIBUTED, OTHERS})
    new = [supplier for supplier in dict.fromkeys(suppliers) if supplier in tallies and supplier not in named]
    named.update(new[: max(0, room)])
    capped = {supplier: tally for supplier, tally in tallies.items() if supplier in named}
    beyond = [tally for supplier, tally in tallies.items() if supplier not in named]
    if beyond:
        capped[OTHERS] = [sum(column) for column in zip(*beyond, strict=True)]
    return capped
