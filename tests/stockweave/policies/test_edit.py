"""What a person writes of a policy, and the policies that it makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.policies import Policy
from stockweave.errors import Fatal, Rejected
from stockweave.policies.edit import edited, of_file, of_words

HELD = {"default": Policy("default", 4, 1, safety_units=2, excluded=("supplier:x",))}


def test_words_are_read_as_their_fields_are() -> None:
    words = ["strategy=priority", "priority=acme, best", "excluded=location:a", "safety_units=3", "stale_after_ms="]
    assert of_words("default", words) == {
        "default": {
            "strategy": "PRIORITY",
            "priority": ("acme", "best"),
            "excluded": ("location:a",),
            "safety_units": 3,
            "stale_after_ms": None,
        }
    }
    assert of_words("supplier:acme", ["enabled=false"]) == {"supplier:acme": {"enabled": False}}
    assert of_words("score:acme", ["reliability_percent=93"]) == {"score:acme": {"reliability_percent": 93}}
    assert of_words("default", ["priority_by_reliability=true"]) == {"default": {"priority_by_reliability": True}}
    assert of_words("location:north", ["pool=4711"]) == {"location:north": {"pool": "4711"}}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("safety", "'safety' is no field=value; write e.g. safety_units=3"),
        ("colour=red", "'colour' is no field of a policy; known are: strategy, priority"),
        ("safety_units=few", "safety_units is 'few'; write a whole number"),
        ("safety_units=1_0", "safety_units is '1_0'; write a whole number"),
        ("safety_units=\uff11", "write a whole number"),
        ("safety_units=1.5", "safety_units is '1.5'; write a whole number"),
        ("priority_by_reliability=1", "priority_by_reliability is '1'; write true or false"),
        ("enabled=maybe", "enabled is 'maybe'; write true or false"),
    ],
)
def test_a_word_that_cannot_be_read_is_refused_with_its_remedy(word: str, said: str) -> None:
    with pytest.raises(Rejected, match=said):
        of_words("default", [word])


def test_a_field_is_given_once() -> None:
    with pytest.raises(Rejected, match="safety_units is given twice"):
        of_words("default", ["safety_units=1", "safety_units=2"])


def test_a_change_keeps_what_it_does_not_name_unless_it_replaces_it() -> None:
    changes = of_words("default", ["safety_units=5"])
    assert edited(HELD, changes, 9) == [Policy("default", 5, 9, safety_units=5, excluded=("supplier:x",))]
    assert edited(HELD, changes, 9, replace=True) == [Policy("default", 5, 9, safety_units=5)]


def test_an_empty_value_takes_a_decision_back() -> None:
    changes = of_words("default", ["safety_units=", "excluded="])
    assert edited(HELD, changes, 9) == [Policy("default", 5, 9)]


def test_what_changes_nothing_makes_no_version() -> None:
    assert edited(HELD, of_words("default", ["safety_units=2"]), 9) == []
    assert edited(HELD, of_words("sku:a", ["safety_units="]), 9) == []


def test_a_file_changes_many_scopes_at_once(tmp_path: Path) -> None:
    file = tmp_path / "policies.json"
    file.write_text(
        json.dumps({"sku:a": {"safety_units": 1}, "default": {"excluded": ["supplier:y"], "safety_units": None}})
    )
    assert edited(HELD, of_file(file), 9) == [
        Policy("sku:a", 1, 9, safety_units=1),
        Policy("default", 5, 9, excluded=("supplier:y",)),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "is no JSON of policies"),
        ("{}", "names no scope"),
        ("[]", "is no JSON of policies: Expected `object`"),
        ('{"sku:a": 1}', "is no JSON of policies"),
        ('{"shop": {}}', "scope is 'shop'"),
        ('{"sku:a": {"colour": 1}}', "'colour' is no field of a policy"),
        ('{"sku:a": {"safety_units": "3"}}', "safety_units of sku:a cannot be used: Expected `int.*got `str`"),
        ('{"sku:a": {"excluded": [1]}}', "excluded of sku:a cannot be used: Expected `str`, got `int`"),
        ('{"sku:a": {"safety_units": -3}}', "safety_units is -3"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_field(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "policies.json"
    file.write_text(text)
    with pytest.raises(Rejected, match=said):
        edited({}, of_file(file), 9)


def test_a_file_says_the_same_as_words_would(tmp_path: Path) -> None:
    file = tmp_path / "policies.json"
    file.write_text('{"default": {"strategy": "max", "excluded": [], "safety_units": 2}}')
    assert of_file(file) == of_words("default", ["strategy=max", "excluded=", "safety_units=2"])


def test_a_file_that_is_not_there_is_fatal(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match=r"cannot read .*none\.json: No such file"):
        of_file(tmp_path / "none.json")
