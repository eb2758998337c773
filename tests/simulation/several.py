"""What reservations of several SKUs must be, by the facts of their coordinators; a second time, as `ledger` does it.

Each fact must be one that the command, or the answers of lines, and the reservation as it was allow. That lines and
reservations agree is looked at in the end, for only then has everything been said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.simulation.closings import units_of
from tests.simulation.facts import Command, Fact, Unlawful, has_lapsed
from tests.simulation.unchanged import is_known, keep


@dataclass
class Reservation:
    """As the facts so far tell it. `asked`: the command that it began with."""

    fact: Fact
    asked: Command
    created_at: int
    ended_at: int | None = None
    steps: list[list[Any]] = field(default_factory=list)
    unchanged: list[Fact] = field(default_factory=list)

    @property
    def state(self) -> str:
        return str(self.fact["state"])


class Several:
    """Of one partition."""

    def __init__(self) -> None:
        self.reservations: dict[str, Reservation] = {}

    def take(self, fact: Fact, command: Command | None) -> None:
        """The next fact, and the command or answer that it came of; None: of time."""
        known = self.reservations.get(fact["reservation_id"])
        if known is None:
            if command is None or command["action"] != "HOLD":
                raise Unlawful(f"{fact} is about nothing")
            self._begun(fact, command)
            known = Reservation(fact, command, fact["decided_at"])
        elif command is None:
            self._lapsed(fact, known)
        elif command["action"] == "ANSWER" or command["coordinated"]:
            self._heard(fact, command, known)
        elif fact["fact"] == "UNCHANGED":
            self._unchanged(fact, command, known)
        else:
            self._changed(fact, command, known)
        if fact["unchanged"] is not None:
            keep(known.unchanged, fact, command, (_open(fact), 0, len(known.steps)))
        if fact["fact"] not in ("NOTED", "UNCHANGED"):
            known.steps.append([fact["fact"], fact["decided_at"], fact["units"], fact["command_id"] or None])
        if known.ended_at is None and fact["state"] not in ("PENDING", "HELD", "COMMITTED"):
            known.ended_at = fact["decided_at"]
        known.fact = fact
        self.reservations[fact["reservation_id"]] = known

    def _begun(self, fact: Fact, command: Command) -> None:
        wanted: list[tuple[str, int, str, list[Any]]] = [
            (line["sku"], line["quantity"], "", []) for line in command["lines"]
        ]
        told = [(line["sku"], line["quantity"], line["state"], line["parts"]) for line in fact["lines"]]
        expected = "BEGUN", "PENDING", fact["decided_at"] + command["expires_in_ms"]
        if (fact["fact"], fact["state"], fact["expires_at"]) != expected or told != wanted or not wanted:
            raise Unlawful(f"{fact} is not how {command} begins")

    def _lapsed(self, fact: Fact, known: Reservation) -> None:
        lawful = fact["fact"] == fact["state"] == "EXPIRED" and has_lapsed(known.fact, fact["decided_at"])
        if not lawful or _open(fact) or fact["units"] != _open(known.fact) or _units(fact) != _left(known.fact):
            raise Unlawful(f"{fact} came of time, and before was {known.fact}")

    def _heard(self, fact: Fact, command: Command, known: Reservation) -> None:
        """All or nothing, unless less will do."""
        if fact["fact"] in ("NOTED", "TRANSFERRED", "CLOSED", "UNCHANGED"):
            waits = known.state == "PENDING" and all(line["state"] for line in fact["lines"])
            if fact["state"] != _settled(known.state, fact) or waits:
                raise Unlawful(f"{fact} leaves {known.fact} undecided, or changes it")
            told = command["answer"] and (command["answer"]["units"], command["command_id"])
            if fact["fact"] == "CLOSED" and (fact["units"], fact["command_id"]) != told:
                raise Unlawful(f"{fact} closes what {command} does not tell")
            self._transferred(fact, command, known)
            return
        enough = [line["held"] >= line["quantity"] or known.asked["allow_partial"] for line in fact["lines"]]
        expected = "HELD" if all(enough) and any(line["held"] for line in fact["lines"]) else "REFUSED"
        said = all(line["state"] for line in fact["lines"])
        due = [expected, _settled(expected, fact)]
        if known.state != "PENDING" or not said or [fact["fact"], fact["state"]] != due:
            raise Unlawful(f"{fact} came of answers, expected {expected}; before was {known.fact}")
        if has_lapsed(known.fact, fact["decided_at"]) or (expected == "REFUSED" and _open(fact)):
            raise Unlawful(f"{fact} came too late, or keeps what is to be given back")

    def _transferred(self, fact: Fact, command: Command, known: Reservation) -> None:
        """Each transfer that a storefront has asked for is told as done, or as refused, by its line's answer."""
        answered = _transfers(known.fact) - _transfers(fact)
        told = {fact["command_id"]} if fact["fact"] in ("TRANSFERRED", "UNCHANGED") else set()
        units = command["answer"]["units"] if command["answer"] is not None else 0
        if answered - told or (fact["fact"] == "UNCHANGED" and (answered != told or units)):
            raise Unlawful(f"{fact} came of {command}, and before was {known.fact}")

    def _unchanged(self, fact: Fact, command: Command, known: Reservation) -> None:
        """Refused, or nothing to do: it could not be done, and is told for the first time."""
        same = [fact[name] == known.fact[name] for name in ("state", "expires_at", "lines")]
        if not all(same) or not self.is_owed(command) or self.was_possible(command, fact["decided_at"]):
            raise Unlawful(f"{fact} came of {command}, and before was {known.fact}")
        if has_lapsed(known.fact, fact["decided_at"]):
            raise Unlawful(f"{fact} was decided by what had lapsed")

    def _changed(self, fact: Fact, command: Command, known: Reservation) -> None:
        if not self.was_possible(command, fact["decided_at"]):
            raise Unlawful(f"{fact} came of {command}, which could not be done to {known.fact}")
        name = {"COMMIT": "COMMITTED", "FULFIL": "FULFILLED", "RELEASE": "RELEASED", "EXTEND": "EXTENDED"}
        if fact["fact"] != name.get(command["action"], "NOTED"):
            raise Unlawful(f"{fact} came of {command}")
        before, after = _open(known.fact), _open(fact)
        taken = fact["units"] if command["action"] in ("FULFIL", "RELEASE") else 0
        if command["action"] == "FULFIL":
            taken -= sum(_told_first(line, each) for line, each in _named(known.fact, command))
        gone = fact["units"] if command["action"] == "RELEASE" else 0
        if before - after != taken or _units(known.fact) - _units(fact) != gone:
            raise Unlawful(f"{fact} leaves {after} open of {before}")
        state = {"COMMIT": "COMMITTED"}.get(command["action"], known.state)
        if command["action"] in ("FULFIL", "RELEASE") and not after:
            state = "FULFILLED" if _units(fact) else "RELEASED"
        lapses = fact["decided_at"] + command["expires_in_ms"] if command["action"] == "EXTEND" else None
        if fact["state"] != state or (lapses is not None and fact["expires_at"] != lapses):
            raise Unlawful(f"{fact} ends as {fact['state']}, expected {state}")

    def is_open(self, name: str, now_ms: int) -> bool:
        """Whether anything may still become of a reservation that is kept here."""
        known = self.reservations.get(name)
        return known is None or (known.ended_at is None and not has_lapsed(known.fact, now_ms))

    def forget(self, name: str) -> int:
        """It is gone; when it ended."""
        known = self.reservations.pop(name, None)
        if known is None or known.ended_at is None or any(line["asked"] for line in known.fact["lines"]):
            raise Unlawful(f"{name} is forgotten, and is {known}")
        return known.ended_at

    def is_owed(self, command: Command) -> bool:
        """Whether a storefront's command has to be told of."""
        known = self.reservations.get(command["reservation_id"])
        if command["action"] == "HOLD" or known is None:
            return command["action"] == "HOLD" and known is None
        return command["command_id"] not in _waiting(known.fact) and not is_known(command, known)

    def was_possible(self, command: Command, now_ms: int) -> bool:
        """Whether a storefront's command could be carried out."""
        known = self.reservations.get(command["reservation_id"])
        if command["action"] == "HOLD":
            return known is None
        if known is None or has_lapsed(known.fact, now_ms) or not self.is_owed(command):
            return False
        states = {"COMMIT": ("HELD",), "EXTEND": ("HELD",), "FULFIL": ("COMMITTED",)}
        if known.state not in states.get(command["action"], ("HELD", "COMMITTED")):
            return False
        if command["action"] == "EXTEND":
            return True
        lines = {line["sku"]: line for line in known.fact["lines"]}
        if command["action"] == "TRANSFER":
            asked = [line for each in command["lines"] if (line := lines.get(each["sku"])) is not None]
            return len(command["lines"]) == 1 and any(_line_open(line) for line in asked)
        named = _named(known.fact, command)
        return bool(named) and all(_can(line, each, command["action"]) for line, each in named)


def _waiting(fact: Fact) -> dict[str, str]:
    """The ids of what lines were asked and have not answered, each with what it asks."""
    return {question["command_id"]: question["action"] for line in fact["lines"] for question in line["asked"]}


def _transfers(fact: Fact) -> set[str]:
    """Those of transfers that a storefront asks for."""
    return {name for name, action in _waiting(fact).items() if action == "TRANSFER" and not name.startswith("moved:")}


def _settled(state: str, fact: Fact) -> str:
    """A reservation's state once its lines have told so much, by what suppliers have shipped of them."""
    if any(line["asked"] for line in fact["lines"]) or _open(fact) or not _units(fact):
        return state
    return "FULFILLED" if state in ("HELD", "COMMITTED", "RELEASED") else state


def _named(fact: Fact, command: Command) -> list[tuple[Fact | None, Fact]]:
    """The lines that a command is about, each with what is asked of it."""
    lines = {line["sku"]: line for line in fact["lines"]}
    every = [{"sku": sku, "quantity": 0, "location_id": None} for sku, line in lines.items() if _line_open(line)]
    return [(lines.get(each["sku"]), each) for each in command["lines"] or every]


def _can(line: Fact | None, asked: Fact, action: str) -> bool:
    if line is None or not _line_open(line) or any(question["action"] == "TRANSFER" for question in line["asked"]):
        return False
    there = units_of(line["parts"], asked["location_id"])
    units = there["open"] + (there["told"] if action == "FULFIL" else 0)
    return bool(0 < (asked["quantity"] or units) <= units)


def _told_first(line: Fact | None, asked: Fact) -> int:
    """Of what a shop ships of a line, what a supplier has told of already."""
    there = units_of(line["parts"] if line is not None else (), asked["location_id"])
    return min(asked["quantity"] or there["open"] + there["told"], there["told"])


def _line_open(line: Fact) -> int:
    return units_of(line["parts"])["open"]


def _open(fact: Fact) -> int:
    return sum(_line_open(line) for line in fact["lines"])


def _units(fact: Fact) -> int:
    return sum(part["quantity"] for line in fact["lines"] for part in line["parts"])


def _left(fact: Fact) -> int:
    """Units that have left."""
    return _units(fact) - _open(fact)
