"""What one API process tells of a reservation never goes back: neither behind its answers, nor behind its reads.

Another process may be some milliseconds behind, which is as documented; so reads are no part of what is linearizable,
and each process is looked at by itself, whether it was restarted meanwhile or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.reservations import COMMITTED, HELD
from tests.linearizability.history import Attempt, Look, Read, Record

STAGES = {HELD: 0, COMMITTED: 1}
ENDED = 2


class Progress(NamedTuple):
    """How far a reservation has come; each number only grows."""

    stage: int
    given: int
    left: int


class Seen(NamedTuple):
    """What a process told of a reservation. `steps`: if it told the history."""

    called: int
    returned: int
    progress: Progress
    steps: tuple[tuple[str, int], ...] | None


@dataclass
class Findings:
    """`reads`: that were looked at, of them `behind`: those that lay behind what another process had told before."""

    reads: int = 0
    behind: int = 0
    problems: list[str] = field(default_factory=list)


def check(records: Iterable[Record]) -> Findings:
    """All of a history."""
    findings = Findings()
    seen: dict[str, dict[str, list[Seen]]] = {}
    for record in records:
        if (one := _told(record)) is not None:
            reservation, api, what = one
            seen.setdefault(reservation, {}).setdefault(api, []).append(what)
    for reservation, by_api in seen.items():
        longest = max((what.steps or () for told in by_api.values() for what in told), key=len)
        for api, told in by_api.items():
            others = [what for other, those in by_api.items() if other != api for what in those]
            _check_process(f"{reservation} at {api}", told, findings)
            for what in told:
                if what.steps is None:
                    continue
                findings.reads += 1
                findings.behind += any(_is_behind(what, before) for before in others)
                if what.steps != longest[: len(what.steps)]:
                    findings.problems.append(f"{reservation} at {api} had {what.steps}, and in the end {longest}")
    return findings


def _check_process(what: str, told: Sequence[Seen], findings: Findings) -> None:
    """Nothing is behind what was told before it was asked."""
    ended = sorted(told, key=lambda one: one.returned)
    begun = sorted(told, key=lambda one: one.called)
    place, floor, steps = 0, Progress(0, 0, 0), 0
    for one in begun:
        while place < len(ended) and ended[place].returned < one.called:
            before = ended[place]
            floor = Progress(*map(max, floor, before.progress))
            steps = max(steps, len(before.steps or ()))
            place += 1
        if any(now < then for now, then in zip(one.progress, floor, strict=True)):
            findings.problems.append(f"{what} was {floor}, and then {one.progress}")
        if one.steps is not None and len(one.steps) < steps:
            findings.problems.append(f"{what} had {steps} steps, and then {one.steps}")


def _is_behind(one: Seen, before: Seen) -> bool:
    return before.returned < one.called and any(
        now < then for now, then in zip(one.progress, before.progress, strict=True)
    )


def _told(record: Record) -> tuple[str, str, Seen] | None:
    match record:
        case Attempt(status=200 | 201, told=dict() as told) if "state" in told:
            return told["reservation_id"], record.api, Seen(record.called, record.returned, _progress(told), None)
        case Read(told=told):
            return record.reservation, record.api, _read(record.called, record.returned, told)
        case Look(told=dict() as told):
            return record.reservation, record.api, _read(record.asked, record.returned, told)
        case _:
            return None


def _read(called: int, returned: int, told: dict[str, Any]) -> Seen:
    steps = tuple((step["fact"], step["units"]) for step in told["history"])
    return Seen(called, returned, _progress(told), steps)


def _progress(told: dict[str, Any]) -> Progress:
    [line] = told["lines"]
    gone = line["reserved_quantity"] - line["open_quantity"]
    return Progress(STAGES.get(told["state"], ENDED), gone, line["fulfilled_quantity"])
