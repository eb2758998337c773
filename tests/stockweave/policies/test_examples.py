"""The worked examples of recorded scores, in docs/policies.md and docs/connectors/health.md."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from inventory.policies import Policies
from schemas.policies import Policy
from stockweave.policies.edit import edited, of_words
from stockweave.policies.scores import Steady, as_changes, measured
from tests.inventory.test_reliability import NOW, documented
from tests.inventory.test_scores import answer

DOCS = Path(__file__).parents[3] / "docs"


def example(page: str, begins: str) -> list[str]:
    """The lines of the only one that begins so."""
    blocks: list[str] = re.findall(r"^```\w*\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    [found] = [block for block in blocks if block.startswith(begins)]
    return found.splitlines()


def test_each_change_of_the_example_gives_the_number_that_is_told() -> None:
    held: dict[str, Policy] = {}
    told = []
    for line in example("policies.md", "$ stockweave policies set score:"):
        if line.startswith("$ "):
            _, _, _, scope, *words = shlex.split(line.removeprefix("$ "))
            held |= {policy.scope: policy for policy in edited(held, of_words(scope, words), NOW)}
        else:
            number, _, why = line.removeprefix("# ").partition(", ")
            told.append((int(number), answer(Policies(held, 1), acme=5, best=7, cheap=9, own=2).available, why))
    assert len(told) == 6
    assert [number for number, _, _ in told] == [found for _, found, _ in told], told


def test_what_is_told_to_be_recorded_of_the_example_is() -> None:
    feed, _ = documented()
    told = "".join(example("connectors/health.md", "$ stockweave policies scores")[1:])
    due = Steady(5, 0).look({}, measured([feed], NOW), NOW)
    assert json.loads(told) == as_changes(due)
