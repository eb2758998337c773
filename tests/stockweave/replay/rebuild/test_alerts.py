"""Rebuild and alerts: it tells none, and each crossing around the switch is told once."""

from __future__ import annotations

import pytest

from inventory.alerts import LEVEL
from schemas import keys
from schemas.admin import ensure_topics
from schemas.generations import name_of
from schemas.rows import decode_row
from stockweave.replay.rebuild import follow, rebuild
from stockweave.replay.rebuild.plan import Wanted
from streams.assembly import Engine
from tests.deployment import Deployment, drive, drive_events
from tests.generations import read_partition
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.stockweave.replay.planted import verified
from tests.stockweave.replay.rebuild.rebuilt import rebuilt
from tests.stockweave.replay.reserved import working

Told = list[tuple[str, str]]


def count(deployment: Deployment, engine: Engine, at: int, **units: int) -> None:
    """Counts by SKU, observed at one time; folded and committed."""
    made = [update(Event("COUNT", f"c{at}", at * 1_000, n), sku=sku) for sku, n in units.items()]
    drive_events(engine, deployment.publish(made))


def told(deployment: Deployment) -> Told:
    return sorted((alert["sku"], alert["kind"]) for alert in deployment.alerts())


def test_a_rebuild_tells_nothing_and_what_crosses_around_the_switch_is_told_once(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "WAIT_S", 0.1)
    switch = rebuild.Rebuild.switch
    with working(deployment) as engine:
        count(deployment, engine, 1, a=9, b=9, c=0, d=9)
        count(deployment, engine, 2, a=0)

        def late_switch(self: rebuild.Rebuild) -> None:
            count(deployment, engine, 3, b=0, e=9)
            switch(self)

        monkeypatch.setattr(rebuild.Rebuild, "switch", late_switch)
        rebuilt(deployment)
        assert told(deployment) == [("a", "STOCKOUT"), ("b", "STOCKOUT")]
        drive(engine, lambda: engine.processor._stock.endswith(".g1"))
        deployment.topics = ensure_topics(deployment.base, deployment.bootstrap_servers)
        drive(engine, lambda: deployment.stock().events == 7)
        drive(engine, lambda: all(row.alert & LEVEL for row in deployment.stock().rows.values()))
        assert told(deployment) == [("a", "STOCKOUT"), ("b", "STOCKOUT")]
        count(deployment, engine, 4, a=5, b=0, c=1, d=0, e=0)
        assert verified(deployment)[0].is_right
    assert told(deployment) == [
        ("a", "BACK_IN_STOCK"),
        ("a", "STOCKOUT"),
        ("b", "STOCKOUT"),
        ("c", "BACK_IN_STOCK"),
        ("d", "STOCKOUT"),
        ("e", "STOCKOUT"),
    ]


def test_what_was_told_of_rows_is_not_taken_over_with_them(deployment: Deployment) -> None:
    with working(deployment) as engine:
        count(deployment, engine, 1, a=9, b=0, c=0, d=9)
    now = rebuilt(deployment, Wanted(partitions=()))
    states = {}
    for topic in (name_of(0, deployment.base), now.live.topic):
        of_all = [read_partition(deployment.bootstrap_servers, topic, number) for number in (0, 1)]
        rows = [decode_row(kept[key]) for kept in of_all for key in kept if key >= keys.ROW_FIRST]
        states[topic] = {row.sku: row.alert for row in rows}
    assert list(states.values()) == [{"a": 1, "b": 3, "c": 3, "d": 1}, dict.fromkeys("abcd", 0)]
