"""No unit is lost and none is doubled over a whole history: by the API's answers, by the log of facts, and by the rows.

For each SKU: what is held, committed and fulfilled, and what is available, make what came into stock. No reservation is
made twice and no command carried out twice; each answer that was given is in the log, and nothing is there that
nobody asked for.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple

from api.reservations import ids
from api.reservations.routes import ACTIONS
from schemas.keys import partition_of
from schemas.reservations import COMMITTED, EXTENDED, FULFILLED, HELD, REFUSED, RELEASED, UNCHANGED, Hold
from tests.linearizability.calls import RESERVE
from tests.linearizability.history import Attempt, Look, Record, Stocked
from tests.reservations import holds_by

FIRST = (HELD, REFUSED)
FACTS = {"commit": COMMITTED, "release": RELEASED, "fulfil": FULFILLED, "extend": EXTENDED}
KEPT = 16  # refused changes of a reservation, whose repeats are told the same
Fact = Mapping[str, Any]


class Row(NamedTuple):
    """What a process tells of a SKU when all has come to rest."""

    available: int
    on_hand: int
    reserved: int


@dataclass
class Evidence:
    """What a run left behind.

    Attributes:
        records: the history.
        rows: by process, by SKU.
        reservations: as a process tells them when all has come to rest, by id; those that had ended before, as then.
        facts: of the log, in its order.
        holds: as they lie beside the rows.
        partitions: of the log.
    """

    records: list[Record]
    rows: Mapping[str, Mapping[str, Row]]
    reservations: Mapping[str, dict[str, Any]]
    facts: list[Fact]
    holds: Mapping[str, Hold]
    partitions: int


@dataclass
class Findings:
    """`units`: that came into stock; `reservations`, `facts`: that were looked at."""

    units: int = 0
    reservations: int = 0
    facts: int = 0
    problems: list[str] = field(default_factory=list)


def last_told(records: Iterable[Record]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Of each reservation what the last look told, by id; and the orders of which nothing had come until then."""
    told: dict[str, dict[str, Any]] = {}
    missing = []
    for record in records:
        if isinstance(record, Look):
            if record.told is None:
                missing.append(record.order)
            else:
                told[record.reservation] = record.told
    return told, missing


def check(evidence: Evidence) -> Findings:
    """All that is wrong with what a run left behind."""
    stock: Counter[str] = Counter()
    for record in evidence.records:
        if isinstance(record, Stocked):
            stock[record.sku] += record.units
    findings = Findings(sum(stock.values()), len(evidence.reservations), len(evidence.facts))
    findings.problems += _log(evidence)
    of_log = holds_by(evidence.facts)
    findings.problems += _numbers(evidence, stock, of_log)
    findings.problems += _alike(evidence, dict.fromkeys(stock), of_log)
    findings.problems += _answers(evidence, of_log)
    findings.problems += _asked_for(evidence)
    return findings


def _log(evidence: Evidence) -> Iterator[str]:
    """Facts are numbered without a gap; a reservation begins once; no command is carried out twice, or once refused."""
    numbers: dict[int, int] = defaultdict(int)
    begun: Counter[str] = Counter()
    carried_out: Counter[tuple[str, str]] = Counter()
    refused: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=KEPT))
    for fact in evidence.facts:
        partition = partition_of(fact["sku"].encode(), evidence.partitions)
        if fact["number"] != numbers[partition]:
            yield f"fact {fact['number']} of partition {partition} follows fact {numbers[partition] - 1}"
        numbers[partition] = fact["number"] + 1
        own_id = fact["reservation_id"]
        if fact["fact"] in FIRST:
            begun[own_id] += 1
        elif not begun[own_id]:
            yield f"{own_id} is {fact['fact']} before it was made"
        if fact["command_id"] in refused[own_id]:
            yield f"{fact['command_id']} of {own_id} is {fact['fact']}, and it was refused before"
        if fact["fact"] == UNCHANGED:
            refused[own_id].append(fact["command_id"])
        elif fact["command_id"]:
            carried_out[own_id, fact["command_id"]] += 1
    yield from (f"{own_id} was made {times} times" for own_id, times in begun.items() if times > 1)
    for (own_id, command), times in carried_out.items():
        if times > 1:
            yield f"{command} of {own_id} was carried out {times} times"


def _numbers(evidence: Evidence, stock: Mapping[str, int], of_log: Mapping[str, Hold]) -> Iterator[str]:
    """Of each SKU, at each process and by the log: what is taken and what is there make what came."""
    by_answers: Counter[str] = Counter()
    for own_id, told in evidence.reservations.items():
        by_answers[ids.sku_of(own_id) or own_id] += sum(
            line["open_quantity"] + line["fulfilled_quantity"] for line in told["lines"]
        )
    by_log: Counter[str] = Counter()
    for hold in of_log.values():
        by_log[hold.sku] += hold.held
    for sku, units in stock.items():
        for how, taken in (("its reservations", by_answers[sku]), ("the log", by_log[sku])):
            for api, rows in evidence.rows.items():
                row = rows[sku]
                left = row.on_hand - taken
                if (row.on_hand, row.reserved, row.available) != (units, taken, max(0, left)):
                    yield f"{sku}: {units} units came and {taken} are taken by {how}, and {api} says {row}"


def _alike(evidence: Evidence, skus: Mapping[str, None], of_log: Mapping[str, Hold]) -> Iterator[str]:
    """The log, the rows' holds and the API tell the same of each reservation."""
    logged = {own_id: hold for own_id, hold in of_log.items() if hold.sku in skus}
    beside_rows = {own_id: hold for own_id, hold in evidence.holds.items() if hold.sku in skus}
    for own_id in sorted(logged.keys() | beside_rows.keys()):
        if logged.get(own_id) != beside_rows.get(own_id):
            yield f"{own_id} is {logged.get(own_id)} in the log, and {beside_rows.get(own_id)} beside its row"
    told = {own_id for own_id, hold in logged.items() if hold.state != REFUSED}
    known = {own_id for own_id, said in evidence.reservations.items() if said["state"] != REFUSED}
    yield from (f"{own_id} was told, and is not in the log" for own_id in sorted(known - told))
    yield from (f"{own_id} is in the log, and no answer and no read tells it" for own_id in sorted(told - known))
    for own_id in sorted(known & told):
        hold, said = logged[own_id], evidence.reservations[own_id]
        [line] = said["lines"]
        of_api = said["state"], line["open_quantity"], line["fulfilled_quantity"]
        if of_api != (hold.state, hold.open_units, hold.held - hold.open_units):
            yield f"{own_id} is {of_api} by the API, and {hold} in the log"


def _answers(evidence: Evidence, of_log: Mapping[str, Hold]) -> Iterator[str]:
    """What a call was told to have come to is in the log."""
    for one in evidence.records:
        if not isinstance(one, Attempt) or one.told is None:
            continue
        if one.action != RESERVE:
            if one.status == HTTPStatus.OK and not _is_carried_out(one, of_log.get(one.reservation)):
                yield f"{one} was answered, and is not in the log"
            continue
        if one.status == HTTPStatus.CREATED:
            hold = of_log.get(one.told["reservation_id"])
            lines = one.told.get("lines")
            units = lines[0]["reserved_quantity"] if lines else one.told["reserved_quantity"]
            if hold is None or hold.steps[0].fact != HELD or hold.steps[0].units != units:
                yield f"{one} was answered, and in the log it is {hold}"
        elif one.told["code"] == "SOLD_OUT" and one.key:
            hold = of_log.get(ids.reservation_id(one.sku, one.key))
            if hold is None or (hold.state, hold.left) != (REFUSED, one.told["lines"][0]["left"]):
                yield f"{one} was refused, and in the log it is {hold}"


def _is_carried_out(one: Attempt, hold: Hold | None) -> bool:
    """A second commit, and a second release of all, succeed without a fact of their own."""
    if hold is None:
        return False
    if one.key and hold.answers(ids.command_id(ACTIONS[one.action], one.key)):
        return True
    facts = {step.fact for step in hold.steps}
    if not one.key:
        return FACTS[one.action] in facts
    return (one.action == "commit" and COMMITTED in facts) or (one.action == "release" and hold.state == RELEASED)


def _asked_for(evidence: Evidence) -> Iterator[str]:
    """Each fact is of a call that was made; of those without a key it is known only how many there were."""
    named: set[tuple[str, str]] = set()
    without: Counter[tuple[str, str]] = Counter()
    skus = set()
    for one in evidence.records:
        if not isinstance(one, Attempt):
            continue
        skus.add(one.sku)
        if one.action == RESERVE:
            own_id = ids.reservation_id(one.sku, one.key)
            named.add((own_id, own_id))
            without[one.sku, RESERVE] += not one.key
        else:
            named.add((one.reservation, ids.command_id(ACTIONS[one.action], one.key)))
            without[one.reservation, one.action] += not one.key
    actions = {fact: action for action, fact in FACTS.items()}
    for fact in evidence.facts:
        own_id, command = fact["reservation_id"], fact["command_id"]
        if fact["sku"] not in skus or not command or (own_id, command) in named or fact["fact"] == UNCHANGED:
            continue
        of = (fact["sku"], RESERVE) if fact["fact"] in FIRST else (own_id, actions[fact["fact"]])
        without[of] -= 1
        if without[of] < 0:
            yield f"{fact['fact']} of {own_id} is in the log, and nobody asked for it"
