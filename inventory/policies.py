"""Which policy decides: pure. The most specific scope that decides a field does so, field by field.

Of a SKU's number in a channel: the policy of the SKU, then of the channel, then the default. Of a source: what the
source itself says, then the policy of the SKU, of its supplier, of its location, then the default. What suppliers'
scores come to is settled here too, so whatever asks for an order or for what counts has the same answer. Used wherever
availability is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from schemas.keys import SOURCE_SEPARATOR
from schemas.policies import CHANNEL, DEFAULT, LOCATION, SCORE, SKU, SUM, SUPPLIER, Policy

DEFAULT_CHANNEL = "default"
UNKNOWN = -1  # percent: of a supplier whose reliability nobody has recorded


class SourceRules(NamedTuple):
    """What holds for one source of a SKU.

    `excluded`: it does not count. `stale_after_ms`: unless the source has a limit of its own; None: never stale.
    `stale_floor_units`: what counts of it at most once it is stale. `safety_units`, `safety_percent`: held back of it.
    `netting_delay_ms`: how much later than a commit or a fulfilment a count must be observed to know of it; of a pool,
    at least what those that declare it say.
    `pool`: the stock that it describes, maybe as others do; None: one of its own.
    """

    supplier: str
    location: str
    excluded: bool
    stale_after_ms: int | None
    stale_floor_units: int
    safety_units: int
    safety_percent: int
    netting_delay_ms: int
    pool: str | None


class Rules:
    """What holds for the number of one SKU in one channel; see schemas/avro/Policy.5.avsc for each field.

    Args:
        scopes: the policies that may decide its number, the most specific one first.
        by_scope: all, for those of sources.
        pools: those that declare a pool, by its name.
    """

    def __init__(
        self, scopes: Iterable[Policy], by_scope: Mapping[str, Policy], pools: Mapping[str, Sequence[Policy]]
    ) -> None:
        self._by_scope = by_scope
        self._pools = pools
        self.pooled = bool(pools)  # else no row has any
        scopes = tuple(scopes)
        decides = next((p for p in scopes if p.strategy is not None), None)  # and its priority belongs to it
        self.strategy: str = SUM if decides is None or decides.strategy is None else decides.strategy
        self.priority: tuple[str, ...] = () if decides is None else decides.priority or ()
        if decides is not None and decides.priority_by_reliability:
            self.priority = tuple(sorted(self.priority, key=self.reliability_percent, reverse=True))  # keeps equal ones
        self.reliability_percent_min: int = _decided("reliability_percent_min", scopes, 0)
        self.safety_units: int = _decided("safety_units", scopes, 0)
        self.safety_percent: int = _decided("safety_percent", scopes, 0)
        self.channel_share_percent: int = _decided("channel_share_percent", scopes, 100)
        self.backorder_units_max: int = _decided("backorder_units_max", scopes, 0)
        low = next((p for p in scopes if p.low_stock_units is not None), None)  # and when it is cleared belongs to it
        self.low_stock_units: int = 0 if low is None else low.low_stock_units or 0
        cleared = None if low is None else low.low_stock_cleared_units
        self.low_stock_cleared_units: int = self.low_stock_units + 1 if cleared is None else cleared
        self._excluded = frozenset(entry for p in scopes for entry in p.excluded or ())
        self._of_sku = [p for p in scopes if p.scope.startswith(f"{SKU}:")]
        self._of_all = [p for p in scopes if p.scope == DEFAULT]
        self._sources: dict[str, SourceRules] = {}

    def know_sources_of(self, other: Rules) -> None:
        """What holds for a source is the same for both; what was found out by either need not be by the other."""
        self._sources = other._sources

    def source(self, key: str) -> SourceRules:
        """What holds for a source, by its key within the row."""
        known = self._sources.get(key)
        if known is None:
            known = self._sources[key] = self._made(key)
        return known

    def reliability_percent(self, supplier: str) -> int:
        """As it was recorded, or `UNKNOWN`."""
        score = self._by_scope.get(f"{SCORE}:{supplier}")
        return UNKNOWN if score is None or score.reliability_percent is None else score.reliability_percent

    def netting_delay_ms(self, key: str, beside: Iterable[str]) -> int:
        """How much later than a sale of a source's units any count of their stock must be observed to know of it.

        Args:
            key: the source.
            beside: all sources of the row. A pool is as slow as its slowest view among them.
        """
        own = self.source(key)
        if own.pool is None:
            return own.netting_delay_ms
        views = (view for each in beside if (view := self.source(each)).pool == own.pool)
        return max((own.netting_delay_ms, *(view.netting_delay_ms for view in views)))

    def _made(self, key: str) -> SourceRules:
        supplier, _, location = key.partition(SOURCE_SEPARATOR)
        names = (f"{SUPPLIER}:{supplier}", f"{LOCATION}:{location}")
        own = [policy for name in names if (policy := self._by_scope.get(name)) is not None]
        every = (*self._of_sku, *own, *self._of_all)
        pool = _decided("pool", own, None)
        views = [(*self._of_sku, view, *self._of_all) for view in self._pools.get(pool, ())]
        return SourceRules(
            supplier,
            location,
            any(policy.enabled is False for policy in own)
            or not self._excluded.isdisjoint(names)
            or UNKNOWN < self.reliability_percent(supplier) < self.reliability_percent_min,
            _decided("stale_after_ms", every, None),
            _decided("stale_floor_units", every, 0),
            _decided("safety_units", own, 0),
            _decided("safety_percent", own, 0),
            max(_decided("netting_delay_ms", scopes, 0) for scopes in (every, *views)),
            pool,
        )


class Policies:
    """All policies as of one moment; never changed.

    Args:
        by_scope: usable ones.
        revision: how much of the log of policies they are.
    """

    def __init__(self, by_scope: Mapping[str, Policy] | None = None, revision: int = 0) -> None:
        self.by_scope = dict(by_scope or {})
        self.revision = revision
        self._of_channel: dict[str, Rules] = {}
        self._pools: dict[str, list[Policy]] = {}
        for policy in self.by_scope.values():
            if policy.pool is not None:
                self._pools.setdefault(policy.pool, []).append(policy)
        self._channels = {
            scope for scope, p in self.by_scope.items() if scope.startswith(f"{CHANNEL}:") and p.decided()
        }

    def rules(self, sku: str, channel: str = DEFAULT_CHANNEL) -> Rules:
        """What holds for a SKU in a channel."""
        of_sku = self.by_scope.get(f"{SKU}:{sku}")
        decides = channel if f"{CHANNEL}:{channel}" in self._channels else DEFAULT_CHANNEL
        rules = self._of_channel.get(decides)
        if rules is None:
            rules = self._of_channel[decides] = self._made(self.by_scope.get(f"{CHANNEL}:{decides}"))
        if of_sku is None:
            return rules
        of_both = self._made(of_sku, self.by_scope.get(f"{CHANNEL}:{decides}"))
        if not of_sku.decides_of_sources():
            of_both.know_sources_of(rules)
        return of_both

    def changed(self, *policies: Policy, revision: int) -> Policies:
        """These with others in their place."""
        return Policies(self.by_scope | {policy.scope: policy for policy in policies}, revision)

    def heard(self, changes: Iterable[tuple[int, Policy]]) -> Policies:
        """These with those changes in their place that are later; themselves if none is. A change has its revision."""
        later = [(revision, policy) for revision, policy in changes if revision > self.revision]
        return self.changed(*(policy for _, policy in later), revision=later[-1][0]) if later else self

    def _made(self, *scopes: Policy | None) -> Rules:
        every = (*scopes, self.by_scope.get(DEFAULT))
        return Rules((policy for policy in every if policy is not None), self.by_scope, self._pools)


def _decided(field: str, scopes: Iterable[Policy], otherwise: Any) -> Any:  # noqa: ANN401 - as the field is
    return next((value for policy in scopes if (value := getattr(policy, field)) is not None), otherwise)
