"""When a score is recorded: only once it is a step away, and stays so; and the commands over a real broker."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.policies import Policies
from schemas.feed_health import HOUR_MS, MARK, FeedHealth, Hour, encode
from schemas.keys import partition_of
from schemas.policies import Policy
from schemas.topics import FEEDS
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.clients import send_all
from stockweave.policies.command import Asked, diff, get, history, set_policies
from stockweave.policies.edit import edited, of_file
from stockweave.policies.scores import Scores, Steady, as_changes, follow, measured, recorded, show
from stockweave.world import SystemClock
from tests.api.stock import Stock, row

WAIT_S = 20.0
MINUTE_MS = 60_000


def looks(steady: Steady, before: Scores, *seen: Scores) -> list[Scores]:
    """What is to be recorded at each look, a minute apart, if it is recorded at once."""
    found = []
    for minute, now in enumerate(seen):
        due = steady.look(before, now, minute * MINUTE_MS)
        before = before | due
        found.append(due)
    return found


def test_less_than_a_step_is_not_recorded_and_a_step_is_either_way() -> None:
    at_once = Steady(5, 0)
    assert looks(at_once, {"acme": 80}, {"acme": 84}, {"acme": 76}, {"acme": 75}, {"acme": 79}, {"acme": 80}) == [
        {}, {}, {"acme": 75}, {}, {"acme": 80},
    ]  # fmt: skip


def test_a_score_is_recorded_once_it_was_away_at_each_look_for_as_long() -> None:
    held = Steady(5, 2 * MINUTE_MS)
    assert looks(held, {"acme": 80}, *({"acme": n} for n in (60, 70, 79, 60, 65, 61, 61))) == [
        {}, {}, {}, {}, {}, {"acme": 61}, {},
    ]  # fmt: skip
    assert looks(Steady(5, MINUTE_MS), {"acme": 80}, {"acme": 70}, {"acme": 90}, {"acme": 90}) == [{}, {}, {"acme": 90}]


def test_a_supplier_without_a_record_gets_one_when_it_was_seen_for_as_long() -> None:
    assert looks(Steady(5, 0), {}, {"acme": 0}) == [{"acme": 0}]
    assert looks(Steady(5, MINUTE_MS), {}, {"acme": 3}, {"acme": 2}) == [{}, {"acme": 2}]


def test_a_supplier_of_which_nothing_is_told_keeps_its_score_and_begins_anew_when_it_is_back() -> None:
    steady = Steady(5, MINUTE_MS)
    assert looks(steady, {"acme": 80}, {"acme": 10}, {}, {"acme": 10}, {"acme": 10}) == [{}, {}, {}, {"acme": 10}]


percents = st.integers(0, 100)


@given(st.lists(percents, min_size=1, max_size=60), st.integers(1, 30), st.integers(0, 5))
def test_two_records_of_a_supplier_are_a_step_and_a_while_apart(seen: list[int], step: int, minutes: int) -> None:
    found = looks(Steady(step, minutes * MINUTE_MS), {"acme": seen[0]}, *({"acme": n} for n in seen))
    before, since = seen[0], -1
    for minute, due in enumerate(found):
        if due:
            assert due == {"acme": seen[minute]}
            assert minute - since > minutes
            assert all(abs(n - before) >= step for n in seen[minute - minutes : minute + 1])
            before, since = seen[minute], minute


def health(feed: str, **counts: int) -> FeedHealth:
    now_ms = SystemClock().now_ms()
    hours = [Hour(hour=now_ms // HOUR_MS, **counts)]
    return FeedHealth(feed=feed, expected_ms=HOUR_MS, polled_at=now_ms, at_ms=now_ms, hours=hours)


def test_a_supplier_s_score_is_that_of_its_worst_feed_in_whole_percent_and_of_one_that_is_gone_there_is_none() -> None:
    now_ms = SystemClock().now_ms()
    gone = health("old/stock")
    gone.at_ms -= 40 * HOUR_MS
    feeds = [health("a/stock", polls=90), health("a/prices", polls=90, failures=45), health("b/stock"), gone]
    assert measured(feeds, now_ms) == {"a": round(100 * 0.54 * 0.81), "b": 73}


def test_what_is_recorded_is_what_changes_made_it() -> None:
    held = {policy.scope: policy for policy in edited({}, as_changes({"acme": 93, "best": 0}), 9)}
    assert recorded(Policies(held | {"default": Policy("default", 1)})) == {"acme": 93, "best": 0}


@pytest.fixture
def stock(broker: EmbeddedKafka, tmp_path: Path) -> Stock:
    stock = Stock(broker.bootstrap_servers, tmp_path)
    topic = stock.topics[FEEDS.name]
    for each in (health("acme/stock", polls=90, failures=45), health("best/stock", polls=990, rows=990)):
        told = [(f"{each.feed}{MARK}", encode(each)), (each.feed, b"{}")]
        send_all(stock.bootstrap_servers, topic.name, told, partition_of(each.feed.encode(), topic.partitions))
    return stock


def test_scores_are_printed_as_a_file_that_diff_tries_and_set_records(
    stock: Stock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stock.write(row("milk", acme=10, best=5))
    least = Asked("default", ["reliability_percent_min=80"], None, replace=False)
    set_policies(stock.settings, least, None, json=True)
    capsys.readouterr()
    show(stock.settings, 5)
    told = capsys.readouterr().out
    assert json.loads(told) == {
        "score:acme": {"reliability_percent": 44},
        "score:best": {"reliability_percent": 100},
    }
    file = tmp_path / "scores.json"
    file.write_text(told)
    asked = Asked(None, (), file, replace=False)
    diff(stock.settings, asked, 1, everything=False, json=False)
    assert capsys.readouterr().out.splitlines()[0] == "milk: 15 -> 5"
    set_policies(stock.settings, asked, None, json=True)
    capsys.readouterr()
    show(stock.settings, 5)
    assert json.loads(capsys.readouterr().out) == {}
    get(stock.settings, "score:acme", json=False)
    assert capsys.readouterr().out.splitlines()[0] == "score:acme (version 1): reliability_percent=44"
    assert of_file(file) == as_changes({"acme": 44, "best": 100})


def test_what_changes_and_stays_so_is_recorded_as_it_comes_and_history_has_each(
    stock: Stock, capsys: pytest.CaptureFixture[str]
) -> None:
    stopping, settings = Event(), stock.settings
    following = Thread(target=follow, args=(settings, Steady(5, 0), 0.05, stopping))
    following.start()
    try:
        assert until_recorded(stock, "acme", 44, capsys)
        better = health("acme/stock", polls=990, rows=990)
        topic = stock.topics[FEEDS.name]
        partition = partition_of(better.feed.encode(), topic.partitions)
        send_all(stock.bootstrap_servers, topic.name, [(f"acme/stock{MARK}", encode(better))], partition)
        assert until_recorded(stock, "acme", 100, capsys)
    finally:
        stopping.set()
        following.join(WAIT_S)
    assert not following.is_alive()
    capsys.readouterr()
    history(settings, "score:acme", json=True)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(each["version"], each["reliability_percent"]) for each in told] == [(1, 44), (2, 100)]


def until_recorded(stock: Stock, supplier: str, percent: int, capsys: pytest.CaptureFixture[str]) -> bool:
    clock = SystemClock()
    deadline_s = clock.monotonic_s() + WAIT_S
    while clock.monotonic_s() < deadline_s:
        capsys.readouterr()
        get(stock.settings, None, json=True)
        policies = json.loads(capsys.readouterr().out.splitlines()[-1])["policies"]
        if (f"score:{supplier}", percent) in [(p["scope"], p.get("reliability_percent")) for p in policies]:
            return True
    return False
