"""Alerts through a worker, against the real broker: each crossing once, whatever happens between."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from confluent_kafka import Producer

from inventory.alerts import never_looked_at
from schemas import keys
from schemas.codec import Codec
from schemas.policies import Policy, to_record
from schemas.registry import FileRegistry
from schemas.topics import ALERTS, POLICIES, STOCK
from streams import passes
from tests.deployment import Deployment, drive, drive_events, ready
from tests.generations import copy_rows
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.inventory.reservations.builders import command
from tests.streams.staging import PARTITIONS, crash, fail_once
from tests.streams.test_standby import Driven, say

SECOND_MS = 1_000
NOW = 1_700_000_000_000
CODEC = Codec("Policy", FileRegistry())


class Shop:
    """One deployment with a worker that is driven here; each count is folded and committed by itself."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.counts = 0
        self.policies = 0
        self.engine, self.identity = deployment.engine("w")

    def count(self, *units: int, sku: str = "sku-1", **fields: Any) -> None:
        for n in units:
            self.counts += 1
            event = Event("COUNT", f"c{self.counts}", self.counts * SECOND_MS, n)
            self.deployment.publish([update(event, sku=sku, **fields)])
            drive_events(self.engine, 1)

    def decide(self, scope: str = "default", **fields: int) -> None:
        """A policy, which the worker has heard of once this returns."""
        self.policies += 1
        policy = Policy(scope, self.policies, 0, **fields)  # type: ignore[arg-type]
        producer = Producer({"bootstrap.servers": self.deployment.bootstrap_servers})
        topic = self.deployment.topics[POLICIES.name].name
        producer.produce(topic, CODEC.encode(to_record(policy)), scope.encode(), 0)
        assert producer.flush(30) == 0
        self.hear()

    def hear(self) -> None:
        def heard() -> bool:
            self.engine.policies.look()
            return self.engine.policies.now().revision >= self.policies

        drive(self.engine, heard)

    def told(self, alerts: int) -> list[dict[str, Any]]:
        """What was told, once there are so many alerts."""
        drive(self.engine, lambda: len(self.deployment.alerts()) >= alerts)
        return self.deployment.alerts()

    def look_through(self) -> None:
        """Let a pass over all rows, by the policies that hold, come to its end."""
        revision = self.engine.policies.now().revision

        def gone_by() -> bool:
            every = [assigned.rows_pass for assigned in self.engine.processor._assigned.values()]
            ended = [each for each in every if (each._next, each._revision) == (None, revision)]
            return len(ended) == PARTITIONS

        drive(self.engine, gone_by)

    def at(self, now_ms: int) -> None:
        """Let the worker's clock say so."""
        alerts = self.engine.folder._alerts
        assert alerts is not None
        alerts._now_ms = lambda: now_ms

    def again(self, now_ms: int | None = None) -> None:
        """Another start. `now_ms`: what its clock says then."""
        self.engine.processor.close()
        self.engine, self.identity = self.deployment.engine_after(self.identity, "w")
        if now_ms is not None:
            self.at(now_ms)
        self.hear()

    def close(self) -> None:
        self.engine.processor.close()
        self.identity.release()


def kinds(alerts: list[dict[str, Any]]) -> list[str]:
    return [alert["kind"] for alert in alerts]


@pytest.fixture
def shop(deployment: Deployment) -> Shop:
    return Shop(deployment)


def test_out_of_stock_back_low_falling_and_rising_are_each_told_once_across_a_restart(shop: Shop) -> None:
    shop.decide(low_stock_units=5, low_stock_cleared_units=8)
    shop.count(20, 0)  # out of stock
    shop.again()
    shop.count(0, 20)  # back
    shop.count(7, 5)  # low, falling
    shop.again()
    shop.count(3, 7)
    shop.again()
    shop.count(8)  # and rising
    shop.again()
    shop.count(9, 10)
    shop.look_through()
    shop.close()
    told = shop.deployment.alerts()
    assert kinds(told) == ["STOCKOUT", "BACK_IN_STOCK", "LOW_STOCK", "LOW_STOCK_CLEARED"]
    assert [alert["available"] for alert in told] == [0, 20, 5, 8]
    assert [alert["previous"] for alert in told[1:]] == [alert["state"] for alert in told[:-1]]
    assert [alert["low_stock_units"] for alert in told] == [5] * 4
    assert len({alert["alert_id"] for alert in told}) == 4
    [message, *_] = shop.deployment.read(ALERTS.name)
    assert message.key() == b"sku-1"


def test_a_crossing_whose_transaction_was_undone_is_told_once(shop: Shop) -> None:
    shop.count(20)
    fail_once(shop.engine.processor, "commit_transaction")
    shop.count(0)
    crash(shop.engine, shop.deployment, "w", "again")
    engine, identity = shop.deployment.engine("again")
    drive(engine, ready(engine, PARTITIONS), timeout_s=30)
    shop.deployment.publish([update(Event("COUNT", "last", 9_000_000, 3))])
    drive_events(engine, 1)
    engine.processor.close()
    identity.release()
    shop.identity.release()
    assert kinds(shop.deployment.alerts()) == ["STOCKOUT", "BACK_IN_STOCK"]


def test_a_hold_takes_a_sku_out_of_stock_and_its_end_brings_it_back(shop: Shop) -> None:
    shop.count(3)
    shop.deployment.ask([dict(command(quantity=3, expires_in_ms=1_500))])
    assert kinds(shop.told(2)) == ["STOCKOUT", "BACK_IN_STOCK"]
    shop.close()


def test_a_source_that_counts_less_than_is_held_there_is_told_once_and_once_when_it_is_mended(shop: Shop) -> None:
    shop.count(5, supplier_id="acme")
    shop.count(50, supplier_id="bolt")
    shop.deployment.ask([dict(command(quantity=4, supplier_id="acme"))])
    drive(shop.engine, lambda: bool(shop.deployment.facts()))
    shop.count(3, 2, supplier_id="acme")
    shop.again()
    shop.count(1, 9, supplier_id="acme")
    shop.close()
    told = shop.deployment.alerts()
    assert kinds(told) == ["OVERSOLD_RISK", "OVERSOLD_RISK_CLEARED"]
    assert [(a["supplier_id"], a["location_id"], a["on_hand"], a["held"]) for a in told] == [
        ("acme", "default", 3, 4),
        ("acme", "default", 9, 4),
    ]


def test_a_recorded_score_takes_a_sku_out_of_stock_and_its_units_cannot_be_held(shop: Shop) -> None:
    shop.decide(reliability_percent_min=80)
    shop.count(50, supplier_id="acme")
    shop.look_through()
    assert shop.deployment.alerts() == []

    def decided(commands: int) -> bool:
        return len(shop.deployment.facts()) >= commands

    for asked, percent in enumerate((79, 80), 1):
        shop.decide("score:acme", reliability_percent=percent)
        shop.look_through()
        shop.deployment.ask([dict(command(reservation_id=f"r{percent}", command_id=f"c{percent}", quantity=1))])
        drive(shop.engine, partial(decided, asked))
    shop.close()
    assert [(a["kind"], a["policy_revision"]) for a in shop.deployment.alerts()] == [
        ("STOCKOUT", 2),
        ("BACK_IN_STOCK", 3),
    ]
    facts = {fact["reservation_id"]: (fact["state"], fact["policy_version"]) for fact in shop.deployment.facts()}
    assert facts == {"r79": ("REFUSED", 2), "r80": ("HELD", 3)}


def test_a_change_of_policies_tells_of_every_row_that_it_takes_across_and_of_no_other(shop: Shop) -> None:
    for n in range(20):
        shop.count(n, sku=f"sku-{n}")
    shop.look_through()
    assert shop.deployment.alerts() == []
    shop.decide(low_stock_units=5)
    told = shop.told(5)
    shop.look_through()
    shop.decide("sku:sku-9", safety_units=9)
    told = shop.told(6)
    before = shop.deployment.stock()
    shop.look_through()
    shop.close()
    assert sorted((alert["sku"], alert["kind"]) for alert in told) == [
        *((f"sku-{n}", "LOW_STOCK") for n in range(1, 6)),
        ("sku-9", "STOCKOUT"),
    ]
    assert [alert["policy_revision"] for alert in told if alert["sku"] == "sku-9"] == [2]
    after = shop.deployment.stock()
    assert {row.version for row in after.rows.values()} == {1}, "a change of state alone is no change of the row"
    assert after.positions == before.positions, "what finds nothing writes nothing"


def test_time_takes_what_its_source_says_nothing_of_out_of_stock(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "PAUSE_S", 0.2)
    shop.at(NOW)
    shop.count(7, sku="sku-1", observed_at=NOW, received_at=NOW, stale_after_ms=1_000)
    shop.count(7, sku="sku-2", observed_at=NOW, received_at=NOW)
    shop.look_through()
    assert shop.deployment.alerts() == []
    shop.at(NOW + 1_001)
    [alert] = shop.told(1)
    assert (alert["sku"], alert["kind"], alert["available"], alert["at"]) == ("sku-1", "STOCKOUT", 0, NOW + 1_001)
    shop.again(NOW - 60_000)  # a clock that is behind: what was stale stays so
    shop.look_through()
    assert len(shop.deployment.alerts()) == 1
    shop.count(7, sku="sku-1", observed_at=NOW + 900, received_at=NOW)
    shop.close()
    assert kinds(shop.deployment.alerts()) == ["STOCKOUT", "BACK_IN_STOCK"]


def test_a_switch_of_generations_tells_nothing_again_and_misses_nothing(deployment: Deployment) -> None:
    """The rows of the next one know of nothing that was told; the former goes on to tell until the very switch."""
    worker, numbers = Driven(deployment, "w"), iter(range(1, 99))

    def publish(**units: int) -> None:
        made = [Event("COUNT", f"c{n}", n * SECOND_MS, each) for n, each in zip(numbers, units.values(), strict=False)]
        deployment.publish([update(event, sku=sku) for sku, event in zip(units, made, strict=True)])

    publish(a=9, b=9, c=9, d=9, e=0)
    worker.until_folded(5)
    source = deployment.topics[STOCK.name]
    copy_rows(deployment.base, deployment.bootstrap_servers, source, 1, without_state)
    say(deployment, live=0, candidate=1)
    publish(a=0, b=0, f=5)
    worker.until_folded(8)
    publish(b=9, f=0)
    worker.until_folded(10)
    say(deployment, live=1, previous=0)
    worker.until(lambda: worker.number == 1)
    publish(a=5, c=0, g=0)  # with those that the former one had, in one batch of the next
    worker.until_folded(13)
    publish(d=0, e=7, g=1)
    worker.until_folded(16)
    worker.close()
    told = [(alert["sku"], alert["kind"]) for alert in deployment.alerts()]
    assert sorted(told) == [
        ("a", "BACK_IN_STOCK"),
        ("a", "STOCKOUT"),
        ("b", "BACK_IN_STOCK"),
        ("b", "STOCKOUT"),
        ("c", "STOCKOUT"),
        ("d", "STOCKOUT"),
        ("e", "BACK_IN_STOCK"),
        ("f", "STOCKOUT"),
        ("g", "BACK_IN_STOCK"),
    ]


def without_state(key: bytes, value: bytes) -> bytes:
    """As a rebuild takes rows over."""
    return never_looked_at(value) if key >= keys.ROW_FIRST else value
