"""The facts of a run held against the ledger: each with the commands and the rows that it was decided by.

Positions tell which: between one and the next, commands are decided by the rows of the first. They are noted while the
run goes on, for compaction removes them. Where Kafka lost a marker, facts and rows may part, which no reader of one log
can mend; then only sums are looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from inventory.reservations.reallocation import shortage
from schemas import keys
from schemas.reservations import PENDING, Hold, decode_hold
from schemas.rows import Position, StockRow, decode_position, decode_row
from schemas.topics import COMMANDS, RESERVATION_STEPS, RESERVATIONS, STOCK, UPDATES
from tests.simulation.asking import COMMANDS as ASKED
from tests.simulation.asking import Asked
from tests.simulation.closings import Name
from tests.simulation.facts import Fact
from tests.simulation.kafka.log import Record
from tests.simulation.ledger import Ledger
from tests.simulation.pools import SLOW
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
        self._removed: list[list[Record]] = [[] for _ in partitions]
        self._noted = [0 for _ in partitions]
        self._holds: dict[Name, Hold] = {}
        self.held_of_pools = [0 for _ in partitions]  # as the ledger counts them

    def look(self) -> None:
        """Note the positions that were written since the last look, and the holds that were removed."""
        for number, log in enumerate(self._simulation.cluster.topics[STOCK.name]):
            for record in reversed(log.records):
                if record.offset < self._noted[number]:
                    break
                if record.key == keys.POSITION:
                    position = decode_position(cast("bytes", record.value))
                    self._positions[number].append((record, position))
                elif record.value is None and (record.key or b"").startswith(keys.HOLD_PREFIX):
                    self._removed[number].append(record)
            self._noted[number] = log.end

    def at_rest(self, number: int, rows: dict[bytes, bytes], records: dict[bytes, bytes], at: Position) -> None:
        """Everything in a partition."""
        decoded = {key.decode(): decode_row(row) for key, row in rows.items()}
        holds = [decode_hold(value) for key, value in records.items() if key.startswith(keys.HOLD_PREFIX)]
        self._holds |= {(hold.sku, hold.reservation_id): hold for hold in holds}
        if self._simulation.cluster.torn:
            _sums(number, decoded, holds, at.forgotten_to)
            return
        ledger = self._ledger(number, at)
        self.held_of_pools[number] = ledger.held_of_pools
        for sku, row in decoded.items():
            expected = ledger.reserved(
                sku, cast("Any", self._simulation.auditor.predict(number, _folded(at)).rows[sku])
            )
            found = _in_words(row)
            if found != expected:
                raise Wrong(f"partition {number}: of {sku} {found} are reserved, expected {expected}")
            self._covered(number, row, ledger, at)
        told = {(hold.sku, hold.reservation_id): _hold_in_words(hold) for hold in holds}
        several = {("", name): each for name, each in ledger.several.reservations.items()}
        lines = {
            name: [each.state, each.fact["parts"], each.created_at, each.fact["expires_at"], each.steps, each.unchanged]
            for name, each in (ledger.lines | several).items()
        }
        if told != lines:
            wrong = [name for name in told.keys() | lines.keys() if told.get(name) != lines.get(name)]
            raise Wrong(f"partition {number}: {wrong[0]} is {told.get(wrong[0])}, expected {lines.get(wrong[0])}")

    def _covered(self, number: int, row: StockRow, ledger: Ledger, at: Position) -> None:
        """Nothing is held of a source that lacks it while another has it."""
        now_ms = self._simulation.clock.now_ms()
        if shortage(row, self._simulation.crossings.policies(), now_ms) is None:
            return  # it is by these policies that somebody looks
        told = cast("Any", self._simulation.auditor.predict(number, _folded(at)).rows[row.sku])
        if movable := ledger.movable(told, row.sku, now_ms):
            raise Wrong(f"partition {number}: {movable[0]} is held of a source that lacks it, and nobody covers it")

    def facts(self, number: int) -> list[Fact]:
        """Those in the log of a partition, in their order."""
        records, _ = self._simulation.cluster.log(RESERVATIONS.name, number).read(0, 1 << 30, committed=True)
        values = [record.value for record in records if record.key != keys.UNDONE]
        return cast("list[Fact]", FACTS.decode(values))

    def _ledger(self, number: int, at: Position) -> Ledger:
        facts = self.facts(number)
        if [fact["number"] for fact in facts] != list(range(len(facts))) or at.facts != len(facts):
            raise Wrong(f"partition {number}: facts {[f['number'] for f in facts]}, and the position has {at.facts}")
        ledger, rolling = Ledger(self._simulation.scenario.pools), self._simulation.auditor.roll(number)
        steps = self._steps(number)
        if not facts and not self.asked[number]:
            return ledger
        before = Position({}, {})
        for record, position in sorted(self._positions[number], key=lambda noted: noted[0].offset):
            if not record.committed:
                continue
            rolling.to(_folded(before))
            waiting = facts[before.facts : position.facts][::-1]
            turn = _Turn(number, waiting, ledger, rolling.row, position.decided_at)
            turn.of_time()
            for topic, name, asked in (
                (RESERVATION_STEPS.name, "step_offset", steps),
                (COMMANDS.name, "command_offset", self.asked[number]),
            ):
                for offset in range(before.offsets.get(topic, 0), position.offsets.get(topic, 0)):
                    turn.decided(name, offset, asked)
                turn.notes(asked)
            turn.covered()
            rolling.to(_folded(position))
            for offset in range(_folded(before), _folded(position)):
                if rolling.outcomes.get(offset) in ("applied", "replaced", "superseded"):
                    turn.shipped(offset, cast("Any", self._simulation.auditor.told_at(number, offset).update))
            if any(fact["next_update"] != _folded(position) for fact in facts[before.facts : position.facts]):
                raise Wrong(f"partition {number}: facts of {before.facts} to {position.facts} tell another place")
            if waiting:
                raise Wrong(f"partition {number}: {waiting} were decided out of turn")
            self._forget(number, record, position, ledger)
            if position.forgotten_to < before.forgotten_to:
                raise Wrong(f"partition {number}: what is forgotten went back from {before} to {position}")
            before = position
        return ledger

    def _steps(self, number: int) -> dict[int, Asked]:
        """What passed between lines and coordinators, by offset."""
        records, _ = self._simulation.cluster.log(RESERVATION_STEPS.name, number).read(0, 1 << 30, committed=True)
        told = [record for record in records if record.key != keys.UNDONE]
        commands = cast("list[dict[str, Any]]", ASKED.decode([record.value for record in told]))
        return {
            record.offset: Asked(record.key or b"", record.value or b"", command)
            for record, command in zip(told, commands, strict=True)
        }

    def _forget(self, number: int, record: Record, position: Position, ledger: Ledger) -> None:
        """What the transaction of a position record has removed."""
        for removed in self._removed[number]:
            if removed.span is record.span:
                name = _name(removed)
                ended_at = ledger.forget(name, position.decided_at, self._simulation.scenario.retention_ms)
                if ended_at > position.forgotten_to:
                    raise Wrong(f"partition {number}: {name} is forgotten, and the position knows nothing of it")

    def agree(self) -> None:
        """Reservations of several SKUs and their lines, in whatever partitions; called once all are looked at.

        Where Kafka lost a marker, a line may have been told what its coordinator then lost, or the other way round.
        """
        torn = self._simulation.cluster.torn
        gone = {_name(removed) for of_number in self._removed for removed in of_number if removed.committed}
        for (sku, name), hold in self._holds.items():
            if sku:
                continue
            for line in hold.lines:
                of_line = self._holds.get((line.sku, name))
                is_over = torn or (line.state == "EXPIRED" and not line.steps)  # asked too late, it never held
                if of_line is None and ((line.sku, name) in gone or is_over) and not line.open_units:
                    continue
                if line.asked or hold.state == PENDING:
                    raise Wrong(f"line {line.sku} of {name} has not answered: {hold}")
                if of_line is None or (not torn and (line.state, line.parts) != (of_line.state, of_line.parts)):
                    raise Wrong(f"line {line.sku} of {name} is {of_line}, and its coordinator knows {line}")
                if of_line.open_units and not hold.is_open:
                    raise Wrong(f"{of_line} is held by nobody: {hold}")
        self._holds.clear()


class _Turn:
    """What was decided between two positions of a partition.

    Args:
        number: of the partition.
        waiting: the facts, the first one last.
        ledger: takes them.
        row: the auditor's, of a SKU.
        now_ms: the decision clock at the end.
    """

    def __init__(self, number: int, waiting: list[Fact], ledger: Ledger, row: Any, now_ms: int) -> None:
        self._number, self._waiting, self._ledger, self._row, self._now_ms = number, waiting, ledger, row, now_ms

    def of_time(self) -> None:
        """Holds that lapsed: facts that came of no command."""
        while self._waiting and _came_of_nothing(self._waiting[-1]) and self._waiting[-1]["fact"] != "TRANSFERRED":
            self._ledger.take(self._waiting.pop(), None, None)

    def covered(self) -> None:
        """What sources lack is covered last, after all commands; a hold may be seen to have lapsed then."""
        while self._waiting and _came_of_nothing(self._waiting[-1]):
            fact = self._waiting.pop()
            self._ledger.take(fact, None, self._row(fact["sku"]))

    def decided(self, name: str, offset: int, asked: dict[int, Asked]) -> None:
        """What the message at an offset came to; `name`: the fact's field that would have it."""
        self.of_time()
        one = asked.get(offset)
        if self._waiting and self._waiting[-1][name] == offset and self._waiting[-1]["fact"] != "NOTED":
            fact = self._waiting.pop()
            self._ledger.take(fact, one, self._row(fact["sku"]))
        elif self._waiting and self._waiting[-1][name] == offset and name == "command_offset":
            self._ledger.take(self._waiting.pop(), one, None)
        elif one is not None and one.command is not None:
            row = self._row(one.command["sku"])
            if self._ledger.is_owed(one.command, self._now_ms, row):
                raise Wrong(f"partition {self._number}: nothing came of {one.command}")

    def notes(self, asked: dict[int, Asked]) -> None:
        """One fact for all that was noted of a reservation, after all answers."""
        while self._waiting and self._waiting[-1]["fact"] == "NOTED" and self._waiting[-1]["command_offset"] is None:
            fact = self._waiting.pop()
            self._ledger.take(fact, asked.get(fact["step_offset"]), None)

    def shipped(self, offset: int, update: dict[str, Any]) -> None:
        """What an accepted update closes."""
        if update["order_ref"] is None or update["kind"] != "DELTA" or update["quantity"] > 0:
            return
        self.of_time()
        is_next = bool(self._waiting) and self._waiting[-1]["update_offset"] == offset
        now_ms = self._waiting[-1]["decided_at"] if is_next else self._now_ms  # alerts may be of a later moment
        for closing in self._ledger.closings(update, now_ms):
            if not self._waiting or self._waiting[-1]["update_offset"] != offset:
                raise Wrong(f"partition {self._number}: {update} at {offset} closed nothing, expected {closing}")
            self._ledger.close(self._waiting.pop(), closing)


def _came_of_nothing(fact: Fact) -> bool:
    return all(fact[name] is None for name in ("command_offset", "step_offset", "update_offset"))


def _sums(number: int, rows: dict[str, StockRow], holds: list[Hold], forgotten_to: int) -> None:
    """What is reserved of a row is what its holds have, but for what its counts know of, and what was forgotten."""
    for sku, row in rows.items():
        sums: dict[str, dict[tuple[Any, ...], int]] = {}
        for hold in holds:
            for part in hold.parts if hold.sku == sku else ():
                where = f"{part.supplier_id}\x1f{part.location_id}"
                count = row.sources[where].count if where in row.sources else None
                if part.closed:
                    continue
                if part.fulfilled_at is not None and count is not None and count.at >= part.fulfilled_at:
                    continue
                kind = (hold.channel, part.committed_at or 0, part.fulfilled_at or 0)
                of_source = sums.setdefault(where, {})
                of_source[kind] = of_source.get(kind, 0) + part.quantity
        expected = {where: sorted([*kind, n] for kind, n in kinds.items()) for where, kinds in sums.items()}
        if _kept(_in_words(row), forgotten_to) != _kept(expected, forgotten_to):
            raise Wrong(f"partition {number}: of {sku} {_in_words(row)} are reserved, and its holds have {expected}")


def _name(removed: Record) -> Name:
    """Of a hold that was removed."""
    sku, _, name = (removed.key or b"").removeprefix(keys.HOLD_PREFIX).decode().partition("\0")
    return sku, name


def _kept(reserved: dict[str, list[list[Any]]], forgotten_to: int) -> dict[str, list[list[Any]]]:
    """Without what forgotten holds may have left."""
    second = -(-(forgotten_to + max(SLOW.values())) // 1_000) * 1_000
    kept = {where: [e for e in entries if e[2] == 0 or e[2] > second] for where, entries in reserved.items()}
    return {where: entries for where, entries in kept.items() if entries}


def _in_words(row: StockRow) -> dict[str, list[list[Any]]]:
    return {
        where: [[entry.channel, entry.committed_at or 0, entry.fulfilled_at or 0, entry.units] for entry in entries]
        for where, entries in row.reserved.items()
    }


def _hold_in_words(hold: Hold) -> list[Any]:
    parts = [{name: getattr(part, name) for name in part.__struct_fields__} for part in hold.parts]
    steps = [[step.fact, step.at, step.units, step.command_id] for step in hold.steps]
    unchanged = [{name: getattr(one, name) for name in one.__struct_fields__} for one in hold.unchanged]
    return [hold.state, parts, hold.created_at, hold.expires_at, steps, unchanged]


def _folded(position: Position) -> int:
    return position.offsets.get(UPDATES.name, 0)
