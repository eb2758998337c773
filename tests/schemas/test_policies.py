"""A policy's checks, and the log of policies over a real broker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from schemas.admin import ensure_topics
from schemas.codec import Codec
from schemas.policies import FIELDS, PRIORITY, Policy, check, kind_of, of_record, to_record
from schemas.policy_log import Change, PolicyLog, read
from schemas.registry import FileRegistry
from schemas.topics import POLICIES
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.clients import CLIENT_LOGGER
from stockweave.errors import Rejected
from stockweave.settings import Settings

CODEC = Codec("Policy", FileRegistry())
WAIT_S = 20.0


@pytest.mark.parametrize(
    ("scope", "kind"),
    [
        ("default", "default"),
        ("sku:A:1", "sku"),
        ("channel:web", "channel"),
        ("supplier:acme", "supplier"),
        ("score:a", "score"),
    ],
)
def test_a_scope_is_the_default_or_a_kind_and_an_id(scope: str, kind: str) -> None:
    assert kind_of(scope) == kind


@pytest.mark.parametrize("scope", ["", "sku", "sku:", "shop:1", "default:", "sku: a", "location:a\n"])
def test_anything_else_is_refused_as_a_scope(scope: str) -> None:
    with pytest.raises(Rejected, match="scope") as refused:
        kind_of(scope)
    assert refused.value.field == "scope"


@pytest.mark.parametrize(
    ("scope", "fields", "said"),
    [
        ("supplier:acme", {"strategy": "MAX"}, "strategy is not decided by supplier policies, but by those of default"),
        ("default", {"enabled": False}, "enabled is not decided by default policies, but by those of supplier and loc"),
        ("default", {"channel_share_percent": 5}, "channel_share_percent .* but by those of channel"),
        ("default", {"strategy": "BEST"}, "strategy is 'BEST'; choose among SUM, PRIORITY, MIN, MAX"),
        ("default", {"strategy": PRIORITY}, "priority and strategy=PRIORITY come together"),
        ("default", {"priority": ("acme",)}, "priority and strategy=PRIORITY come together"),
        ("default", {"strategy": PRIORITY, "priority": ("a", "a")}, "priority names one twice"),
        (
            "default",
            {"strategy": PRIORITY, "priority": ("a ",)},
            "priority has 'a ', which begins or ends with a space",
        ),
        ("default", {"excluded": ("acme",)}, "excluded has 'acme'; write supplier: or location:"),
        ("default", {"excluded": ("supplier:",)}, "excluded has 'supplier:', which is empty"),
        ("default", {"excluded": tuple(f"supplier:{i}" for i in range(1_001))}, "excluded has 1001 entries"),
        ("default", {"safety_units": -1}, "safety_units is -1; send a whole number from 0 to"),
        ("default", {"safety_percent": 101}, "safety_percent is 101; send a whole number from 0 to 100"),
        ("channel:web", {"channel_share_percent": 101}, "channel_share_percent is 101"),
        ("sku:a", {"backorder_units_max": 10**12 + 1}, "backorder_units_max is"),
        ("location:a", {"stale_after_ms": 0}, "stale_after_ms is 0; send a whole number from 1 to"),
        ("location:a", {"stale_floor_units": -1}, "stale_floor_units is -1"),
        ("supplier:a", {"netting_delay_ms": -1}, "netting_delay_ms is -1; send a whole number from 0 to 604800000"),
        ("channel:web", {"netting_delay_ms": 1}, "netting_delay_ms is not decided by channel policies"),
        ("default", {"pool": "main"}, "pool is not decided by default policies, but by those of supplier and location"),
        ("sku:a", {"pool": "main"}, "pool is not decided by sku policies"),
        ("channel:web", {"pool": "main"}, "pool is not decided by channel policies"),
        ("supplier:a", {"pool": ""}, "pool is '', which is empty"),
        ("location:a", {"pool": " x"}, "pool is ' x', which begins or ends with a space"),
        (
            "default",
            {"reliability_percent_min": 101},
            "reliability_percent_min is 101; send a whole number from 0 to 100",
        ),
        ("supplier:a", {"reliability_percent_min": 80}, "reliability_percent_min is not decided by supplier policies"),
        (
            "supplier:a",
            {"reliability_percent": 80},
            "reliability_percent is not decided by supplier .* by those of score",
        ),
        ("score:a", {"reliability_percent": -1}, "reliability_percent is -1; send a whole number from 0 to 100"),
        (
            "score:a",
            {"enabled": False},
            "enabled is not decided by score policies, but by those of supplier and location",
        ),
        ("default", {"priority_by_reliability": True}, "priority_by_reliability comes with strategy=PRIORITY; set it"),
        (
            "default",
            {"priority_by_reliability": False, "strategy": "MAX"},
            "priority_by_reliability comes with strategy=",
        ),
        ("default", {"low_stock_units": -1}, "low_stock_units is -1; send a whole number from 0 to"),
        (
            "channel:web",
            {"low_stock_units": 3},
            "low_stock_units is not decided by channel policies, but by those of def",
        ),
        ("default", {"low_stock_cleared_units": 3}, "low_stock_cleared_units comes with low_stock_units; send both"),
        (
            "sku:a",
            {"low_stock_units": 3, "low_stock_cleared_units": 3},
            "low_stock_cleared_units is 3, and low_stock_units is 3; send both, and more for this one",
        ),
    ],
)
def test_what_cannot_be_decided_is_refused_with_the_field_and_the_remedy(
    scope: str, fields: dict[str, object], said: str
) -> None:
    with pytest.raises(Rejected, match=said) as refused:
        check(Policy(scope, **fields))  # type: ignore[arg-type]
    assert refused.value.field in FIELDS


def test_a_policy_comes_back_from_its_message_as_it_was() -> None:
    whole = Policy(
        "sku:a", 3, 5, PRIORITY, ("b", "a"), ("supplier:x",), None, 1, 2, None, 4, 1_000, 6, 7, 8, 9,
        priority_by_reliability=True, reliability_percent_min=80,
    )  # fmt: skip
    score = Policy("score:acme", 1, 1, reliability_percent=93)
    for policy in (whole, score, Policy("default", 2, 9), Policy("supplier:acme", 1, 1, enabled=False, pool="main")):
        [decoded] = CODEC.decode([CODEC.encode(to_record(policy))])
        assert not isinstance(decoded, Rejected)
        assert of_record(decoded) == policy


@pytest.fixture
def deployed(broker: EmbeddedKafka) -> Settings:
    settings = Settings(_env_file=None, topic_prefix=f"policy-{uuid.uuid4().hex[:8]}.", partitions=1)
    ensure_topics(settings, broker.bootstrap_servers)
    return settings


@pytest.fixture
def log(broker: EmbeddedKafka, deployed: Settings) -> Iterator[PolicyLog]:
    made = PolicyLog(deployed, broker.bootstrap_servers, CODEC)
    yield made
    made.close()


def write(broker: EmbeddedKafka, settings: Settings, *records: tuple[bytes, bytes | None]) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers}, logger=CLIENT_LOGGER)
    for key, value in records:
        producer.produce(settings.topic(POLICIES.name), value, key, 0)
    assert producer.flush(WAIT_S) == 0


def message(policy: Policy) -> tuple[bytes, bytes]:
    return policy.scope.encode(), CODEC.encode(to_record(policy))


def test_changes_are_read_in_their_order_with_the_revision_that_each_makes(
    broker: EmbeddedKafka, deployed: Settings, log: PolicyLog
) -> None:
    assert read(deployed, broker.bootstrap_servers, CODEC) == []
    first, second = Policy("default", 1, 5, safety_units=1), Policy("default", 2, 6, safety_units=2)
    write(broker, deployed, message(first), message(second))
    expected = [Change(1, first), Change(2, second)]
    assert read(deployed, broker.bootstrap_servers, CODEC) == expected
    found: list[Change] = []
    while len(found) < 2:
        found += log.poll(1.0)
    assert found == expected


def test_a_record_that_cannot_be_used_is_passed_over_and_what_held_before_stays(
    broker: EmbeddedKafka, deployed: Settings
) -> None:
    good = Policy("default", 1, 5, safety_units=1)
    other = message(Policy("sku:a", 1, 5, safety_units=1))
    wrong = CODEC.encode(to_record(Policy("default", 2, 6, safety_units=-1)))
    unusable = ((b"default", wrong), (b"default", b"nonsense"), (b"default", None), (b"x", other[1]))
    write(broker, deployed, message(good), *unusable, other)
    changes = read(deployed, broker.bootstrap_servers, CODEC)
    assert [(change.revision, change.policy.scope) for change in changes] == [(1, "default"), (6, "sku:a")]
    assert changes[0].policy == good
