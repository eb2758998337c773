"""What reservations must be, worked out a second time: from the facts in the log and the auditor's rows.

Shares no code with `inventory/` and `streams/`. Each fact must be one that the command, the hold as it was and the
stock as it was allow, and no other was possible; what is reserved of a row is the sum of what its holds have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.simulation.asking import Asked
from tests.simulation.auditor import Row
from tests.simulation.closings import Closing, Closings, Hold, Name, units_of, where
from tests.simulation.facts import Fact, Unlawful, has_lapsed
from tests.simulation.lines import Line, at_their_time, fits, is_open, is_target, open_more
from tests.simulation.pools import Pools, Stock, Taken
from tests.simulation.several import Several
from tests.simulation.unchanged import is_known, keep

LATE_MS = 43_200_000  # a line is held within half a day, or not at all


class Ledger:
    """Of one partition. `pools`: that policies declare; `held_of_pools`: how often a hold was given by one."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self.held_of_pools = 0
        self.lines: dict[Name, Line] = {}
        self.several = Several()
        self._former: list[Line] = []  # forgotten, but for what rows have of them
        self._clock = 0
        self._done: set[tuple[str, int]] = set()
        self._closings = Closings()

    def take(self, fact: Fact, asked: Asked | None, row: Row | None) -> None:
        """The next fact.

        Args:
            fact: decoded.
            asked: the command that it names.
            row: of its SKU, by which it was decided; its version is not known, so that `if_version` is believed.
        """
        if fact["decided_at"] < self._clock:
            raise Unlawful(f"the decision clock went back with {fact}")
        self._clock = fact["decided_at"]
        command = self._command(fact, asked)
        if not fact["sku"]:
            self.several.take(fact, command)
            return
        name = fact["sku"], fact["reservation_id"]
        line = self.lines.get(name)
        if command is not None and command["action"] == "HOLD":
            self._held(fact, command, line, row)
            self._closings.begun(name)
            line = Line(fact, fact["decided_at"])
        elif line is None:
            raise Unlawful(f"{fact} is about nothing")
        elif fact["fact"] == "UNCHANGED":
            self._unchanged(fact, command, line, row)
            line.fact = fact
            return
        else:
            self._changed(fact, command, line, row)
        line.fact = fact
        line.note_end()
        line.steps.append([fact["fact"], fact["decided_at"], fact["units"], fact["command_id"] or None])
        self.lines[name] = line

    def _command(self, fact: Fact, asked: Asked | None) -> dict[str, Any] | None:
        place = ("steps", fact["step_offset"]) if fact["command_offset"] is None else ("asked", fact["command_offset"])
        if fact["update_offset"] is not None:
            raise Unlawful(f"{fact} names an update that closed nothing")
        if place[1] is None:
            if fact["fact"] != "TRANSFERRED" and (fact["fact"] != "EXPIRED" or fact["command_id"]):
                raise Unlawful(f"{fact} came of no command")
            return None
        command = None if asked is None else asked.command
        if command is None or place in self._done:
            raise Unlawful(f"{fact} answers no command, or one that is answered")
        self._done.add(place)
        if command["action"] == "ANSWER":
            return command
        names = ("command_id", "reservation_id", "sku") if fact["command_id"] else ("reservation_id", "sku")
        if [fact[name] for name in names] != [command[name] for name in names]:
            raise Unlawful(f"{fact} answers another command: {command}")
        return command

    def _held(self, fact: Fact, command: dict[str, Any], line: Line | None, row: Row | None) -> None:
        if line is not None:
            if not _is_former(line, command):
                raise Unlawful(f"{fact}: it was decided before, {line.fact}")
            self._former.append(self.lines.pop((fact["sku"], fact["reservation_id"])))  # what is held of it counts once
        if _is_late(command, fact["decided_at"]):
            raise Unlawful(f"{fact} is the line of what is over since long")
        lapsed = [n for n, each in self.lines.items() if n[0] == fact["sku"] and has_lapsed(each.fact, self._clock)]
        if lapsed:
            raise Unlawful(f"{fact} was decided beside {lapsed}, which had lapsed")
        free = {} if row is None else _free(self._stocks(row, fact["sku"], fact["decided_at"]))
        fits = {
            source: units
            for source, units in free.items()
            if command["supplier_id"] in (None, source.split("\x1f")[0])
            and command["location_id"] in (None, source.split("\x1f")[1])
        }
        left = sum(fits.values())
        taken = sum(part["quantity"] for part in fact["parts"])
        wanted = min(left, command["quantity"]) if command["allow_partial"] else command["quantity"]
        if fact["fact"] == "REFUSED":
            lawful = {None: False, "UNKNOWN_SKU": row is None, "SOLD_OUT": row is not None and not 0 < wanted <= left}
            if not lawful.get(fact["reason"], command["if_version"] is not None) or taken or fact["left"] != left:
                raise Unlawful(f"{fact} was refused, and {left} were left of {free}")
            return
        if fact["fact"] != "HELD" or taken != wanted or not 0 < taken <= left or fact["left"] != left:
            raise Unlawful(f"{fact} holds {taken}, and {wanted} were wanted of {left} that were left of {free}")
        for part in fact["parts"]:
            if part["quantity"] > fits.get(where(part), 0):
                raise Unlawful(f"{fact} takes more of {where(part)!r} than {fits} have")
        self.held_of_pools += any(self._pools.of(where(part)) is not None for part in fact["parts"])
        if any(fact[name] != command[name] for name in ("supplier_id", "location_id", "preferred_locations")):
            raise Unlawful(f"{fact} forgets what it has to come from: {command}")
        lapses = None if command["coordinated"] else fact["decided_at"] + command["expires_in_ms"]
        if fact["expires_at"] != lapses:
            raise Unlawful(f"{fact} lapses at another time than was asked for")

    def _changed(self, fact: Fact, command: dict[str, Any] | None, line: Line, row: Row | None) -> None:
        was, now = line.state, fact["decided_at"]
        lapsed = has_lapsed(line.fact, now)
        action = "EXPIRE" if command is None else command["action"]
        told_so = command is not None and command["coordinated"] and was in ("HELD", "COMMITTED")
        if fact["coordinated"] != (command is not None and command["coordinated"]):
            raise Unlawful(f"{fact} is a line's, or is not, and came of {command}")
        if fact["command_id"].startswith("moved:"):
            self._moved(fact, line, row)
            return
        if action == "TRANSFER":
            self._transferred(fact, command or {}, line, row)
            return
        allowed = {
            "EXPIRE": ("EXPIRED", lapsed or told_so),
            "COMMIT": ("COMMITTED", was == "HELD" and not lapsed),
            "EXTEND": ("EXTENDED", was == "HELD" and not lapsed),
            "FULFIL": ("FULFILLED", was == "COMMITTED"),
            "RELEASE": ("RELEASED", was in ("HELD", "COMMITTED") and not lapsed),
        }
        name, lawful = allowed[action]
        if fact["fact"] != name or not lawful:
            raise Unlawful(f"{fact} came of {action} of what was {line.fact}")
        before, after, units = units_of(line.parts), units_of(fact["parts"]), fact["units"]
        expected = before.copy()
        if name in ("EXPIRED", "RELEASED"):
            expected["open"] -= units
        elif name == "FULFILLED" and command is not None:  # what a supplier told of has left already, and comes first
            both = min(units, units_of(line.parts, command["location_id"])["told"])
            expected.update({"told": -both, "both": both, "fulfilled": units - both})
            expected["open"] -= units - both
        if after != expected or units <= 0 or (name == "EXPIRED" and after["open"]):
            raise Unlawful(f"{fact} leaves {after} of {before}, expected {expected}")
        sources = {} if row is None else row["sources"]
        at_their_time(fact, line, name, lambda source: self._pools.slow_ms(source, sources))
        ended = {"EXPIRED": "EXPIRED", "COMMITTED": "COMMITTED", "EXTENDED": "HELD"}.get(name)
        if ended is None:
            ended = was if after["open"] else ("RELEASED" if not fact["parts"] else "FULFILLED")
        if fact["state"] != ended:
            raise Unlawful(f"{fact} ends as {fact['state']}, expected {ended}")

    def _unchanged(self, fact: Fact, command: dict[str, Any] | None, line: Line, row: Row | None) -> None:
        """Refused, or nothing to do: it could not be done, is told for the first time, and leaves all as it was."""
        same = [fact[name] == line.fact[name] for name in ("state", "parts", "expires_at", "coordinated")]
        if command is None or not _is_kept(command) or not all(same) or not self.is_owed(command, self._clock, row):
            raise Unlawful(f"{fact} came of {command}, and before was {line.fact}, with {line.unchanged}")
        if has_lapsed(line.fact, self._clock) or self.was_possible(command, self._clock, row):
            raise Unlawful(f"{fact} came of {command}, which could be done to {line.fact}")
        open_units, there = units_of(line.parts)["open"], units_of(line.parts, command["location_id"])
        units = {"FULFIL": there["open"] + there["told"], "RELEASE": there["open"]}.get(command["action"], 0)
        keep(line.unchanged, fact, command, (open_units, units, len(line.steps)))

    def closings(self, update: dict[str, Any], now_ms: int) -> list[Closing]:
        """What an accepted change that ships for an order must do."""
        return self._closings.due(
            update,
            [
                Hold(name, line.state, line.parts)
                for name, line in sorted(self.lines.items())
                if (line.fact["order_id"], line.fact["sku"]) == (update["order_ref"], update["sku"])
                and not has_lapsed(line.fact, now_ms)
            ],
        )

    def close(self, fact: Fact, expected: Closing) -> None:
        """The fact of a closing."""
        why = self._closings.wrong(fact, expected)
        if why is not None or fact["decided_at"] < self._clock:
            raise Unlawful(f"{fact}, {why}")
        self._clock = fact["decided_at"]
        line = self.lines[expected.name]
        line.fact = fact
        line.note_end()
        line.steps.append(["CLOSED", fact["decided_at"], fact["units"], fact["command_id"]])

    def _transferred(self, fact: Fact, command: dict[str, Any], line: Line, row: Row | None) -> None:
        now, to, units = fact["decided_at"], command["to_location"], fact["units"]
        if line.state not in ("HELD", "COMMITTED") or has_lapsed(line.fact, now) or fact["state"] != line.state:
            raise Unlawful(f"{fact} was transferred of what was {line.fact}")
        movable, free = self._movable(command, line), self._free_there(command, line, row, now)
        if fact["fact"] != "TRANSFERRED" or not 0 < units <= min(movable, free):
            raise Unlawful(f"{fact} moves {units} of {movable}, and {free} were free at {to}")
        if units != (command["quantity"] or movable):
            raise Unlawful(f"{fact} moves {units}, and {command} asks for others")
        left = dict.fromkeys((True, False), 0)
        for source, more in open_more(line, fact).items():
            left[is_target(command, source)] += more
        if left != {True: units, False: -units}:
            raise Unlawful(f"{fact} has moved {left}")

    def _moved(self, fact: Fact, line: Line, row: Row | None) -> None:
        """By a worker, out of a source that has less than is held of it."""
        told = [step[3] for step in line.steps]
        is_due = fact["coordinated"] or fact["command_id"] == f"moved:{fact['sku']}:{len(line.steps)}"
        if (fact["fact"], fact["state"]) != ("TRANSFERRED", line.state) or not is_due or fact["command_id"] in told:
            raise Unlawful(f"{fact} was moved by nobody, or before: {told}")
        if line.state not in ("HELD", "COMMITTED") or has_lapsed(line.fact, fact["decided_at"]) or row is None:
            raise Unlawful(f"{fact} was moved of what was {line.fact}")
        more, units = open_more(line, fact), fact["units"]
        come = {source: n for source, n in more.items() if n > 0}
        left = Counter[str]()
        for source, n in more.items():
            left[self._pools.stock_of(source)] -= min(n, 0)
        left = +left
        if units <= 0 or list(left.values()) != [units] or sum(come.values()) != units:
            raise Unlawful(f"{fact} has moved {more}")
        stocks = self._stocks(row, fact["sku"], fact["decided_at"])
        lacks, free = _lacking(stocks), _free(stocks)
        may = all(n <= free.get(source, 0) and fits(fact, source) for source, n in come.items())
        if not may or any(n > lacks.get(stock, 0) for stock, n in left.items()):
            raise Unlawful(f"{fact} has moved {more}, and {lacks} are lacking, {free} are free")

    def movable(self, row: Row, sku: str, now_ms: int) -> list[Fact]:
        """The lines of which something can be moved out of a source that lacks it."""
        stocks = self._stocks(row, sku, now_ms)
        lacks, free = _lacking(stocks), _free(stocks)
        return [
            line.fact
            for (of, name), line in self.lines.items()
            if of == sku
            and line.state in ("HELD", "COMMITTED")
            and not has_lapsed(line.fact, now_ms)
            and (not line.fact["coordinated"] or self.several.is_open(name, now_ms))
            and any(is_open(part) and self._pools.stock_of(where(part)) in lacks for part in line.parts)
            and any(units > 0 and fits(line.fact, source) for source, units in free.items())
        ]

    def _movable(self, command: dict[str, Any], line: Line) -> int:
        return sum(part["quantity"] for part in line.parts if _leaves(command, part))

    def _free_there(self, command: dict[str, Any], line: Line, row: Row | None, now_ms: int) -> int:
        """Units that a transfer may have; what it moves is given back first, which matters within a pool."""
        if row is None:
            return 0
        left, rest = command["quantity"] or self._movable(command, line), []
        for part in line.parts:
            units = min(left, part["quantity"]) if _leaves(command, part) else 0
            left -= units
            rest.append(part | {"quantity": part["quantity"] - units})
        free = _free(self._stocks(row, command["sku"], now_ms, (line, rest)))
        return sum(units for source, units in free.items() if is_target(command, source))

    def forget(self, name: Name, now_ms: int, retention_ms: int) -> int:
        """A hold is gone, by a transaction of that time of the decision clock; when it ended."""
        if not name[0]:
            ended_at = self.several.forget(name[1])
        else:
            line = self.lines.pop(name, None)
            if line is None or line.state in ("HELD", "COMMITTED"):
                raise Unlawful(f"{name} is forgotten, and is {line}")
            ended_at = line.ended_at or 0
            self._former.append(line)
        if ended_at > now_ms - retention_ms:
            raise Unlawful(f"{name} is forgotten at {now_ms}, and is kept for {retention_ms} ms after {ended_at}")
        return ended_at

    def is_owed(self, command: dict[str, Any], now_ms: int, row: Row | None) -> bool:
        """Whether a command that left no fact should have left one."""
        if not _is_kept(command):
            return self.was_possible(command, now_ms, row)
        if not command["sku"]:
            return self.several.is_owed(command)
        line = self.lines.get((command["sku"], command["reservation_id"]))
        return line is not None and line.fact["coordinated"] == command["coordinated"] and not is_known(command, line)

    def was_possible(self, command: dict[str, Any], now_ms: int, row: Row | None) -> bool:
        """Whether a command could be carried out."""
        if command["action"] == "ANSWER" or (command["coordinated"] and not command["sku"]):
            return False  # what is known by it, or asked of lines, is looked at in the end
        if not command["sku"]:
            return self.several.was_possible(command, now_ms)
        line = self.lines.get((command["sku"], command["reservation_id"]))
        if command["action"] == "HOLD":
            return (line is None or _is_former(line, command)) and not _is_late(command, now_ms)
        if line is None or is_known(command, line):
            return False
        if has_lapsed(line.fact, now_ms) or line.fact["coordinated"] != command["coordinated"]:
            return False
        if command["action"] == "TRANSFER":
            if command["command_id"].startswith("moved:"):
                return row is not None and line.fact in self.movable(row, command["sku"], now_ms)
            units, movable = command["quantity"], self._movable(command, line)
            enough = 0 < (units or movable) <= min(movable, self._free_there(command, line, row, now_ms))
            return line.state in ("HELD", "COMMITTED") and enough
        if command["action"] == "EXPIRE":
            return line.state in ("HELD", "COMMITTED")
        if command["action"] in ("COMMIT", "EXTEND"):
            return line.state == "HELD"
        there = units_of(line.parts, command["location_id"])
        units = there["open"] + (there["told"] if command["action"] == "FULFIL" else 0)
        states = ("COMMITTED",) if command["action"] == "FULFIL" else ("HELD", "COMMITTED")
        return line.state in states and 0 < (command["quantity"] or units) <= units

    def _stocks(
        self, row: Row, sku: str, now_ms: int, instead: tuple[Line, list[dict[str, Any]]] | None = None
    ) -> dict[str, Stock]:
        """What a row's stocks have; `instead`: a line, and the parts that it is to have."""
        of, parts = instead or (None, [])
        taken: list[Taken] = [
            (where(part), part["quantity"], part["committed_at"], part["fulfilled_at"])
            for line in self._ever()
            if line.fact["sku"] == sku
            for part in (parts if line is of else line.fact["parts"])
            if not part["closed"]
        ]
        return self._pools.stocks(row["sources"], taken, now_ms)

    def _ever(self) -> Iterator[Line]:
        yield from self._former
        yield from self.lines.values()

    def reserved(self, sku: str, row: Row) -> dict[str, list[list[Any]]]:
        """What is reserved of a row that is as given."""
        sums: dict[str, dict[tuple[Any, ...], int]] = {}
        for line in self._ever():
            for part in line.parts if line.fact["sku"] == sku else ():
                source, gone = where(part), part["fulfilled_at"]
                if part["closed"]:
                    continue
                count = row["sources"].get(source, {"count": None})["count"]
                if gone is not None and count is not None and count[2] >= gone:
                    continue  # whatever count comes, it is later, and knows
                of_source = sums.setdefault(source, {})
                kind = (line.fact["channel"], part["committed_at"] or 0, gone or 0)
                of_source[kind] = of_source.get(kind, 0) + part["quantity"]
        return {source: sorted([*kind, n] for kind, n in kinds.items()) for source, kinds in sums.items()}


def _is_kept(command: dict[str, Any]) -> bool:
    """Whether what is refused of it is told: a storefront's change, of a line only a transfer."""
    if command["coordinated"]:
        return command["action"] == "TRANSFER" and not command["command_id"].startswith("moved:")
    return command["action"] not in ("HOLD", "ANSWER")


def _is_former(line: Line, command: dict[str, Any]) -> bool:
    """Whether a line is of a reservation that was forgotten before it, and is held anew."""
    told = command["command_id"] in [step[3] for step in line.steps]
    return bool(command["coordinated"]) and line.state not in ("HELD", "COMMITTED") and not told


def _is_late(command: dict[str, Any], now_ms: int) -> bool:
    return bool(command["coordinated"]) and now_ms - command["received_at"] >= LATE_MS


def _leaves(command: dict[str, Any], part: dict[str, Any]) -> bool:
    """Whether a transfer may take units of a part."""
    there = command["location_id"] in (None, part["location_id"])
    return is_open(part) and there and not is_target(command, where(part))


def _free(stocks: dict[str, Stock]) -> dict[str, int]:
    """Units that can be held, by the source that gives them."""
    return {stock.speaks: stock.free for stock in stocks.values()}


def _lacking(stocks: dict[str, Stock]) -> dict[str, int]:
    """Units that are held of a stock beyond what it has."""
    return {name: stock.lacks for name, stock in stocks.items() if stock.lacks > 0}
