"""When a SKU, or one of its sources, crosses from one alert state into another: pure; row, rules and state in, out.

A state is what was told last, and is kept in the row: a crossing is told when the row says another, once. A SKU's level
is that of what can be sold of it in the default channel, with hysteresis at the lower limit; a source is oversold where
holds have more of it than it says it has; sources of one pool are as one, and told at the key that spoke for it first.
What was never looked at before gets its state in silence. docs/alerts.md has the table. Called by the worker, for rows
that may have crossed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from inventory.availability import Availability, availability
from inventory.policies import DEFAULT_CHANNEL, Policies, Rules
from inventory.pools import as_one
from schemas import alerts
from schemas.policies import CHANNEL, DEFAULT, SCORE, SKU, SUM, Policy
from schemas.rows import PackedRow, StockRow, decode_packed_row, encode

UNKNOWN, IN_STOCK, LOW, OUT_OF_STOCK = range(4)
LEVEL = 0b0011
TIMED = 0b0100
"""In a row's `alert`: a source has a limit of its own to its age, so that time alone may change the number."""
WITH_OVERSOLD = 0b1000
"""A source was told to be oversold. A row whose `alert` is `IN_STOCK` has neither, and need not be looked into."""

KINDS = {
    (IN_STOCK, LOW): alerts.LOW_STOCK,
    (LOW, IN_STOCK): alerts.LOW_STOCK_CLEARED,
    (IN_STOCK, OUT_OF_STOCK): alerts.STOCKOUT,
    (LOW, OUT_OF_STOCK): alerts.STOCKOUT,
    (OUT_OF_STOCK, IN_STOCK): alerts.BACK_IN_STOCK,
    (OUT_OF_STOCK, LOW): alerts.BACK_IN_STOCK,
}
OVERSOLD = (alerts.OVERSOLD_RISK, alerts.OVERSOLD, alerts.COVERED)
NO_LONGER_OVERSOLD = (alerts.OVERSOLD_RISK_CLEARED, alerts.COVERED, alerts.OVERSOLD)

UNITS_MAX = 1 << 62  # more than any row has


class State(NamedTuple):
    """What a row keeps, in its fields of these names."""

    alert: int = UNKNOWN
    oversold: tuple[str, ...] = ()


class Crossing(NamedTuple):
    """One alert. `source`: its key, None where it is about the SKU; `on_hand`, `held`: units of that source."""

    kind: str
    state: str
    previous: str
    available: int
    source: str | None = None
    on_hand: int | None = None
    held: int | None = None


class Sure(NamedTuple):
    """Which rows are surely in stock, if they were: nothing is reserved, and they have more than `above` on hand.

    `by_key`: the same of SKUs that have a policy of their own.
    """

    above: int
    by_key: Mapping[bytes, int]

    def holds(self, key: bytes, row: PackedRow) -> bool:
        """Whether a row, which was in stock, surely is."""
        return row.alert == IN_STOCK and not row.reserved and row.on_hand > self.by_key.get(key, self.above)


def level(available: int, rules: Rules, before: int) -> int:
    """The level of so many units, once it was `before`."""
    if available <= 0:
        return OUT_OF_STOCK
    if available <= rules.low_stock_units:
        return LOW
    if available < rules.low_stock_cleared_units and before in (LOW, OUT_OF_STOCK):
        return LOW  # it has to rise further, or each unit that comes and goes would be told
    return IN_STOCK


def evaluate(row: StockRow, rules: Rules, now_ms: int, before: State) -> tuple[State, list[Crossing]]:
    """The state of a row at a moment, and how it was crossed into from the one before.

    Args:
        row: as it is.
        rules: of its SKU, in the default channel.
        now_ms: ms since the epoch.
        before: none of the crossings is told where that is not known.
    """
    if not row.sources:
        return State(), []  # it is held, and no supplier has said a word of it yet
    answer = availability(row, rules, now_ms)
    was = before.alert & LEVEL
    now = level(answer.available, rules, was)
    short = [key for key, (on_hand, held) in _held(row, answer).items() if on_hand < held]
    oversold = tuple(sorted({_told_at(key, before.oversold, rules) for key in short}))
    timed = any(source.stale_after_ms is not None for source in row.sources.values())
    after = State(now | (TIMED if timed else 0) | (WITH_OVERSOLD if oversold else 0), oversold)
    if was == UNKNOWN:
        return after, []
    crossings = []
    if now != was:
        state, previous = (alerts.LEVELS[each - IN_STOCK] for each in (now, was))
        crossings.append(Crossing(KINDS[was, now], state, previous, answer.available))
    if oversold != before.oversold:
        one = as_one(row, rules, now_ms) if rules.pooled else None
        crossings += _of_sources(row, answer, before.oversold, oversold, {} if one is None else one.speaks)
    return after, crossings


def state_of(row: StockRow | PackedRow) -> State:
    """What a row keeps."""
    return State(row.alert, tuple(row.oversold))


def never_looked_at(row: bytes) -> bytes:
    """A row without its state: for another generation, whose rows will be folded on without anybody looking."""
    packed = decode_packed_row(row)
    if packed.alert == UNKNOWN and not packed.oversold:
        return row
    packed.alert, packed.oversold = UNKNOWN, []
    return encode(packed)


def _held(row: StockRow, answer: Availability) -> dict[str, tuple[int, int]]:
    """On hand and held, of each source of which anything is held that it does not know of."""
    parts = zip(row.sources, answer.parts, strict=True) if row.reserved else ()
    return {key: (part.number, part.reserved) for key, part in parts if part.reserved > 0}


def _told_at(key: str, told: tuple[str, ...], rules: Rules) -> str:
    """The key at which an oversold source is told: of a pool where it was before, whichever view speaks for it now."""
    pool = rules.source(key).pool if rules.pooled and key not in told else None
    return key if pool is None else next((other for other in told if rules.source(other).pool == pool), key)


def _of_sources(
    row: StockRow, answer: Availability, before: tuple[str, ...], after: tuple[str, ...], speaks: Mapping[str, str]
) -> list[Crossing]:
    """`speaks`: by a source at which it may be told, the other one of its pool whose number counts."""
    units = {key: (part.number, part.reserved) for key, part in zip(row.sources, answer.parts, strict=True)}
    crossings = []
    for key in sorted(set(before) ^ set(after)):
        on_hand, held = units.get(speaks.get(key, key), (None, 0))
        said = OVERSOLD if key in after else NO_LONGER_OVERSOLD
        crossings.append(Crossing(*said, answer.available, key, on_hand, held))
    return crossings


def sure(policies: Policies) -> Sure:
    """What is sure by these policies, without a look into any source: nothing, where a number may be less for them."""
    above = 0
    by_name: dict[str, int] = {}
    for scope, policy in policies.by_scope.items():
        kind, _, name = scope.partition(":")
        if kind == SKU:
            by_name[name] = _less_by(policy)
        elif scope in (DEFAULT, f"{CHANNEL}:{DEFAULT_CHANNEL}"):
            above += _less_by(policy)
        elif kind not in (CHANNEL, SCORE) and policy.decided():
            above = UNITS_MAX  # some sources count for less
    by_key = {name.encode(): min(above + less, UNITS_MAX) for name, less in by_name.items() if less}
    return Sure(min(above, UNITS_MAX), by_key)


def _less_by(policy: Policy) -> int:
    """Units at the most by which a policy makes less of a row, or tells of it while they are there."""
    if (
        policy.strategy not in (None, SUM)
        or policy.excluded
        or policy.reliability_percent_min
        or policy.safety_percent
        or policy.channel_share_percent is not None
        or policy.stale_after_ms is not None
    ):
        return UNITS_MAX
    return (policy.low_stock_units or 0) + (policy.safety_units or 0)


def time_matters(policies: Policies) -> bool:
    """Whether a source may become stale by a policy."""
    return any(policy.stale_after_ms is not None for policy in policies.by_scope.values())
