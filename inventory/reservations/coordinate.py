"""What becomes of a reservation of several SKUs: pure. The reservation as it is and what came in; what it is then, out.

Each line is a hold of its own, decided by the writer of its SKU's partition; the coordinator, the writer of the
reservation's partition, asks them and hears their answers. All or nothing, unless less will do: what was held is given
back if any line lacks. A line never lapses by itself, so a commit that was decided in time stands for all lines. What a
supplier ships of a line its writer tells of its own accord.
What is asked is repeated until it is answered, which has no second effect: so nothing is left held by nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from inventory.policies import Policies
from inventory.reservations.decide import (
    STEPS_MAX,
    Answer,
    Case,
    Command,
    Decision,
    LineAsked,
    decide,
    unchanged,
)
from inventory.reservations.questions import command_of
from inventory.reservations.retention import KEPT_MS_MIN
from schemas.reservations import (
    ANSWER,
    ASK_AGAIN_MS,
    BEGUN,
    CLOSED,
    COMMIT,
    COMMITTED,
    EXPIRE,
    EXPIRED,
    EXTEND,
    EXTENDED,
    FULFIL,
    FULFILLED,
    HELD,
    HOLD,
    MOVED,
    NO_SKU,
    NOTED,
    PENDING,
    REFUSED,
    RELEASE,
    RELEASED,
    SHIPPED,
    SOLD_OUT,
    TRANSFER,
    TRANSFERRED,
    UNKNOWN_SKU,
    Hold,
    Line,
    Part,
    Question,
    Step,
)

FACTS = {COMMIT: COMMITTED, FULFIL: FULFILLED, RELEASE: RELEASED, EXTEND: EXTENDED}
ALLOWED = {COMMIT: (HELD,), EXTEND: (HELD,), FULFIL: (COMMITTED,), RELEASE: (HELD, COMMITTED)}
"""The states in which each can be done; what is transferred is the line's to say."""
ENDS = {EXPIRE: EXPIRED, RELEASE: RELEASED}
"""What a line is after it was asked so, if nobody knows it any more."""


class Coordinated(NamedTuple):
    """What comes of it. `sent`: to the lines."""

    decision: Decision
    sent: list[Command]


def home(command: Mapping[str, Any]) -> str:
    """The key of a command: its SKU, or the reservation where that has several."""
    several = command["action"] == ANSWER or command["sku"] == NO_SKU
    return str(command["reservation_id"] if several else command["sku"])


def coordinate(command: Command, hold: Hold | None, now_ms: int, revision: int) -> Coordinated | None:
    """What a storefront's command comes to; None when it was decided before. `revision`: of the policies."""
    if command["action"] == HOLD:
        return _begin(command, now_ms, revision) if hold is None else None
    if hold is None or hold.has_expired(now_ms) or hold.knows(command["command_id"]):
        return None
    done = _asked_for(command, hold, now_ms) if len(hold.steps) < STEPS_MAX else None
    if done is None and not command["coordinated"]:
        return Coordinated(unchanged(command, hold, now_ms), [])
    return done


def _asked_for(command: Command, hold: Hold, now_ms: int) -> Coordinated | None:
    if command["action"] == TRANSFER:
        return _transfer(command, hold, now_ms)
    if hold.state not in ALLOWED.get(command["action"], ()):
        return None
    if command["action"] == EXTEND:
        extended = replace(hold, expires_at=now_ms + command["expires_in_ms"])
        return _done(extended, EXTENDED, now_ms, hold.held, command["command_id"])
    return _change(command, hold, now_ms)


def lapse(hold: Hold, now_ms: int) -> Coordinated | None:
    """The end of a reservation that has lapsed; None if it has not."""
    if not hold.has_expired(now_ms):
        return None
    question = Question(f"{hold.reservation_id}~lapsed", EXPIRE, now_ms)
    asked = _Lines(hold, now_ms)
    for line in hold.lines:
        if line.state in ("", HELD, COMMITTED):
            asked.ask(line.sku, question)
    ended = replace(hold, state=EXPIRED, lines=_given_back(asked), ended_at=now_ms, expires_at=None)
    return _done(ended, EXPIRED, now_ms, hold.open_units, None, asked.sent)


def hear(hold: Hold, command: Command, now_ms: int) -> Coordinated | None:
    """What a line's answer comes to; None for one that is known already."""
    answer = command["answer"]
    line = next((line for line in hold.lines if line.sku == command["sku"]), None)
    if answer is None or line is None:
        return None
    ids = [question.command_id for question in line.asked]
    if command["command_id"] not in ids:
        if command["command_id"].startswith(SHIPPED):
            return _unasked(hold, line, command, now_ms, CLOSED)
        if hold.is_open and answer["units"] and _is_transfer(command) and not hold.answers(command["command_id"]):
            return _unasked(hold, line, command, now_ms, TRANSFERRED)  # asked twice, it was refused at first
        return _left_behind(hold, line, answer, now_ms)
    if command["command_id"] != ids[0]:
        return None  # Kafka lost what was asked before it, or what came of that; all is asked again, in its order
    question, waiting = line.asked[0], line.asked[1:]
    if not answer["state"] and now_ms - hold.created_at >= KEPT_MS_MIN:  # it is forgotten, or came too late
        forgotten = replace(line, state=ENDS.get(question.action, line.state), asked=waiting)
        return _noted(_with_line(hold, forgotten), question, command, now_ms)
    if not answer["state"] or answer["steps"] < line.steps:
        return None  # what was asked before it is on its way again
    after = replace(line, steps=answer["steps"], asked=waiting)
    if not waiting:  # else what was told is older than what is on its way to it
        after = _as_told(after, answer)
        if question.action == HOLD:
            after = replace(after, held=sum(part.quantity for part in after.parts))
    heard = _settled(_with_line(hold, after), now_ms)
    if heard.state == PENDING and all(line.state for line in heard.lines):
        return _concluded(heard, now_ms)
    if question.action == TRANSFER and answer["units"]:
        return _done(heard, TRANSFERRED, now_ms, answer["units"], question.command_id)
    return _noted(heard, question, command, now_ms)


def _noted(heard: Hold, question: Question, command: Command, now_ms: int) -> Coordinated:
    """An answer that makes no step; that of a transfer that came to nothing is what its storefront is told."""
    if question.action == TRANSFER and not question.command_id.startswith(MOVED):
        return Coordinated(unchanged(command, heard, now_ms), [])
    return Coordinated(Decision(NOTED, heard, 0), [])


def _left_behind(hold: Hold, line: Line, answer: Answer, now_ms: int) -> Coordinated | None:
    """A line that has units of what is over gives them back: it was held anew, for Kafka had lost what it was told."""
    if hold.is_open or line.asked or not _as_told(line, answer).open_units:
        return None
    asked = _Lines(_with_line(hold, replace(line, steps=answer["steps"])), now_ms)
    asked.ask(line.sku, Question(f"{hold.reservation_id}~over", RELEASE, now_ms))
    return Coordinated(Decision(NOTED, replace(hold, lines=asked.lines()), 0), asked.sent)


def _unasked(hold: Hold, line: Line, command: Command, now_ms: int, fact: str) -> Coordinated | None:
    """A line tells what nobody waits for, as that units have shipped; its answer to what it was asked says the rest."""
    answer = command["answer"]
    if answer is None or not line.state or answer["steps"] <= line.steps:
        return None  # it is known, or of a line of before that this one takes the place of
    after = replace(line, steps=answer["steps"])
    heard = _settled(_with_line(hold, after if line.asked else _as_told(after, answer)), now_ms)
    if len(hold.steps) >= STEPS_MAX:
        return Coordinated(Decision(NOTED, heard, 0), [])
    return _done(heard, fact, now_ms, answer["units"], command["command_id"])


def _is_transfer(command: Command) -> bool:
    return command["to_location"] is not None or command["command_id"].startswith(MOVED)


def _as_told(line: Line, answer: Answer) -> Line:
    parts = [Part(**part) for part in answer["parts"]]
    return replace(line, state=answer["state"], reason=answer["reason"], left=answer["left"], parts=parts)


def _settled(hold: Hold, now_ms: int) -> Hold:
    """With the end that it has come to by what suppliers have shipped, if it has."""
    if any(line.asked for line in hold.lines):
        return hold
    if hold.state == RELEASED and hold.held:
        return replace(hold, state=FULFILLED)
    if hold.state not in (HELD, COMMITTED) or hold.open_units or not hold.held:
        return hold
    return replace(hold, state=FULFILLED, ended_at=now_ms, expires_at=None)


def _given_back(asked: _Lines) -> list[Line]:
    """The lines with nothing but what has left."""
    return [replace(line, parts=[part for part in line.parts if not part.is_open]) for line in asked.lines()]


def _with_line(hold: Hold, after: Line) -> Hold:
    return replace(hold, lines=[after if line.sku == after.sku else line for line in hold.lines])


def ask_again(hold: Hold, now_ms: int) -> list[Command]:
    """What lines were asked, and have not answered for too long."""
    return [
        command_of(hold, line, question)
        for line in hold.lines
        if any(question.at + ASK_AGAIN_MS <= now_ms for question in line.asked)
        for question in line.asked
    ]


def tell(command_id: str, hold: Hold) -> Command:
    """What the writer of a line tells its coordinator of its own accord: a supplier has shipped units of it."""
    question = Question(command_id, ANSWER, hold.steps[-1].at)
    return answer_to(command_of(hold, Line(hold.sku, hold.quantity), question), hold)


def answer_to(command: Command, hold: Hold | None) -> Command:
    """What the writer of a line tells its coordinator, once it has looked at a command."""
    told = hold or Hold(command["sku"], command["reservation_id"])
    return {
        **command,
        "action": ANSWER,
        "preferred_locations": [],
        "answer": {
            "state": told.state,
            "parts": [{name: getattr(part, name) for name in part.__struct_fields__} for part in told.parts],
            "reason": told.reason,
            "left": told.left,
            "steps": len(told.steps),
            "units": told.units_of(command["command_id"]),
        },
    }


def _begin(command: Command, now_ms: int, revision: int) -> Coordinated:
    command_id = f"{command['command_id']}~{now_ms}"  # not that of one that was forgotten, whose lines may be there
    asked = [
        Question(
            command_id,
            HOLD,
            now_ms,
            line["quantity"],
            line["location_id"],
            line["supplier_id"],
            command["preferred_locations"],
        )
        for line in command["lines"]
    ]
    lines = [
        Line(line["sku"], line["quantity"], command["allow_partial"], asked=[question])
        for line, question in zip(command["lines"], asked, strict=True)
    ]
    units = sum(line.quantity for line in lines)
    hold = Hold(
        NO_SKU,
        command["reservation_id"],
        PENDING,
        command["order_id"],
        command["channel"],
        units,
        command["fingerprint"],
        policy_revision=revision,
        created_at=now_ms,
        expires_at=now_ms + command["expires_in_ms"],
        lines=lines,
    )
    sent = [command_of(hold, line, question) for line, question in zip(lines, asked, strict=True)]
    return _done(hold, BEGUN, now_ms, units, command["command_id"], sent)


def _concluded(hold: Hold, now_ms: int) -> Coordinated:
    """All lines have answered for the first time."""
    lacking = [line for line in hold.lines if line.held < line.quantity and not line.allow_partial]
    if not lacking and hold.held:
        return _done(_settled(replace(hold, state=HELD), now_ms), HELD, now_ms, hold.held, None)
    question = Question(f"{hold.reservation_id}~refused", RELEASE, now_ms)
    asked = _Lines(hold, now_ms)
    for line in hold.lines:
        if line.parts:
            asked.ask(line.sku, question)
    unknown = any(line.reason == UNKNOWN_SKU for line in lacking or hold.lines)
    refused = replace(
        hold,
        state=REFUSED,
        reason=UNKNOWN_SKU if unknown else SOLD_OUT,
        lines=_given_back(asked),
        ended_at=now_ms,
        expires_at=None,
    )
    return _done(refused, REFUSED, now_ms, 0, None, asked.sent)


def _change(command: Command, hold: Hold, now_ms: int) -> Coordinated | None:
    """Of the lines that are named, or all that are open: each of them, or none."""
    asked, units = _Lines(hold, now_ms), 0
    for named in command["lines"] or _all_open(hold):
        question = Question(
            command["command_id"], command["action"], now_ms, named["quantity"], location_id=named["location_id"]
        )
        changed = asked.change(named["sku"], question)
        if changed is None:
            return None
        units += changed.units
    if not asked.sent:
        return None
    after = replace(hold, lines=asked.lines())
    if command["action"] == COMMIT:
        after = replace(after, state=COMMITTED, expires_at=None)
    elif not after.open_units:
        state = FULFILLED if after.held else RELEASED
        after = replace(after, state=state, ended_at=now_ms, expires_at=None)
    return _done(after, FACTS[command["action"]], now_ms, units, command["command_id"], asked.sent)


def _transfer(command: Command, hold: Hold, now_ms: int) -> Coordinated | None:
    """One line is asked; only its writer knows whether there is enough at the other location."""
    may = (PENDING, HELD, COMMITTED) if command["coordinated"] else (HELD, COMMITTED)  # a worker asks but once
    if hold.state not in may or len(command["lines"]) != 1:
        return None
    [named] = command["lines"]
    question = Question(
        command["command_id"],
        TRANSFER,
        now_ms,
        named["quantity"],
        location_id=named["location_id"],
        to_location=command["to_location"],
    )
    asked = _Lines(hold, now_ms)
    if not any(line.sku == named["sku"] and line.open_units for line in hold.lines):
        return None  # it may be forgotten
    asked.ask(named["sku"], question)
    return Coordinated(Decision(NOTED, replace(hold, lines=asked.lines()), 0), asked.sent)


class _Lines:
    """Lines of a reservation, while each is asked in its turn."""

    def __init__(self, hold: Hold, now_ms: int) -> None:
        self.sent: list[Command] = []
        self._hold = hold
        self._now_ms = now_ms
        self._lines = {line.sku: line for line in hold.lines}

    def lines(self) -> list[Line]:
        return list(self._lines.values())

    def ask(self, sku: str, question: Question) -> bool:
        """Whether there is such a line; it is as it was until it answers."""
        line = self._lines.get(sku)
        if line is None:
            return False
        self._lines[sku] = replace(line, asked=[*line.asked, question])
        self.sent.append(command_of(self._hold, line, question))
        return True

    def change(self, sku: str, question: Question) -> Decision | None:
        """What a line will be, but for what its supplier ships meanwhile; None: that cannot be."""
        line = self._lines.get(sku)
        if line is None or any(asked.action == TRANSFER for asked in line.asked):
            return None  # where its units are is not known at the moment
        before = Hold(line.sku, self._hold.reservation_id, line.state, parts=line.parts, coordinated=True)
        command = command_of(self._hold, line, question)
        changed = decide(command, Case(None, before, Policies(), self._now_ms))
        if changed is None or question.quantity not in (0, changed.units):
            return None
        self.ask(sku, question)
        self._lines[sku] = replace(self._lines[sku], state=changed.hold.state, parts=changed.hold.parts)
        return changed


def _all_open(hold: Hold) -> list[LineAsked]:
    return [
        LineAsked(sku=line.sku, quantity=0, location_id=None, supplier_id=None)
        for line in hold.lines
        if line.open_units
    ]


def _done(
    hold: Hold, fact: str, now_ms: int, units: int, command_id: str | None, sent: Iterable[Command] = ()
) -> Coordinated:
    steps = [*hold.steps, Step(fact, now_ms, units, command_id)]
    return Coordinated(Decision(fact, replace(hold, steps=steps), units), list(sent))
