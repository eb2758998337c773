"""The order in which the log of facts has the decisions, for the checker to try first. It believes nothing of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from api.reservations import ids
from api.reservations.routes import ACTIONS
from schemas.reservations import EXPIRED, UNCHANGED
from tests.linearizability.calls import RESERVE
from tests.linearizability.conservation import FACTS, FIRST, Fact
from tests.linearizability.history import Attempt, Decided, Record

EXPIRE = "expire"
ACTION_OF = {fact: action for action, fact in FACTS.items()} | {EXPIRED: EXPIRE}
Named = dict[tuple[str, str], Attempt]


def order(facts: Iterable[Fact], records: Iterable[Record]) -> Iterator[Decided]:
    """Each fact as what was asked, or as what came of time; what nothing names is left out."""
    named, unnamed = _asked(records)
    skus = {one.sku for one in (*named.values(), *unnamed.values())}
    for fact in facts:
        if fact["fact"] == UNCHANGED:
            continue
        own_id, command = fact["reservation_id"], fact["command_id"]
        action = RESERVE if fact["fact"] in FIRST else ACTION_OF[fact["fact"]]
        asked = named.get((own_id, command)) or unnamed.get((own_id, action))
        if fact["sku"] not in skus or (asked is None and action not in (RESERVE, EXPIRE)):
            continue
        yield Decided(
            sku=fact["sku"],
            action=action,
            order=fact["order_id"] or "",
            reservation=own_id,
            key="" if asked is None else asked.key,
            call=0 if asked is None else asked.call,
            wall_ms=fact["decided_at"],
        )


def _asked(records: Iterable[Record]) -> tuple[Named, Named]:
    """Changes, by reservation and command; and those without a key, by reservation and action, if there is but one."""
    named: Named = {}
    unnamed: Named = {}
    times: Counter[tuple[str, str]] = Counter()
    for one in records:
        if not isinstance(one, Attempt) or one.action == RESERVE:
            continue
        if one.key:
            named[one.reservation, ids.command_id(ACTIONS[one.action], one.key)] = one
        else:
            unnamed[one.reservation, one.action] = one
            times[one.reservation, one.action] += 1
    return named, {what: one for what, one in unnamed.items() if times[what] == 1}
