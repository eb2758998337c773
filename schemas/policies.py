"""Policies: what a shop decides about its numbers, by scope. One record of inventory.policies each, key: the scope.

A scope is `default`, or `sku:`, `channel:`, `supplier:` or `location:` and an id. A field that is None is not decided
in that scope; which scope decides then is `inventory.policies`' to say. A policy is never deleted: one that decides
nothing takes its place, so that versions go on and the history stays whole. `score:` and a supplier's id is no
decision, but what decisions go by: how far the supplier can be relied on, as it was recorded. It has a scope of its
own, so that who decides about a supplier and what records its score do not overwrite each other.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.keys import id_problem
from stockweave.errors import Rejected

DEFAULT = "default"
SKU, CHANNEL, SUPPLIER, LOCATION, SCORE = KINDS = ("sku", "channel", "supplier", "location", "score")
SUM, PRIORITY, MIN, MAX = STRATEGIES = ("SUM", "PRIORITY", "MIN", "MAX")

UNITS_MAX = 10**12
ENTRIES_MAX = 1_000  # of a list
STALE_MS_MAX = 10 * 366 * 86_400_000
NETTING_DELAY_MS_MAX = 7 * 86_400_000


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one scope decides; the fields are those of schemas/avro/Policy.5.avsc. Units whole, times in ms."""

    scope: str
    version: int = 0
    changed_at: int = 0
    strategy: str | None = None
    priority: tuple[str, ...] | None = None
    excluded: tuple[str, ...] | None = None
    enabled: bool | None = None
    safety_units: int | None = None
    safety_percent: int | None = None
    channel_share_percent: int | None = None
    backorder_units_max: int | None = None
    stale_after_ms: int | None = None
    stale_floor_units: int | None = None
    netting_delay_ms: int | None = None
    low_stock_units: int | None = None
    low_stock_cleared_units: int | None = None
    pool: str | None = None
    priority_by_reliability: bool | None = None
    reliability_percent_min: int | None = None
    reliability_percent: int | None = None

    def decided(self) -> dict[str, Any]:
        """The fields that this scope decides."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}

    def decides_of_sources(self) -> bool:
        """Whether any of its decisions is about single sources."""
        of_sources = self.excluded, self.reliability_percent_min, self.stale_after_ms, self.stale_floor_units
        return any(decided is not None for decided in (*of_sources, self.netting_delay_ms))


_OF_A_NUMBER = (DEFAULT, SKU, CHANNEL)
_OF_A_SOURCE = (DEFAULT, SKU, SUPPLIER, LOCATION)
FIELDS: dict[str, tuple[str, ...]] = {
    "strategy": _OF_A_NUMBER,
    "priority": _OF_A_NUMBER,
    "excluded": _OF_A_NUMBER,
    "enabled": (SUPPLIER, LOCATION),
    "safety_units": (DEFAULT, SKU, CHANNEL, SUPPLIER, LOCATION),
    "safety_percent": (DEFAULT, SKU, CHANNEL, SUPPLIER, LOCATION),
    "channel_share_percent": (CHANNEL,),
    "backorder_units_max": _OF_A_NUMBER,
    "stale_after_ms": _OF_A_SOURCE,
    "stale_floor_units": _OF_A_SOURCE,
    "netting_delay_ms": _OF_A_SOURCE,
    "low_stock_units": (DEFAULT, SKU),
    "low_stock_cleared_units": (DEFAULT, SKU),
    "pool": (SUPPLIER, LOCATION),
    "priority_by_reliability": _OF_A_NUMBER,
    "reliability_percent_min": _OF_A_NUMBER,
    "reliability_percent": (SCORE,),
}
"""The kinds of scope that each field can be decided in."""

LISTS = ("priority", "excluded")
NAMES = ("pool",)
FLAGS = ("enabled", "priority_by_reliability")
_RANGES = {
    "safety_units": (0, UNITS_MAX),
    "safety_percent": (0, 100),
    "channel_share_percent": (0, 100),
    "backorder_units_max": (0, UNITS_MAX),
    "stale_after_ms": (1, STALE_MS_MAX),
    "stale_floor_units": (0, UNITS_MAX),
    "netting_delay_ms": (0, NETTING_DELAY_MS_MAX),
    "low_stock_units": (0, UNITS_MAX),
    "low_stock_cleared_units": (1, UNITS_MAX + 1),
    "reliability_percent_min": (0, 100),
    "reliability_percent": (0, 100),
}


def kind_of(scope: str) -> str:
    """`default`, or what stands before the colon.

    Raises:
        Rejected: it is no scope.
    """
    kind, colon, name = scope.partition(":")
    if scope == DEFAULT:
        return DEFAULT
    if not colon or kind not in KINDS:
        raise Rejected(
            "invalid_policy",
            f"scope is {scope!r}; name `default`, or sku:, channel:, supplier:, location: or score: and an id",
            "scope",
        )
    if problem := id_problem(name):
        raise Rejected("invalid_policy", f"the id in scope {scope!r} {problem}", "scope")
    return kind


def check(policy: Policy) -> None:
    """See that a policy can be used.

    Raises:
        Rejected: it cannot; `field` names what is wrong.
    """
    kind = kind_of(policy.scope)
    for name, value in policy.decided().items():
        if kind not in FIELDS[name]:
            of = " and ".join([", ".join(FIELDS[name][:-1]), FIELDS[name][-1]]) if FIELDS[name][1:] else FIELDS[name][0]
            raise _wrong(policy, name, f"is not decided by {kind} policies, but by those of {of}")
        if name in _RANGES:
            least, most = _RANGES[name]
            if not least <= value <= most:
                raise _wrong(policy, name, f"is {value}; send a whole number from {least} to {most}")
    if policy.strategy is not None and policy.strategy not in STRATEGIES:
        raise _wrong(policy, "strategy", f"is {policy.strategy!r}; choose among {', '.join(STRATEGIES)}")
    if (policy.strategy == PRIORITY) != bool(policy.priority):
        raise _wrong(policy, "priority", "and strategy=PRIORITY come together: name the suppliers, the first one first")
    if policy.priority_by_reliability is not None and policy.strategy != PRIORITY:
        raise _wrong(
            policy, "priority_by_reliability", "comes with strategy=PRIORITY; set it there, with the suppliers"
        )
    if policy.pool is not None and (problem := id_problem(policy.pool)):
        raise _wrong(policy, "pool", f"is {policy.pool!r}, which {problem}")
    _check_low_stock(policy)
    for name in LISTS:
        _check_list(policy, name, getattr(policy, name) or ())


def _check_low_stock(policy: Policy) -> None:
    low, cleared = policy.low_stock_units, policy.low_stock_cleared_units
    if cleared is not None and (low is None or cleared <= low):
        said = "comes with low_stock_units" if low is None else f"is {cleared}, and low_stock_units is {low}"
        raise _wrong(policy, "low_stock_cleared_units", f"{said}; send both, and more for this one")


def _check_list(policy: Policy, name: str, entries: tuple[str, ...]) -> None:
    if len(entries) > ENTRIES_MAX:
        raise _wrong(policy, name, f"has {len(entries)} entries; at most {ENTRIES_MAX}")
    for entry in entries:
        if name == "excluded" and entry.partition(":")[0] not in (SUPPLIER, LOCATION):
            raise _wrong(policy, name, f"has {entry!r}; write supplier: or location: before each id")
        if problem := id_problem(entry.partition(":")[2] if name == "excluded" else entry):
            raise _wrong(policy, name, f"has {entry!r}, which {problem}")
    if len(set(entries)) != len(entries):
        raise _wrong(policy, name, "names one twice; name each once")


def _wrong(policy: Policy, field: str, what: str) -> Rejected:
    return Rejected("invalid_policy", f"{policy.scope}: {field} {what}", field)


def to_record(policy: Policy) -> dict[str, Any]:
    """As the Avro record."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in msgspec.structs.asdict(policy).items()}


def of_record(record: dict[str, Any]) -> Policy:
    """A policy of its Avro record.

    Raises:
        Rejected: it cannot be used.
    """
    policy = msgspec.convert(record, Policy)
    check(policy)
    return policy
