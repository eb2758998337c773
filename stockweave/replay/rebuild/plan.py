"""What a rebuild was asked for, and whether the candidate that is there was begun the same way.

Pure, but for reading our own source. Invariant: a candidate is made by one plan and
by one set of rules, however often it is stopped and gone on with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import inventory
import inventory.reservations
import schemas
import streams
from schemas.generations import FACTS, PREVIOUS, Generations, Plan
from stockweave.errors import Fatal
from stockweave.settings import Settings

RULES = (
    (inventory, ("*",)),
    (inventory.reservations, ("facts", "reserved")),
    (schemas, ("codec", "columns", "keys", "reservations", "rows", "zigzag")),
    (streams, ("batch",)),
)
"""The source that decides what a row becomes of its updates and facts."""


@dataclass(frozen=True)
class Wanted:
    """What the command was given; `begin` and `partitions` are None where it was silent."""

    begin: str | None = None
    partitions: tuple[int, ...] | None = None


def parse_partitions(text: str) -> tuple[int, ...]:
    """`0,2-3` as (0, 2, 3).

    Raises:
        Fatal: it is nothing of the kind.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise Fatal(f"--partitions is {text!r}: give numbers and ranges, as in 0,2-3")
        found.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


def check_partitions(partitions: Sequence[int] | None, count: int) -> None:
    """Refuse partitions that there are not.

    Raises:
        Fatal: naming the first.
    """
    for number in partitions or ():
        if number >= count:
            raise Fatal(f"--partitions names {number}, and there are {count}, from 0 to {count - 1}")


def rules_digest(settings: Settings) -> str:
    """Of everything that decides what a row becomes of its updates: our own source, and the limits."""
    digest = hashlib.blake2b(digest_size=8)
    for package, modules in RULES:
        for module in modules:
            for path in sorted(Path(package.__path__[0]).glob(f"{module}.py")):
                digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(f"{settings.horizon_ms} {settings.entries_max}".encode())
    return digest.hexdigest()


def new_plan(wanted: Wanted, rules: str) -> Plan:
    """The plan of a candidate that is begun now."""
    return Plan(wanted.begin or FACTS, wanted.partitions, rules)


def going_on(generations: Generations, wanted: Wanted, rules: str) -> Plan:
    """The plan of the candidate that is there, which is what was asked for.

    Raises:
        Fatal: something else was asked for, or the rules are others by now.
    """
    candidate, plan = generations.candidate, generations.plan
    number = 0 if candidate is None else candidate.number
    otherwise = "or give it up and begin anew with --restart"
    if plan is None:
        raise Fatal(f"the record does not say how generation {number} was begun; begin anew with --restart")
    if (wanted.begin == PREVIOUS) != (plan.begin == PREVIOUS):
        under_way = "a way back" if plan.begin == PREVIOUS else "a rebuild"
        option = "with --back" if plan.begin == PREVIOUS else "without --back"
        raise Fatal(f"{under_way} is under way as generation {number}: go on with it {option}, {otherwise}")
    if wanted.begin not in (None, plan.begin):
        began = "from the first update" if plan.begin == FACTS else f"from {plan.begin}"
        raise Fatal(f"generation {number} was begun {began}: go on without --from, {otherwise}")
    if wanted.partitions not in (None, plan.partitions):
        given = "all partitions" if plan.partitions is None else "partitions " + ",".join(map(str, plan.partitions))
        raise Fatal(f"generation {number} was begun for {given}: go on without --partitions, {otherwise}")
    if plan.rules != rules:
        raise Fatal(
            f"the rules are not those that generation {number} was begun with (code, or STOCKWEAVE_HORIZON_MS and "
            "STOCKWEAVE_ENTRIES_MAX), and its rows would be of both; begin anew with --restart"
        )
    return plan
