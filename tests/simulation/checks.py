"""What must hold, while a run goes on and when it has come to rest; each is laid beside the auditor's prediction."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import Message

from inventory.reservations.facts import keys_of
from inventory.stock import Limits
from schemas import keys
from schemas.dead_letters import NOTE
from schemas.reservations import decode_hold
from schemas.rows import Position, decode_position, decode_row, encode
from schemas.topics import COMMANDS, DEAD_LETTERS, STOCK, UPDATES
from state.follower import Follower
from state.store import PartitionStore
from stockweave.replay.facts import Facts
from stockweave.replay.refold import refold
from stockweave.replay.reservations import changes, drop_forgotten
from stockweave.replay.verify.compare import compare, compare_holds, others
from stockweave.replay.verify.verify import tally_problems
from streams.batch import Folder, Part
from tests.simulation.asking import Asked
from tests.simulation.auditor import UNREADABLE, Row
from tests.simulation.disk import SimulatedDisk
from tests.simulation.kafka.consumer import SimulatedConsumer
from tests.simulation.process import Process
from tests.simulation.words import row_in_words, tallies_in_words
from tests.simulation.workload import CODEC, Told

if TYPE_CHECKING:
    from tests.simulation.worker import SimulatedView
    from tests.simulation.world import Simulation

LOOK_EVERY = 6


class Wrong(AssertionError):
    """A law is broken; the message says which, and where."""


def folded_to(position: Position | None) -> int:
    """The next offset of the updates."""
    return 0 if position is None else position.offsets.get(UPDATES.name, 0)


@dataclass(frozen=True)
class Visible:
    """What a reader of committed data sees of a partition of inventory.stock."""

    rows: dict[bytes, bytes]
    position: Position | None
    records: dict[bytes, bytes]
    """What is under reserved keys: holds."""

    @property
    def everything(self) -> dict[bytes, bytes]:
        """But for the position."""
        return self.records | self.rows

    @property
    def next_update(self) -> int:
        """How far the updates are folded."""
        return folded_to(self.position)


def visible(simulation: Simulation, number: int) -> Visible:
    """At this moment."""
    records, _ = simulation.cluster.log(STOCK.name, number).read(0, 1 << 30, committed=True)
    latest = {record.key or b"": record.value for record in records}
    position = latest.pop(keys.POSITION, None)
    there = {key: value for key, value in latest.items() if value is not None}
    rows = {key: value for key, value in there.items() if key >= keys.ROW_FIRST}
    under_reserved = {key: value for key, value in there.items() if key < keys.ROW_FIRST}
    return Visible(rows, None if position is None else decode_position(position), under_reserved)


class Watch:
    """Looks on while a run goes on."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._looks = self._commits = 0
        self._folded: dict[int, int] = {}
        self._answered: dict[int, dict[bytes, int]] = {}  # versions, by partition
        self._view_at: dict[int, int] = {}

    def look(self) -> None:
        """After an action: now and then at the topic, always at the views and at what the stores stand for."""
        self._looks += 1
        self._look_at_view(self._simulation.view)
        self._look_at_stores()
        if self._looks % LOOK_EVERY == 0:
            for number in range(self._simulation.scenario.partitions):
                self._look_at_topic(number)

    def committed(self, who: str, part: Part) -> None:
        """A worker has committed, and written it: its rows are those of its position, no earlier and no later ones."""
        self._commits += 1
        if self._commits % LOOK_EVERY:
            return
        expected = self._simulation.auditor.predict(part.partition, folded_to(part.store.position))
        rows = heard_of(self._simulation, stored_rows(part.store))
        same(f"the store of {who}, partition {part.partition}", rows, expected.rows)

    def _look_at_stores(self) -> None:
        """No store holds what Kafka has not committed; where Kafka lost markers, it may have thought that it did."""
        cluster = self._simulation.cluster
        for worker in () if cluster.torn else self._simulation.workers:
            for number, store in worker.ready().items() if worker.process.alive else ():
                log, anchor = cluster.log(STOCK.name, number), store.mark.anchor
                record = next((r for r in reversed(log.records) if r.offset <= anchor), None)
                if record is None or record.offset != anchor or record.span is None:
                    continue  # compacted
                span = record.span
                if not (span.committed or (span.committed is None and cluster.has_decided_to_commit(span.producer))):
                    raise Wrong(
                        f"the store of {worker.process.name}, partition {number}, stands for offset {anchor}, which "
                        "Kafka has not committed"
                    )

    def _look_at_topic(self, number: int) -> None:
        seen = visible(self._simulation, number)
        check_rows(self._simulation, f"the topic, partition {number}", number, seen.rows, seen.position)
        if seen.next_update < self._folded.get(number, 0):
            raise Wrong(f"partition {number} of the topic went back from {self._folded[number]} to {seen.next_update}")
        self._folded[number] = seen.next_update

    def _look_at_view(self, each: SimulatedView) -> None:
        view = each.view
        for partition in () if view is None else view.partitions:
            if not partition.caught_up:
                continue
            number = partition.number
            at = partition.next_offset(UPDATES.name)
            if at < self._view_at.get(number, 0):
                raise Wrong(f"the view of partition {number} went back from {self._view_at[number]} to {at}")
            self._view_at[number] = at
            answers = dict(partition.page(b"", 1_000))
            versions = {key: decode_row(row).version for key, row in answers.items()}
            for key, before in self._answered.get(number, {}).items():
                if versions.get(key, 0) < before:
                    raise Wrong(f"the view went back with {key!r}: from version {before} to {versions.get(key)}")
            self._answered[number] = versions
            if self._looks % LOOK_EVERY == 0:
                self._hold_against(number, at, {k.decode(): row_in_words(row) for k, row in answers.items()})

    def _hold_against(self, number: int, at: int, answers: dict[str, Row]) -> None:
        """No row of a view may be behind the position that it tells; one may be ahead, within a transaction."""
        for sku, expected in self._simulation.auditor.predict(number, at).rows.items():
            found = answers.get(sku, {"sources": {}})["sources"]
            for where, source in expected["sources"].items():
                if where not in found or found[where]["offset"] < source["offset"]:
                    raise Wrong(f"the view of partition {number} is behind its position {at} with {sku}, {where!r}")


def stored_rows(store: PartitionStore) -> dict[str, Row]:
    """By SKU, in words."""
    waiting = store._row_cache.waiting
    content = dict(cast("Any", store._database)._content) | waiting
    return {
        key.decode(): row_in_words(value)
        for key, value in content.items()
        if key >= keys.ROW_FIRST and value is not None
    }


def heard_of(simulation: Simulation, rows: dict[str, Row]) -> dict[str, Row]:
    """Rows but those that only a fact knows of: Kafka kept it, and lost the rows with the updates that it rests on."""
    return {sku: row for sku, row in rows.items() if row["sources"]} if simulation.cluster.torn else rows


def check_rows(
    simulation: Simulation, where: str, number: int, rows: dict[bytes, bytes], position: Position | None
) -> None:
    """Rows and position against the prediction for exactly that position."""
    expected = simulation.auditor.predict(number, folded_to(position))
    in_words = {key.decode(): row_in_words(row) for key, row in rows.items()}
    same(where, heard_of(simulation, in_words), expected.rows)
    tallies = {} if position is None else tallies_in_words(position)
    if tallies != expected.tallies:
        raise Wrong(f"{where}: tallies {tallies}, expected {expected.tallies}")
    if sum(sum(counts.values()) for counts in tallies.values()) != expected.events:
        raise Wrong(f"{where}: {expected.events} events were read, and the outcomes are {tallies}")


def same(where: str, rows: dict[str, Row], expected: dict[str, Row]) -> None:
    """Row by row."""
    if rows == expected:
        return
    for sku in sorted(rows.keys() | expected.keys()):
        if rows.get(sku) != expected.get(sku):
            raise Wrong(f"{where}: {sku} is {rows.get(sku)}, expected {expected.get(sku)}")


# -- at rest


def at_rest(simulation: Simulation) -> None:
    """Everything, everywhere."""
    for number in range(simulation.scenario.partitions):
        seen = visible(simulation, number)
        check_rows(simulation, f"at rest, the topic, partition {number}", number, seen.rows, seen.position)
        simulation.decisions.at_rest(number, seen.rows, seen.records, seen.position or Position({}, {}))
        simulation.crossings.at_rest(number)
        for worker in simulation.workers:
            store = worker.ready().get(number)
            if store is not None:
                rows = dict(store.rows())
                check_rows(simulation, f"at rest, the store of {worker.process.name}", number, rows, store.position)
                everything = dict(store.records())
                same_bytes(f"the store of {worker.process.name}, partition {number}", everything, seen.everything)
        assert simulation.view.view is not None
        partition = simulation.view.view.partitions[number]
        rows = dict(partition.page(b"", 1_000))
        check_rows(simulation, f"at rest, the view of partition {number}", number, rows, partition.position)
        same_bytes(f"the view of partition {number}", rows, seen.rows)
        _rebuilt_from_topic(simulation, number, seen)
        lost = simulation.cluster.torn and seen.position is not None and seen.position.facts  # facts may be, alone
        if not simulation.trimmed and not lost:
            _verified(simulation, number)
    simulation.decisions.agree()
    _dead_letters(simulation)


def same_bytes(where: str, rows: dict[bytes, bytes], expected: dict[bytes, bytes]) -> None:
    """To the bit: they are copies."""
    if rows != expected:
        differing = [key for key in rows.keys() | expected.keys() if rows.get(key) != expected.get(key)]
        raise Wrong(f"{where} has other bytes than the topic: {sorted(differing)}")


def _dead_letters(simulation: Simulation) -> None:
    """Each refused event once, with its original bytes and its reason, and no other.

    Where Kafka has lost a marker a transaction is whole no more: they may then be missing, or be there twice.
    """
    torn, asked = simulation.cluster.torn, simulation.decisions.asked
    found: dict[tuple[str, int, int], str] = {}
    for log in simulation.cluster.topics[DEAD_LETTERS.name]:
        for record in log.read(0, 1 << 30, committed=True)[0]:
            headers = dict(record.headers or [])
            if NOTE in headers:
                continue
            topic = headers["__connect.errors.topic"].decode()
            number, offset = (int(headers[f"__connect.errors.{name}"]) for name in ("partition", "offset"))
            place = topic, number, offset
            if place in found and not torn:
                raise Wrong(f"{place} is among the dead letters twice")
            source: Told | Asked = (
                simulation.auditor.told_at(number, offset) if topic == UPDATES.name else asked[number][offset]
            )
            if (record.key, record.value) != (source.key, source.value) or headers.get("sent") != b"by simulation":
                raise Wrong(f"the dead letter of {place} has other bytes than came")
            found[place] = headers["__connect.errors.exception.class.name"].decode()
    expected: dict[tuple[str, int, int], str] = {}
    for number in range(simulation.scenario.partitions):
        refused = simulation.auditor.predict(number, 1 << 60).refused
        expected |= {(UPDATES.name, number, offset): reason for offset, reason in refused.items()}
        junk = [offset for offset, one in asked[number].items() if one.command is None]
        expected |= dict.fromkeys(((COMMANDS.name, number, offset) for offset in junk), UNREADABLE)
    if found.keys() != expected.keys() and not torn:
        raise Wrong(
            f"dead letters: missing {sorted(expected.keys() - found.keys())}, too many "
            f"{sorted(found.keys() - expected.keys())}"
        )
    for place, reason in expected.items():
        if place not in found:
            continue
        if reason not in (UNREADABLE, found[place]):
            raise Wrong(f"the dead letter of {place} says {found[place]}, expected {reason}")


def nothing_hangs(simulation: Simulation) -> None:
    """Readers of committed data come to every end; for when each worker has begun anew since the last fault."""
    for name, logs in simulation.cluster.topics.items():
        for log in logs:
            if log.stable_end < log.end:
                raise Wrong(f"readers of {name}, partition {log.number}, stand at {log.stable_end} of {log.end}")


def _rebuilt_from_topic(simulation: Simulation, number: int, seen: Visible) -> None:
    """The compacted topic alone has it all: an empty store that follows it ends with the same rows."""
    disk = SimulatedDisk(simulation.clock, None, 0, random.Random(0))
    store = PartitionStore(Path("rebuilt"), disk, "g0")
    nobody = Process("nobody", lambda: None, lambda: None)
    consumer = SimulatedConsumer(simulation.cluster, simulation.clock, nobody, random.Random(number), ends=True)
    follower = Follower(consumer, STOCK.name)
    follower.add(number, store, simulation.clock.now_ms())
    end = simulation.cluster.log(STOCK.name, number).end
    while follower.ended_at(number) < end:
        follower.step(1_000, 0)
    same_bytes(f"what partition {number} of the topic alone gives", dict(store.records()), seen.everything)
    if store.position != seen.position:
        raise Wrong(f"the topic alone gives position {store.position} in partition {number}")


class _KeptFacts:
    """Satisfies what `refold` asks of `stockweave.replay.facts.Facts`."""

    def __init__(self, simulation: Simulation, number: int) -> None:
        self.partition = number
        self._log = simulation.cluster.log(UPDATES.name, number)

    def batches(self, events_max: int) -> list[list[Message]]:
        records, _ = self._log.read(0, events_max, committed=True)
        messages = [
            Message(topic=UPDATES.name, partition=self.partition, offset=r.offset, key=r.key, value=r.value)
            for r in records
        ]
        return [messages] if messages else []


def _verified(simulation: Simulation, number: int) -> None:
    """As `stockweave verify` does it: its own replay and its own comparison. Then as a rebuild ends."""
    scenario = simulation.scenario
    disk = SimulatedDisk(simulation.clock, None, 0, random.Random(0))
    live, replayed = (PartitionStore(Path(name), disk, "g0") for name in ("live", "replayed"))
    seen = visible(simulation, number)
    position = seen.position or Position({}, {})
    live.write({**seen.everything, keys.POSITION: encode(position)}, 1)
    folder = Folder(CODEC, Limits(scenario.horizon_ms, scenario.entries_max), scenario.partitions)
    result = refold(cast("Facts", _KeptFacts(simulation, number)), folder, replayed)
    replayed.write(changes(replayed, simulation.decisions.facts(number)), 1)
    compared, holds = compare(live, replayed), compare_holds(live, replayed)
    problems = tally_problems(number, position, result)
    if compared.differ or holds.differ or holds.disagree or problems:
        raise Wrong(f"verify of partition {number}: {compared.differ} differ, {holds}, {problems}")
    kept = dict(others(live))
    for hold in map(decode_hold, dict(live.holds()).values()):
        if hold.ended_at is not None and hold.ended_at <= position.forgotten_to:
            for key in keys_of(hold):
                del kept[key]
    drop_forgotten(replayed, result, position.forgotten_to)
    same_bytes(f"a rebuild of partition {number}", dict(others(replayed)), kept)
