from __future__ import annotations

import re
import secrets
import unicodedata
import uuid

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import keys
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.clients import client_config

PARTITIONS = 7


@pytest.mark.parametrize(
    ("data", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_the_java_client(data: bytes, signed: int) -> None:
    """The vectors are those that Apache Kafka's own tests hold its Java client to."""
    assert keys.murmur2(data) == signed % 2**32


def test_a_key_goes_where_the_producer_sends_it(broker: EmbeddedKafka) -> None:
    topic = f"keys-{uuid.uuid4().hex[:8]}"
    admin = AdminClient(client_config(broker.bootstrap_servers))
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result()
    producer = Producer(client_config(broker.bootstrap_servers) | {"partitioner": "murmur2_random"})
    sent = [secrets.token_bytes(length) for length in range(1, 40) for _ in range(10)]
    sent += [sku.encode() for sku in ("1029743", "Käse-№7", "靴-42", "a" * 128)]
    landed: dict[bytes, int] = {}

    def delivered(error: object, message: Message) -> None:
        assert error is None
        key, partition = message.key(), message.partition()
        assert isinstance(key, bytes)
        assert partition is not None
        landed[key] = partition

    for key in sent:
        producer.produce(topic, value=b"x", key=key, on_delivery=delivered)
    assert producer.flush(30) == 0
    admin.delete_topics([topic])[topic].result()
    assert landed == {key: keys.partition_of(key, PARTITIONS) for key in sent}
    assert set(landed.values()) == set(range(PARTITIONS))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "is empty"),
        ("a" * 129, "has 129 characters; at most 128"),
        (" a", "space"),
        ("a ", "space"),
        ("\u00a0ü", "space"),
        ("a\tb", "control character"),
        ("a\x1fb", "control character"),
        ("a\x00", "control character"),
        ("a\x7f", "control character"),
        ("ü\x85", "control character"),
        ("\ud800", "control character"),
        ("u\u0308", "NFC"),
    ],
)
def test_an_id_that_breaks_the_rules_is_told_why(value: str, problem: str) -> None:
    assert problem in (keys.id_problem(value) or "")


@pytest.mark.parametrize("value", ["1", "A-1", "a b", "a" * 128, "ü", "靴", "store-367", "€/kg", "👟" * 128])
def test_an_ordinary_id_is_fine(value: str) -> None:
    assert keys.id_problem(value) is None


@given(st.text(max_size=130))
def test_an_id_is_fine_exactly_when_it_follows_every_rule(value: str) -> None:
    fine = (
        1 <= len(value) <= 128
        and value == value.strip()
        and all(unicodedata.category(c) not in ("Cc", "Cs") for c in value)
        and unicodedata.normalize("NFC", value) == value
    )
    assert (keys.id_problem(value) is None) == fine


@given(st.text(min_size=1, max_size=20).filter(lambda s: keys.id_problem(s) is None), st.text(min_size=1, max_size=20))
def test_no_sku_is_a_reserved_key_and_rows_sort_after_those(sku: str, reservation_id: str) -> None:
    row = sku.encode()
    reserved = (keys.POSITION, keys.LOCAL, keys.hold_key(sku, reservation_id))
    assert all(key < keys.ROW_FIRST <= row for key in reserved)


def test_the_holds_of_a_sku_are_neighbours() -> None:
    made = sorted(keys.hold_key(sku, rid) for sku in ("a", "a-1", "ab", "b") for rid in ("r1", "r2"))
    prefixes = [key.split(b"\0")[0] for key in made]
    assert prefixes == sorted(prefixes)
    assert len(set(prefixes)) == 4
    assert all(prefixes.count(p) == 2 for p in prefixes)


@given(st.text(max_size=9), st.text(max_size=9))
def test_a_source_key_tells_supplier_from_location(supplier: str, location: str) -> None:
    if keys.id_problem(supplier) is None and keys.id_problem(location) is None:
        assert keys.source_key(supplier, location).split(keys.SOURCE_SEPARATOR) == [supplier, location]


_edgy = st.text(st.one_of(st.characters(), st.sampled_from(" \t\n\x1f\x7f\x85\u00a0\u2003\u3000\ufeff,a")), max_size=6)


@settings(derandomize=True, deadline=None)
@given(st.one_of(_edgy, _edgy.map(lambda text: "x" + text * 40 + "y")))
def test_the_pattern_in_descriptions_takes_what_the_rule_takes_but_for_the_composed_form(value: str) -> None:
    surrogates = any(unicodedata.category(c) == "Cs" for c in value)  # which no JSON in UTF-8 can hold
    problem = keys.id_problem(value)
    if not surrogates and (problem is None or "NFC" not in problem):
        assert (re.fullmatch(keys.ID_PATTERN, value) is not None) == (problem is None)
        several = re.fullmatch(keys.IDS_PATTERN, value) is not None
        assert several == all(
            keys.id_problem(part) is None or "NFC" in str(keys.id_problem(part)) for part in value.split(",")
        )


def test_all_feeds_of_a_supplier_are_in_one_partition_and_suppliers_are_spread() -> None:
    suppliers = [f"supplier-{n}" for n in range(50)]
    for supplier in suppliers:
        assert len({keys.feed_partition(f"{supplier}/feed-{n}", 8) for n in range(50)}) == 1
    assert {keys.feed_partition(f"{supplier}/stock", 8) for supplier in suppliers} == set(range(8))
