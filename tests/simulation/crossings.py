"""The alerts of a run held against the committed rows, and both against a rule that is written here a second time.

Shares no code with `inventory/` and `streams/`. What is read is the log of rows, as it was before any compaction: each
version of a row has to say the alert state that the rule makes of it and of the state before, and the log of alerts has
exactly the crossings between them, in that order. Where Kafka lost a marker, rows and alerts may part, as rows and dead
letters may; then only the states are looked at.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from inventory.policies import Policies
from schemas import keys
from schemas.codec import Codec
from schemas.policies import Policy
from schemas.registry import FileRegistry
from schemas.rows import Position, decode_position, decode_row, encode
from schemas.topics import ALERTS, STOCK
from tests.simulation.kafka.log import Record
from tests.simulation.pools import Stock, Taken
from tests.simulation.words import row_in_words

if TYPE_CHECKING:
    from streams.batch import FoldedPart
    from tests.simulation.world import Simulation

ALERT = Codec("StockAlert", FileRegistry())
HOUR_MS = 3_600_000
SCORED = 1 / 3  # of the changes, in runs without pools: a score is recorded, or what is asked of scores is another
LEVELS = ("", "IN_STOCK", "LOW", "OUT_OF_STOCK")
KINDS = {
    "IN_STOCK LOW": "LOW_STOCK", "LOW IN_STOCK": "LOW_STOCK_CLEARED",
    "IN_STOCK OUT_OF_STOCK": "STOCKOUT", "LOW OUT_OF_STOCK": "STOCKOUT",
    "OUT_OF_STOCK IN_STOCK": "BACK_IN_STOCK", "OUT_OF_STOCK LOW": "BACK_IN_STOCK",
}  # fmt: skip

Decisions = dict[str, dict[str, Any]]
"""What policies decide, by scope."""

Alerts = list[dict[str, Any]]
"""As records, but for their ids."""


class Wrong(AssertionError):
    """A law of alerts is broken; the message says which, and where."""


@dataclass(frozen=True)
class Version:
    """One version of a row: its sources in words, what is reserved of each, and the state that it says."""

    sku: str
    sources: dict[str, Any]
    reserved: dict[str, list[Any]]
    alert: int
    oversold: list[str]

    @classmethod
    def of(cls, encoded: bytes) -> Version:
        row = decode_row(encoded)
        return cls(row.sku, row_in_words(encoded)["sources"], dict(row.reserved), row.alert, row.oversold)

    @property
    def level(self) -> str:
        return LEVELS[self.alert & 3]


@dataclass(frozen=True)
class Found:
    """What the rule says of a row.

    `oversold`: sources that are told to be. `stocks`: all, by what each source describes. `timed`: a source has a limit
    of its own to its age.
    """

    level: str
    available: int
    low_units: int
    oversold: list[str]
    stocks: dict[str, Stock]
    timed: bool

    @property
    def state(self) -> tuple[int, list[str]]:
        """As a row keeps it."""
        number = LEVELS.index(self.level) + (4 if self.timed else 0) + (8 if self.oversold else 0)
        return number, self.oversold


class Crossings:
    """Of all partitions, and the policies by which they are found: workers hear of a change some time later."""

    def __init__(self, simulation: Simulation, skus: int, rng: random.Random, scores: random.Random) -> None:
        self._simulation = simulation
        self._skus = skus
        self._rng = rng
        self._scores = scores
        self._pools = simulation.scenario.pools
        of_pools: Decisions = {scope: {"pool": name} for scope, name in self._pools.declared.items()}
        self._decided: list[Decisions] = [of_pools]  # by revision
        partitions = range(simulation.scenario.partitions)
        self._written: list[list[Record]] = [[] for _ in partitions]
        self._noted = [0 for _ in partitions]
        self._revisions: dict[tuple[int, bytes], set[int]] = defaultdict(set)

    # -- what happens

    def change_policy(self) -> None:
        """Somebody decides something else."""
        rng = self._rng
        scope = rng.choice(("default", "default", f"sku:sku-{rng.randrange(self._skus)}"))
        fields: dict[str, Any] = {
            "safety_units": rng.choice((None, None, 10, 40)),
            "low_stock_units": rng.choice((None, 0, 5, 30, 60)),
        }
        fields["stale_after_ms"] = rng.choice((None, None, None, HOUR_MS, 200_000))
        if fields["low_stock_units"] is not None and rng.random() < 0.6:
            fields["low_stock_cleared_units"] = fields["low_stock_units"] + rng.randint(1, 20)
        of_scope = {name: value for name, value in fields.items() if value is not None}
        recorded: Decisions = {}
        if not self._pools.declared and self._scores.random() < SCORED:
            of_scope |= self._scores.choice(({}, {"reliability_percent_min": 80}))
            supplier, percent = self._scores.choice(("acme", "bolt")), self._scores.choice((79, 80, 100))
            recorded[f"score:{supplier}"] = {"reliability_percent": percent}
        self._decided.append(self._decided[-1] | {scope: of_scope} | recorded)

    def policies(self) -> Policies:
        """As a worker hears of them now."""
        decided = {scope: Policy(scope, 1, **fields) for scope, fields in self._decided[-1].items()}
        return Policies(decided, len(self._decided) - 1)

    def evaluated(self, folded: FoldedPart, revision: int) -> None:
        """A worker has evaluated a part by the policies of a revision; it may yet be undone."""
        self._revisions[folded.part.partition, _told(folded.position)].add(revision)

    def look(self) -> None:
        """Note what was written since the last look, for compaction removes it."""
        for number, log in enumerate(self._simulation.cluster.topics[STOCK.name]):
            new = [record for record in log.records if record.offset >= self._noted[number]]
            self._written[number] += new
            self._noted[number] = log.end

    # -- what must hold

    def waits(self, rows: Iterable[bytes], now_ms: int) -> str:
        """A row that has crossed and does not say so yet, in words."""
        for row in map(Version.of, rows):
            found = self._rule(row, len(self._decided) - 1, now_ms, row)
            if found.state != (row.alert, row.oversold):
                return f"{row.sku} is {found}, and says {row.alert} {row.oversold}"
        return ""

    def at_rest(self, number: int) -> None:
        """Everything in a partition."""
        expected = self._expected(number)
        if self._simulation.cluster.torn:
            return
        records, _ = self._simulation.cluster.log(ALERTS.name, number).read(0, 1 << 30, committed=True)
        told: dict[str, list[dict[str, Any]]] = defaultdict(list)
        values = [record.value for record in records if record.value is not None]  # a start may leave a note
        for alert in cast("list[dict[str, Any]]", ALERT.decode(values)):
            told[alert["sku"]].append(alert)
        ids = [alert["alert_id"] for of_sku in told.values() for alert in of_sku]
        if len(set(ids)) < len(ids):
            raise Wrong(f"partition {number}: two alerts have one id among {sorted(ids)}")
        for sku in told.keys() | expected.keys():
            _check_chain(sku, told[sku])
            found = [{name: alert[name] for name in alert if name != "alert_id"} for alert in told[sku]]
            for ways in expected[sku]:
                way = next((way for way in ways if found[: len(way)] == way), None)
                if way is None:
                    raise Wrong(f"partition {number}: of {sku} was told {found}, expected {ways}")
                del found[: len(way)]
            if found:
                raise Wrong(f"partition {number}: of {sku} was told {found}, expected nothing more")

    def _expected(self, number: int) -> dict[str, list[list[Alerts]]]:
        """The alerts of each version of each SKU, by each revision by which it may have been evaluated.

        That is one, unless a batch was undone, and came again once the worker had heard of another. The states that
        rows say are looked at on the way.
        """
        alerts: dict[str, list[list[Alerts]]] = defaultdict(list)
        known: dict[str, Version] = {}
        waiting: list[Version] = []
        for record in sorted(self._written[number], key=lambda record: record.offset):
            if not record.committed or record.key is None or record.value is None:
                continue
            if record.key >= keys.ROW_FIRST:
                waiting.append(Version.of(record.value))
            elif record.key == keys.POSITION:
                position = decode_position(record.value)
                revisions = self._revisions[number, _told(position)]
                for row in waiting:
                    ways = self._crossed(number, known.get(row.sku), row, revisions, position.decided_at)
                    alerts[row.sku].append(ways)
                    known[row.sku] = row
                waiting = []
        return alerts

    def _crossed(self, number: int, before: Version | None, row: Version, revisions: set[int], at: int) -> list[Alerts]:
        """The alerts of one new version of a row."""
        by_revision = {revision: self._rule(row, revision, at, before) for revision in sorted(revisions)}
        fitting = {r: found for r, found in by_revision.items() if found.state == (row.alert, row.oversold)}
        if not fitting:
            raise Wrong(
                f"partition {number}: {row} at {at} came after {before}; by revision {by_revision} was expected"
            )
        if before is None or not before.level:
            return [[]]
        return [self._alerts(before, found, revision, at) for revision, found in fitting.items()]

    def _rule(self, row: Version, revision: int, now_ms: int, before: Version | None) -> Found:
        if not row.sources:
            return Found("", 0, 0, [], {}, timed=False)  # it is held, and nobody has said anything of it yet
        decided = self._decided[revision]
        of_sku, of_all = decided.get(f"sku:{row.sku}", {}), decided.get("default", {})
        stale_after_ms = of_sku.get("stale_after_ms", of_all.get("stale_after_ms"))
        low = of_sku if "low_stock_units" in of_sku else of_all
        low_units = low.get("low_stock_units", 0)
        taken: list[Taken] = [
            (where, entry.units, entry.committed_at, entry.fulfilled_at)
            for where, entries in row.reserved.items()
            for entry in entries
        ]
        stocks = self._pools.stocks(row.sources, taken, now_ms, stale_after_ms)
        least: int = of_sku.get("reliability_percent_min", of_all.get("reliability_percent_min")) or 0
        left_out = {where for where in row.sources if _score(where, decided) < least}
        told = {} if before is None else {self._pools.stock_of(where): where for where in before.oversold}
        oversold = sorted(told.get(name, s.speaks) for name, s in stocks.items() if 0 < s.held > s.number)
        total, was = (
            sum(stock.free for stock in stocks.values() if stock.speaks not in left_out),
            None if before is None else before.level,
        )
        safety_units = of_sku.get("safety_units", of_all.get("safety_units")) or 0
        available = max(0, total - safety_units)
        level = "IN_STOCK"
        if available == 0:
            level = "OUT_OF_STOCK"
        elif available <= low_units or (
            available < low.get("low_stock_cleared_units", low_units + 1) and was in ("LOW", "OUT_OF_STOCK")
        ):
            level = "LOW"
        timed = any(source["stale_after_ms"] is not None for source in row.sources.values())
        return Found(level, available, low_units, oversold, stocks, timed)

    def _alerts(self, before: Version, found: Found, revision: int, at: int) -> Alerts:
        """Those between a version and the next, as records but for their ids."""
        alert: dict[str, Any] = {
            "sku": before.sku, "available": found.available, "at": at, "supplier_id": None, "location_id": None,
            "on_hand": None, "held": None, "low_stock_units": found.low_units or None, "policy_revision": revision,
        }  # fmt: skip
        alerts = []
        if before.level != found.level:
            kind = KINDS[f"{before.level} {found.level}"]
            alerts.append(alert | {"kind": kind, "state": found.level, "previous": before.level})
        for where in sorted(set(before.oversold) ^ set(found.oversold)):
            supplier, location = where.split("\x1f")
            said = {"kind": "OVERSOLD_RISK_CLEARED", "state": "COVERED", "previous": "OVERSOLD"}
            if where in found.oversold:
                said = {"kind": "OVERSOLD_RISK", "state": "OVERSOLD", "previous": "COVERED"}
            stock = found.stocks[self._pools.stock_of(where)]
            of_source = {"supplier_id": supplier, "location_id": location, "on_hand": stock.number, "held": stock.held}
            alerts.append(alert | of_source | said)
        return alerts


def _score(where: str, decided: Decisions) -> int:
    """Of the supplier of a source; one without a score is not left out."""
    recorded = decided.get("score:" + where.split("\x1f")[0], {})
    return int(recorded.get("reliability_percent", 100))


def _check_chain(sku: str, told: list[dict[str, Any]]) -> None:
    """Each alert begins with what the one before ended with."""
    last: dict[str | None, str] = {}
    for alert in told:
        where = alert["supplier_id"] and f"{alert['supplier_id']} {alert['location_id']}"
        if where in last and alert["previous"] != last[where]:
            raise Wrong(f"of {sku} was told {alert}, and before it {last[where]}")
        last[where] = alert["state"]


def _told(position: Position) -> bytes:
    """A position as it was evaluated, before it says of which updates it is."""
    return encode(replace(position, updates_generation=""))
