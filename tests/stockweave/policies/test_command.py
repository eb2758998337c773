"""`stockweave policies` over a real broker, as its commands run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stockweave.broker.kafka import EmbeddedKafka
from stockweave.errors import Fatal, Rejected
from stockweave.policies import command
from stockweave.policies.command import Asked, diff, get, history, set_policies
from stockweave.settings import Settings
from stockweave.writer import Writer
from tests.api.stock import Stock, row


@pytest.fixture
def stock(broker: EmbeddedKafka, tmp_path: Path) -> Stock:
    return Stock(broker.bootstrap_servers, tmp_path)


class Shop:
    """Runs the commands and reads what they print."""

    def __init__(self, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        self.settings = settings
        self._capsys = capsys

    def set(self, scope: str, *words: str, if_version: int | None = None, replace: bool = False) -> list[str]:
        set_policies(self.settings, Asked(scope, words, None, replace), if_version, json=False)
        return self.printed()

    def diff(self, scope: str, *words: str, everything: bool = False, jobs: int = 1) -> list[str]:
        diff(self.settings, Asked(scope, words, None, replace=False), jobs, everything=everything, json=False)
        return self.printed()

    def printed(self) -> list[str]:
        return self._capsys.readouterr().out.splitlines()

    def json(self) -> Any:
        return json.loads(self.printed()[-1])  # log lines may come before


@pytest.fixture
def shop(stock: Stock, capsys: pytest.CaptureFixture[str]) -> Shop:
    return Shop(stock.settings, capsys)


def test_what_was_set_is_what_get_tells_and_history_tells_all_of_it(shop: Shop) -> None:
    get(shop.settings, None, json=False)
    assert shop.printed() == ["no policies: every number is the sum of its sources"]
    assert shop.set("default", "safety_units=2", "excluded=supplier:x,location:y") == [
        "default (version 1): excluded=supplier:x,location:y safety_units=2",
        "revision 1",
    ]
    shop.set("supplier:acme", "enabled=false")
    shop.set("default", "safety_units=3", "excluded=")
    get(shop.settings, None, json=False)
    told = shop.printed()
    assert told[:2] == ["default (version 2): safety_units=3", "supplier:acme (version 1): enabled=false"]
    get(shop.settings, "supplier:acme", json=True)
    assert [policy["enabled"] for policy in shop.json()["policies"]] == [False]
    history(shop.settings, "default", json=True)
    assert [(change["version"], change["safety_units"]) for change in shop.json()] == [(1, 2), (2, 3)]
    history(shop.settings, None, json=False)
    assert [line.partition("  revision ")[2].partition("  ")[2] for line in shop.printed()] == [
        "default (version 1): excluded=supplier:x,location:y safety_units=2",
        "supplier:acme (version 1): enabled=false",
        "default (version 2): safety_units=3",
    ]


def test_a_name_is_printed_as_it_is(shop: Shop) -> None:
    assert shop.set("sku:a:b:smile:", "safety_units=2")[0] == "sku:a:b:smile: (version 1): safety_units=2"


def test_a_policy_that_decides_nothing_any_more_is_not_told_and_its_versions_go_on(shop: Shop) -> None:
    shop.set("sku:a", "safety_units=2")
    assert shop.set("sku:a", replace=True)[0] == "sku:a (version 2): decides nothing"
    with pytest.raises(Rejected, match="sku:a has no policy"):
        get(shop.settings, "sku:a", json=False)
    assert shop.set("sku:a", "safety_units=1")[0] == "sku:a (version 3): safety_units=1"


def test_a_change_that_changes_nothing_is_not_written(shop: Shop) -> None:
    before = shop.set("sku:a", "safety_units=2")
    assert shop.set("sku:a", "safety_units=2") == ["nothing to change: it is so already", *before]


def test_a_change_by_version_is_made_only_of_that_version(shop: Shop) -> None:
    shop.set("sku:a", "safety_units=2", if_version=0)
    for version in (0, 2):
        with pytest.raises(Rejected, match=f"sku:a has version 1, not {version}"):
            shop.set("sku:a", "safety_units=3", if_version=version)
    assert shop.set("sku:a", "safety_units=3", if_version=1)[0] == "sku:a (version 2): safety_units=3"


def test_of_two_that_change_at_once_only_the_later_does(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Writer.commit

    def late(self: Writer, records: Any) -> None:
        monkeypatch.setattr(Writer, "commit", plain)
        shop.set("default", "safety_units=9")  # comes in between
        plain(self, records)

    monkeypatch.setattr(Writer, "commit", late)
    with pytest.raises(Fatal, match="another command has begun to change the policies"):
        shop.set("default", "safety_units=1")
    get(shop.settings, None, json=True)
    [policy] = shop.json()["policies"][-1:]
    assert (policy["version"], policy["safety_units"]) == (1, 9)


def test_diff_names_the_numbers_that_a_change_would_touch_and_changes_none(shop: Shop, stock: Stock) -> None:
    stock.write(*(row(f"sku-{i:02}", acme=i, best=1) for i in range(30)))
    assert shop.diff("default", "safety_units=2") == [
        "sku-00: 1 -> 0",
        *(f"sku-{i:02}: {i + 1} -> {i - 1}" for i in range(1, 20)),
        "and more; --all shows them",
        "30 of 30 SKUs would have another number; nothing is changed",
    ]
    assert shop.diff("supplier:acme", "enabled=false", everything=True, jobs=2) == [
        *(f"sku-{i:02}: {i + 1} -> 1" for i in range(1, 30)),
        "29 of 30 SKUs would have another number; nothing is changed",
    ]
    assert shop.diff("sku:sku-07", "backorder_units_max=5")[0] == "sku-07: 8 -> 13"
    assert shop.diff("sku:none", "safety_units=5")[-1].startswith("0 of ")
    assert shop.diff("channel:web", "channel_share_percent=50", everything=True)[0] == "sku-00 in channel web: 1 -> 0"
    get(shop.settings, None, json=True)
    assert shop.json() == {"revision": 0, "policies": []}


def test_diff_knows_that_a_pool_of_two_suppliers_counts_once(shop: Shop, stock: Stock) -> None:
    stock.write(row("sku-1", acme=10, best=7), row("sku-2", acme=10), row("sku-3", best=4, cheap=4))
    assert shop.set("supplier:acme", "pool=main")[0] == "supplier:acme (version 1): pool=main"
    assert shop.diff("supplier:best", "pool=main") == [
        "sku-1: 17 -> 7",
        "1 of 3 SKUs would have another number; nothing is changed",
    ]


def test_diff_is_by_the_policies_that_hold(shop: Shop, stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SHOWN_MAX", 1)
    stock.write(row("sku-1", acme=10), row("sku-2", acme=10))
    shop.set("sku:sku-1", "safety_units=4")
    asked = Asked("default", ["safety_units=1"], None, replace=False)
    diff(shop.settings, asked, 1, everything=True, json=True)
    assert shop.json() == {
        "rows": 2,
        "skus": 1,
        "numbers": [{"sku": "sku-2", "channel": "default", "before": 10, "after": 9}],
    }


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(None, (), None, replace=False), "give a scope and field=value, or --file"),
        (Asked("default", (), None, replace=False), "give a scope and field=value, or --file"),
        (Asked("default", (), Path("x.json"), replace=False), "give either a scope and its fields, or --file"),
        (Asked("default", ("safety_units=-1",), None, replace=False), "safety_units is -1"),
    ],
)
def test_what_cannot_be_asked_is_refused(shop: Shop, asked: Asked, said: str) -> None:
    with pytest.raises(Rejected, match=said):
        set_policies(shop.settings, asked, None, json=False)
