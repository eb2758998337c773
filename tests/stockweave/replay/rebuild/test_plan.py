"""What a rebuild was asked for, and when a candidate may be gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.generations import FACTS, PREVIOUS, Generation, Generations, Plan
from stockweave.errors import Fatal
from stockweave.replay.rebuild import plan
from stockweave.replay.rebuild.command import Asked, run
from stockweave.replay.rebuild.plan import (
    Wanted,
    check_partitions,
    going_on,
    new_plan,
    parse_partitions,
    rules_digest,
)
from stockweave.settings import Settings

RULES = "1f"


def begun(begin: str = FACTS, partitions: tuple[int, ...] | None = None, rules: str = RULES) -> Generations:
    first, second = Generation(0, "inventory.stock"), Generation(1, "inventory.stock.g1")
    return Generations(first, second, None, 1, Plan(begin, partitions, rules))


@pytest.mark.parametrize(
    ("text", "numbers"), [("0", (0,)), ("0,2-3", (0, 2, 3)), ("3-3, 1,1", (1, 3)), ("10-12", (10, 11, 12))]
)
def test_partitions_are_numbers_and_ranges(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_partitions(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "1,", "3-1", "-1", "1-", "1--2", "1 2", "½"])
def test_other_partitions_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(Fatal, match=r"--partitions is .*as in 0,2-3"):
        parse_partitions(text)


def test_a_partition_that_there_is_not_is_named() -> None:
    check_partitions(None, 2)
    check_partitions((0, 1), 2)
    with pytest.raises(Fatal, match="names 2, and there are 2, from 0 to 1"):
        check_partitions((0, 2), 2)


def test_a_candidate_is_gone_on_with_as_it_was_begun() -> None:
    for made in (Plan(FACTS, None, RULES), Plan("s3://b/c", (1, 2), RULES)):
        same = Wanted(None if made.begin == FACTS else made.begin, made.partitions)
        for wanted in (Wanted(), same):
            assert going_on(begun(made.begin, made.partitions), wanted, RULES) == made
    assert going_on(begun(PREVIOUS), Wanted(PREVIOUS), RULES).begin == PREVIOUS
    assert new_plan(Wanted(), RULES) == Plan(FACTS, None, RULES)


@pytest.mark.parametrize(
    ("there", "wanted", "said"),
    [
        (begun(), Wanted("s3://b/c"), "generation 1 was begun from the first update: go on without --from"),
        (begun("s3://b/c"), Wanted("s3://b/d"), "generation 1 was begun from s3://b/c: go on without --from"),
        (begun(), Wanted(PREVIOUS), "a rebuild is under way as generation 1: go on with it without --back"),
        (begun(PREVIOUS), Wanted(), "a way back is under way as generation 1: go on with it with --back"),
        (begun(), Wanted(partitions=(1,)), "begun for all partitions: go on without --partitions"),
        (begun(partitions=(0, 2)), Wanted(partitions=(1,)), "begun for partitions 0,2: go on without --partitions"),
        (begun(rules="2e"), Wanted(), "rules are not those .* would be of both; begin anew with --restart"),
    ],
)
def test_a_candidate_is_not_gone_on_with_in_another_way(there: Generations, wanted: Wanted, said: str) -> None:
    with pytest.raises(Fatal, match=said) as raised:
        going_on(there, wanted, RULES)
    assert "--restart" in str(raised.value)


def test_rules_differ_when_their_source_or_a_limit_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(_env_file=None)
    digest = rules_digest(settings)
    assert rules_digest(settings) == digest
    assert rules_digest(settings.model_copy(update={"horizon_ms": 86_400_000})) != digest
    assert rules_digest(settings.model_copy(update={"entries_max": 8})) != digest
    assert rules_digest(settings.model_copy(update={"batch_events_max": 8})) == digest
    named = [Path(package.__path__[0]) / f"{module}.py" for package, modules in plan.RULES for module in modules]
    assert all(path.exists() for path in named if path.stem != "*")
    (tmp_path / "stock.py").write_text("one")
    monkeypatch.setattr("inventory.__path__", [str(tmp_path)])
    other = rules_digest(settings)
    assert other != digest
    (tmp_path / "stock.py").write_text("two")
    assert rules_digest(settings) not in (digest, other)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(status=True, discard=True), "--status and --discard do not go together"),
        (Asked(dry_run=True, restart=True), "--dry-run and --restart do not go together"),
        (Asked(back=True, dry_run=True), "--dry-run and --back do not go together"),
        (Asked(back=True, checkpoint="x"), "--back does not go with --from"),
        (Asked(back=True, restart=True, partitions="1"), "--back does not go with --partitions"),
        (Asked(discard=True, partitions="1"), "--discard does not go with --partitions"),
    ],
)
def test_options_that_contradict_each_other_are_refused(asked: Asked, said: str) -> None:
    with pytest.raises(Fatal, match=said):
        run(Settings(_env_file=None), asked)
