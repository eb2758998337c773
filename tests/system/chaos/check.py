"""Holds what a run left behind against the tests' own reference: what is lost, doubled, oversold, or wrong otherwise.

Lost: an update that was acknowledged and is not in the log, or is in the log and not in an outcome, a row or, when
refused, among the dead letters. Doubled: one that is there more often than it may be. Oversold: an answer of the API
above the reference, at the position that the answer stands for (`_Answers`). The reference folds the log itself.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from inventory.stock import COUNT, DELTA, StockUpdate
from schemas.keys import source_key
from schemas.rows import OUTCOMES, Source, StockRow
from tests.inventory.reference import Event, LogOrder
from tests.system.chaos.feed import Identity, identity
from tests.system.chaos.readers import Answer
from tests.system.chaos.watch import Commit

HORIZON_MS, ENTRIES_MAX = 7 * 86_400_000, 256
OUTCOME_OF = {"applied": 0, "replaced": 0, "duplicate": 1, "superseded": 2}
REJECTED = 3

Place = tuple[int, int]
"""Partition and offset of inventory.updates."""


class Logged(NamedTuple):
    """An update as it lies in Kafka."""

    partition: int
    offset: int
    update: StockUpdate


@dataclass
class Evidence:
    """What a run left behind.

    Attributes:
        acknowledged: what suppliers were told is taken.
        attempts: how often each was sent at the most.
        log: inventory.updates, each partition in its order.
        rows: inventory.stock at its end.
        outcomes: of the position records, by supplier.
        letters: the updates that dead letters name.
        commits: every transaction, by partition.
        answers: of the API, each reader's in its order.
        on_hand: the API's last words, by SKU and supplier.
    """

    acknowledged: list[StockUpdate]
    attempts: Counter[Identity]
    log: list[Logged]
    rows: dict[str, StockRow]
    outcomes: dict[str, list[int]]
    letters: Counter[Place]
    commits: list[list[Commit]]
    answers: list[Answer]
    on_hand: dict[str, dict[str, int]]


@dataclass
class Verdict:
    """Findings, one line each."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    oversold: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        for name in ("lost", "doubled", "oversold", "wrong"):
            yield from (f"{name}: {finding}" for finding in getattr(self, name))


class Reference:
    """The log, folded by the tests' own reference, with the quantity that is available after each update."""

    def __init__(self, log: Iterable[Logged]) -> None:
        self.sources: dict[tuple[str, str], LogOrder] = {}
        self.outcomes: dict[str, list[int]] = {}
        self.refused: set[Place] = set()
        self.partitions: dict[str, int] = {}
        self._available: dict[str, list[tuple[int, int]]] = {}
        sold: dict[tuple[str, str], int] = {}
        totals: Counter[str] = Counter()
        for partition, offset, one in log:
            sku, supplier = one["sku"], one["supplier_id"]
            source = self.sources.setdefault((sku, supplier), LogOrder(HORIZON_MS, ENTRIES_MAX))
            verdict = source.see(_event(one))
            outcome = OUTCOME_OF.get(verdict, REJECTED)
            self.outcomes.setdefault(supplier, [0] * len(OUTCOMES))[outcome] += 1
            self.partitions[sku] = partition
            if outcome == REJECTED:
                self.refused.add((partition, offset))
            elif outcome == 0:
                now = max(0, source.row()["on_hand"])
                totals[sku] += now - sold.get((sku, supplier), 0)
                sold[sku, supplier] = now
                self._available.setdefault(sku, []).append((offset, totals[sku]))

    def available(self, sku: str, next_offset: int) -> int:
        """What could be sold when all updates below an offset were folded, and none after."""
        history = self._available.get(sku, [])
        at = bisect_left(history, (next_offset, 0), key=lambda entry: (entry[0], 0))
        return history[at - 1][1] if at else 0


def check(evidence: Evidence) -> Verdict:
    """All that is wrong with what a run left behind."""
    verdict, reference = Verdict(), Reference(evidence.log)
    _check_log(evidence, verdict)
    _check_outcomes(evidence.outcomes, reference.outcomes, verdict)
    _check_letters(evidence.letters, reference.refused, verdict)
    _check_rows(evidence.rows, reference.sources, verdict)
    _check_commits(evidence.commits, verdict)
    _check_last_words(evidence, verdict)
    _Answers(reference, evidence.commits).check(evidence.answers, verdict)
    return verdict


def _event(one: StockUpdate) -> Event:
    return Event(one["kind"], one["update_id"], one["observed_at"], one["quantity"])


def _check_log(evidence: Evidence, verdict: Verdict) -> None:
    logged = Counter(identity(entry.update) for entry in evidence.log)
    verdict.lost += [f"{one} was acknowledged and is not in the log" for one in _missing(evidence.acknowledged, logged)]
    verdict.doubled += [
        f"{one} is {count} times in the log, and was sent {evidence.attempts[one]} times"
        for one, count in logged.items()
        if count > evidence.attempts[one]
    ]


def _missing(acknowledged: Iterable[StockUpdate], logged: Counter[Identity]) -> Iterator[Identity]:
    return (one for one in dict.fromkeys(map(identity, acknowledged)) if one not in logged)


def _check_outcomes(told: Mapping[str, list[int]], expected: Mapping[str, list[int]], verdict: Verdict) -> None:
    for supplier in sorted(told.keys() | expected.keys()):
        is_told, should = (of.get(supplier, [0] * len(OUTCOMES)) for of in (told, expected))
        more = sum(is_told) - sum(should)
        finding = f"{supplier} has the outcomes {is_told}, expected {should}"
        verdict.lost += [finding] * -more
        verdict.doubled += [finding] * more
        if more == 0 and is_told != should:
            verdict.wrong.append(finding)


def _check_letters(letters: Counter[Place], refused: Iterable[Place], verdict: Verdict) -> None:
    should = Counter(refused)
    verdict.lost += [f"no dead letter of the refused update {place}" for place in (should - letters).elements()]
    verdict.doubled += [f"a dead letter too many of update {place}" for place in (letters - should).elements()]


def _check_rows(rows: Mapping[str, StockRow], sources: Mapping[tuple[str, str], LogOrder], verdict: Verdict) -> None:
    for (sku, supplier), should in sources.items():
        row = rows.get(sku)
        source = Source() if row is None else row.sources.get(source_key(supplier, "default"), Source())
        stands = _standing(source)
        expected = Counter(should.deltas + ([] if should.count is None else [should.count]))
        verdict.lost += [f"{event} is not in the row of {sku}, {supplier}" for event in (expected - stands).elements()]
        verdict.doubled += [
            f"{event} stands once too often in {sku}, {supplier}" for event in (stands - expected).elements()
        ]
        if expected == stands and source.on_hand != should.row()["on_hand"]:
            verdict.wrong.append(f"{sku}, {supplier} is {source.on_hand}, expected {should.row()['on_hand']}")
    verdict.wrong += [
        f"a row of {sku}, of which no update is in the log" for sku in rows.keys() - {s for s, _ in sources}
    ]


def _check_commits(commits: Sequence[Sequence[Commit]], verdict: Verdict) -> None:
    """A partition's position never goes back, for that would be a second fold; nor does a row's version."""
    versions: dict[str, int] = {}
    for partition, of_partition in enumerate(commits):
        folded = 0
        for commit in of_partition:
            if commit.next_offset < folded:
                verdict.doubled.append(f"partition {partition} was folded up to {folded}, then to {commit.next_offset}")
            folded = commit.next_offset
            verdict.wrong += [
                f"version {version} of {sku} was committed after {versions[sku]}"
                for sku, version in commit.versions.items()
                if version <= versions.get(sku, 0)
            ]
            versions.update(commit.versions)


def _standing(source: Source) -> Counter[Event]:
    found = Counter(Event(DELTA, d.id, d.at, d.quantity) for d in source.deltas)
    if (count := source.count) is not None:
        found[Event(COUNT, count.id, count.at, count.quantity)] += 1
    return found


def _check_last_words(evidence: Evidence, verdict: Verdict) -> None:
    """What was acknowledged, folded without a look at Kafka, is what the API says in the end."""
    sources: dict[tuple[str, str], LogOrder] = {}
    for one in evidence.acknowledged:
        source = sources.setdefault((one["sku"], one["supplier_id"]), LogOrder(HORIZON_MS, ENTRIES_MAX))
        source.see(_event(one))
    expected: dict[str, dict[str, int]] = {}
    for (sku, supplier), source in sources.items():
        expected.setdefault(sku, {})[supplier] = source.row()["on_hand"]
    for sku in expected.keys() | evidence.on_hand.keys():
        said, should = evidence.on_hand.get(sku), expected.get(sku)
        if said != should:
            verdict.wrong.append(f"{sku}: the API ends with {said}, what was acknowledged makes {should}")


class _Answers:
    """Holds answers against the reference at the position that each stands for.

    An answer stands for the newest of three: the position of the transaction that wrote the row's version; that of the
    transaction that folded the update which the reader asked to see; what the same reader was told of before. So an
    answer that is true of the past alone is held against what its reader was promised.
    """

    def __init__(self, reference: Reference, commits: Sequence[Sequence[Commit]]) -> None:
        self._reference = reference
        self._next_offsets = [[commit.next_offset for commit in of_partition] for of_partition in commits]
        self._written = {
            (sku, version): commit.next_offset
            for of_partition in commits
            for commit in of_partition
            for sku, version in commit.versions.items()
        }

    def check(self, answers: Iterable[Answer], verdict: Verdict) -> None:
        known: dict[tuple[int, str], int] = {}
        for answer in answers:
            sku, version = answer.sku, answer.version
            written = 0 if version is None else self._written.get((sku, version))
            if written is None:
                verdict.oversold.append(f"{answer} is of a version that was never committed")
                continue
            position = max(written, self._promised(answer), known.get((answer.reader, sku), 0))
            known[answer.reader, sku] = position
            should = self._reference.available(sku, position)
            if answer.available != should:
                found = verdict.oversold if answer.available > should else verdict.wrong
                found.append(f"{answer}, where {should} are available at offset {position}")

    def _promised(self, answer: Answer) -> int:
        if answer.asked_for is None:
            return 0
        partition, offset = answer.asked_for
        next_offsets = self._next_offsets[partition]
        at = bisect_right(next_offsets, offset)
        return next_offsets[at] if at < len(next_offsets) else offset + 1
