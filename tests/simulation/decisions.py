"""The facts of a run held against the ledger: each with the commands and the rows that it was decided by.

Positions tell which: between one and the next, commands are decided by the rows of the first. They are noted while the
run goes on, for compaction removes them. Where Kafka lost a marker, facts and rows may part, which no reader of one log
can mend; then only sums are looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from schemas import keys
from schemas.reservations import Hold, decode_hold
from schemas.rows import Position, StockRow, decode_position, decode_row
from schemas.topics import COMMANDS, RESERVATIONS, STOCK, UPDATES
from tests.simulation.asking import Asked
from tests.simulation.kafka.log import Record
from tests.simulation.ledger import Fact, Ledger
from tests.simulation.workload import FACTS

if TYPE_CHECKING:
    from tests.simulation.world import Simulation


class Wrong(AssertionError):
    """A law of reservations is broken; the message says which, and where."""


class Decisions:
    """Of all partitions. `asked`: by partition and offset, what is in the log of commands."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        partitions = range(simulation.scenario.partitions)
        self.asked: list[dict[int, Asked]] = [{} for _ in partitions]
        self._positions: list[list[tuple[Record, Position]]] = [[] for _ in partitions]
        self._noted = [0 for _ in partitions]

    def look(self) -> None:
        """Note the positions that were written since the last look."""
        for number, log in enumerate(self._simulation.cluster.topics[STOCK.name]):
            for record in reversed(log.records):
                if record.offset < self._noted[number]:
                    break
                if record.key == keys.POSITION:
                    position = decode_position(cast("bytes", record.value))
                    self._positions[number].append((record, position))
            self._noted[number] = log.end

    def at_rest(self, number: int, rows: dict[bytes, bytes], records: dict[bytes, bytes], at: Position) -> None:
        """Everything in a partition."""
        decoded = {key.decode(): decode_row(row) for key, row in rows.items()}
        holds = [decode_hold(value) for key, value in records.items() if key.startswith(keys.HOLD_PREFIX)]
        if self._simulation.cluster.torn:
            _sums(number, decoded, holds)
            return
        ledger = self._ledger(number, at)
        for sku, row in decoded.items():
            expected = ledger.reserved(
                sku, cast("Any", self._simulation.auditor.predict(number, _folded(at)).rows[sku])
            )
            found = _in_words(row)
            if found != expected:
                raise Wrong(f"partition {number}: of {sku} {found} are reserved, expected {expected}")
        told = {hold.reservation_id: _hold_in_words(hold) for hold in holds}
        lines = {
            name: [line.state, line.parts, line.created_at, line.fact["expires_at"], line.steps]
            for name, line in ledger.lines.items()
        }
        if told != lines:
            wrong = [name for name in told.keys() | lines.keys() if told.get(name) != lines.get(name)]
            raise Wrong(f"partition {number}: {wrong[0]} is {told.get(wrong[0])}, expected {lines.get(wrong[0])}")

    def facts(self, number: int) -> list[Fact]:
        """Those in the log of a partition, in their order."""
        records, _ = self._simulation.cluster.log(RESERVATIONS.name, number).read(0, 1 << 30, committed=True)
        values = [record.value for record in records if record.key != keys.UNDONE]
        return cast("list[Fact]", FACTS.decode(values))

    def _ledger(self, number: int, at: Position) -> Ledger:
        facts = self.facts(number)
        if [fact["number"] for fact in facts] != list(range(len(facts))) or at.facts != len(facts):
            raise Wrong(f"partition {number}: facts {[f['number'] for f in facts]}, and the position has {at.facts}")
        ledger, rolling = Ledger(), self._simulation.auditor.roll(number)
        if not facts and not self.asked[number]:
            return ledger
        before = Position({}, {})
        for record, position in sorted(self._positions[number], key=lambda noted: noted[0].offset):
            if not record.committed:
                continue
            rolling.to(_folded(before))
            waiting = facts[before.facts : position.facts][::-1]
            while waiting and waiting[-1]["command_offset"] is None:
                ledger.take(waiting.pop(), None, None)
            for offset in range(before.offsets.get(COMMANDS.name, 0), position.offsets.get(COMMANDS.name, 0)):
                self._decided(number, offset, waiting, ledger, rolling.row, position.decided_at)
            if waiting:
                raise Wrong(f"partition {number}: {waiting} were decided out of turn")
            before = position
        return ledger

    def _decided(self, number: int, offset: int, waiting: list[Fact], ledger: Ledger, row: Any, now_ms: int) -> None:
        asked = self.asked[number].get(offset)
        while waiting and waiting[-1]["command_offset"] is None:
            ledger.take(waiting.pop(), None, None)
        if waiting and waiting[-1]["command_offset"] == offset:
            fact = waiting.pop()
            ledger.take(fact, asked, row(fact["sku"]))
        elif asked is not None and asked.command is not None and ledger.was_possible(asked.command, now_ms):
            raise Wrong(f"partition {number}: nothing came of {asked.command}")


def _sums(number: int, rows: dict[str, StockRow], holds: list[Hold]) -> None:
    """What is reserved of a row is what its holds have, but for what its counts know of."""
    for sku, row in rows.items():
        sums: dict[str, dict[tuple[Any, ...], int]] = {}
        for hold in holds:
            for part in hold.parts if hold.sku == sku else ():
                where = f"{part.supplier_id}\x1f{part.location_id}"
                count = row.sources[where].count if where in row.sources else None
                if part.fulfilled_at is not None and count is not None and count.at >= part.fulfilled_at:
                    continue
                kind = (hold.channel, part.committed_at or 0, part.fulfilled_at or 0)
                of_source = sums.setdefault(where, {})
                of_source[kind] = of_source.get(kind, 0) + part.quantity
        expected = {where: sorted([*kind, n] for kind, n in kinds.items()) for where, kinds in sums.items()}
        if _in_words(row) != expected:
            raise Wrong(f"partition {number}: of {sku} {_in_words(row)} are reserved, and its holds have {expected}")


def _in_words(row: StockRow) -> dict[str, list[list[Any]]]:
    return {
        where: [[entry.channel, entry.committed_at or 0, entry.fulfilled_at or 0, entry.units] for entry in entries]
        for where, entries in row.reserved.items()
    }


def _hold_in_words(hold: Hold) -> list[Any]:
    parts = [{name: getattr(part, name) for name in part.__struct_fields__} for part in hold.parts]
    steps = [[step.fact, step.at, step.units, step.command_id] for step in hold.steps]
    return [hold.state, parts, hold.created_at, hold.expires_at, steps]


def _folded(position: Position) -> int:
    return position.offsets.get(UPDATES.name, 0)
