"""The judge of a chaos run can fail: each kind of harm, done to the evidence of a flawless run, is counted."""

from __future__ import annotations

import copy
from collections import Counter
from itertools import islice

import pytest

from schemas.keys import partition_of, source_key
from schemas.rows import Count, Delta, Source, StockRow
from tests.inventory.reference import LogOrder
from tests.system.chaos.check import Evidence, Logged, Reference, check
from tests.system.chaos.feed import Token, endless, identity
from tests.system.chaos.readers import Answer
from tests.system.chaos.watch import Commit

PARTITIONS, SKUS, SUPPLIERS, EVERY = 2, 10, 2, 25


@pytest.fixture(scope="module")
def flawless() -> Evidence:
    """What a system without faults would leave, made with the reference alone: a commit for every `EVERY` updates."""
    updates = list(islice(endless(seed=4, skus=SKUS, suppliers=SUPPLIERS), 2_000))
    ends, log = [0] * PARTITIONS, list[Logged]()
    commits: list[list[Commit]] = [[] for _ in range(PARTITIONS)]
    changed: list[dict[str, int]] = [{} for _ in range(PARTITIONS)]
    versions: Counter[str] = Counter()
    for one in updates:
        sku = one["sku"]
        partition = partition_of(sku.encode(), PARTITIONS)
        log.append(Logged(partition, ends[partition], one))
        ends[partition] += 1
        versions[sku] += 1
        changed[partition][sku] = versions[sku]
        if ends[partition] % EVERY == 0:
            commits[partition].append(Commit(0.0, ends[partition], changed[partition]))
            changed[partition] = {}
    for partition, end in enumerate(ends):
        commits[partition].append(Commit(0.0, end, changed[partition]))
    reference = Reference(log)
    answers = [
        Answer(0, sku, reference.available(sku, commit.next_offset), version, None)
        for of_partition in commits
        for commit in of_partition
        for sku, version in commit.versions.items()
    ]
    on_hand: dict[str, dict[str, int]] = {}
    for (sku, supplier), source in reference.sources.items():
        on_hand.setdefault(sku, {})[supplier] = source.row()["on_hand"]
    return Evidence(
        acknowledged=updates,
        attempts=Counter(map(identity, updates)),
        log=log,
        rows=_rows(reference.sources),
        outcomes=copy.deepcopy(reference.outcomes),
        letters=Counter(reference.refused),
        commits=commits,
        answers=answers,
        on_hand=on_hand,
    )


def _rows(sources: dict[tuple[str, str], LogOrder]) -> dict[str, StockRow]:
    rows: dict[str, StockRow] = {}
    for (sku, supplier), of in sources.items():
        count = None if of.count is None else Count(0, of.count.id, of.count.at, of.count.quantity)
        source = Source(count, [Delta(d.at, d.id, d.quantity) for d in of.deltas], of.carried, of.floor)
        rows.setdefault(sku, StockRow(sku, 1, 0, 0, {})).sources[source_key(supplier, "default")] = source
    return rows


def tampered(flawless: Evidence) -> Evidence:
    return copy.deepcopy(flawless)


def some_source(evidence: Evidence) -> Source:
    return next(s for row in evidence.rows.values() for s in row.sources.values() if len(s.deltas) > 1)


def numbers(evidence: Evidence) -> tuple[int, int, int, int]:
    verdict = check(evidence)
    return len(verdict.lost), len(verdict.doubled), len(verdict.oversold), len(verdict.wrong)


def test_nothing_is_found_where_nothing_is_wrong(flawless: Evidence) -> None:
    assert flawless.letters
    assert numbers(flawless) == (0, 0, 0, 0)


def test_an_acknowledged_update_that_is_not_in_the_log_is_lost(flawless: Evidence) -> None:
    evidence = tampered(flawless)
    only = next(one for one, sent in evidence.attempts.items() if sent == 1)
    evidence.log = [entry for entry in evidence.log if identity(entry.update) != only]
    assert [f for f in check(evidence).lost if "not in the log" in f] == [
        f"{only} was acknowledged and is not in the log"
    ]


def test_an_update_that_is_missing_from_its_row_is_lost(flawless: Evidence) -> None:
    evidence = tampered(flawless)
    some_source(evidence).deltas.pop()
    assert numbers(evidence) == (1, 0, 0, 0)


def test_an_update_that_no_outcome_counts_is_lost(flawless: Evidence) -> None:
    evidence = tampered(flawless)
    evidence.outcomes["supplier-0"][0] -= 1
    assert numbers(evidence) == (1, 0, 0, 0)


def test_a_refused_update_without_a_dead_letter_is_lost(flawless: Evidence) -> None:
    evidence = tampered(flawless)
    del evidence.letters[next(iter(evidence.letters))]
    assert numbers(evidence) == (1, 0, 0, 0)


def test_an_update_that_counts_twice_in_its_row_is_doubled(flawless: Evidence) -> None:
    evidence = tampered(flawless)
    deltas = some_source(evidence).deltas
    deltas.append(deltas[-1])
    assert numbers(evidence) == (0, 1, 0, 0)


def test_an_update_that_is_in_the_log_more_often_than_it_was_sent_is_doubled(flawless: Evidence) -> None:
    evidence = tampered(flawless)
    evidence.attempts[identity(evidence.log[7].update)] -= 1
    assert numbers(evidence) == (0, 1, 0, 0)


def test_a_partition_that_is_folded_twice_from_some_offset_on_is_doubled(flawless: Evidence) -> None:
    evidence = tampered(flawless)
    evidence.commits[1][5] = evidence.commits[1][5]._replace(next_offset=evidence.commits[1][6].next_offset + 1)
    assert numbers(evidence)[1] == 1


def test_a_version_that_is_committed_twice_is_wrong(flawless: Evidence) -> None:
    evidence = tampered(flawless)
    earlier, later = evidence.commits[1][5].versions, evidence.commits[1][-1].versions
    sku = next(iter(later.keys() & earlier.keys()))
    later[sku] = earlier[sku]
    evidence.answers = []
    assert numbers(evidence) == (0, 0, 0, 1)


def test_a_second_outcome_or_dead_letter_of_one_update_is_doubled(flawless: Evidence) -> None:
    evidence = tampered(flawless)
    evidence.outcomes["supplier-1"][1] += 1
    evidence.letters[next(iter(evidence.letters))] += 1
    assert numbers(evidence) == (0, 2, 0, 0)


def test_an_answer_above_the_reference_at_its_version_is_oversold_and_one_below_is_wrong(flawless: Evidence) -> None:
    evidence = tampered(flawless)
    for by, place in ((1, 10), (-1, 20)):
        evidence.answers[place] = evidence.answers[place]._replace(available=evidence.answers[place].available + by)
    assert numbers(evidence) == (0, 0, 1, 1)


def test_an_answer_of_a_version_that_was_never_committed_is_oversold(flawless: Evidence) -> None:
    evidence = tampered(flawless)
    evidence.answers.append(Answer(1, "sku-1", 0, 10**6, None))
    assert numbers(evidence) == (0, 0, 1, 0)


def falling(evidence: Evidence) -> tuple[Answer, Answer, Token]:
    """Two answers of one SKU of which the later says less, and the last update that the later one shows."""
    last: dict[str, Answer] = {}
    for answer in evidence.answers:
        before = last.get(answer.sku, answer)
        if answer.available < before.available:
            partition = partition_of(answer.sku.encode(), PARTITIONS)
            of_version = next(c for c in evidence.commits[partition] if c.versions.get(answer.sku) == answer.version)
            return before, answer, Token(partition, of_version.next_offset - 1)
        last[answer.sku] = answer
    raise AssertionError("no quantity ever falls")


def test_an_answer_without_the_sale_that_it_was_asked_to_show_is_oversold(flawless: Evidence) -> None:
    evidence = tampered(flawless)
    before, after, sale = falling(evidence)
    evidence.answers = [before._replace(asked_for=sale)]
    assert numbers(evidence) == (0, 0, 1, 0)
    evidence.answers = [after._replace(asked_for=sale)]
    assert numbers(evidence) == (0, 0, 0, 0)


def test_an_answer_that_goes_back_behind_a_sale_that_its_reader_saw_is_oversold(flawless: Evidence) -> None:
    evidence = tampered(flawless)
    before, after, _ = falling(evidence)
    evidence.answers = [before, after, before]
    assert numbers(evidence) == (0, 0, 1, 0)
    evidence.answers = [after, before._replace(reader=1)]
    assert numbers(evidence) == (0, 0, 0, 0)


def test_last_words_that_differ_from_what_was_acknowledged_are_wrong(flawless: Evidence) -> None:
    evidence = tampered(flawless)
    evidence.on_hand["sku-3"]["supplier-0"] += 1
    assert numbers(evidence) == (0, 0, 0, 1)
