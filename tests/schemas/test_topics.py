from __future__ import annotations

from pathlib import Path

from schemas.topics import AVRO, CATALOGUE, FOLDED_SOURCES, STOCK, markdown, subjects

DOCS = Path(__file__).parents[2] / "docs" / "topics.md"


def test_the_docs_are_the_catalogue() -> None:
    assert DOCS.read_text() == markdown(), "run `python -m schemas.topics > docs/topics.md`"


def test_every_topic_is_named_once() -> None:
    assert len({topic.name for topic in CATALOGUE}) == len(CATALOGUE)


def test_what_is_folded_has_the_partitions_of_what_it_is_folded_into() -> None:
    assert STOCK.folded
    assert all(topic.folded for topic in FOLDED_SOURCES)


def test_logs_are_kept_and_state_is_compacted() -> None:
    policies = {topic.name: topic.policy for topic in CATALOGUE}
    kept = {name for name, policy in policies.items() if policy == "kept"}
    compacted = {name for name, policy in policies.items() if policy == "compacted"}
    assert kept == {"inventory.updates", "inventory.reservations", "inventory.dead-letters"}
    assert compacted == {
        "inventory.stock",
        "inventory.dead-letters-settled",
        "inventory.feeds",
        "inventory.generations",
        "inventory.policies",
        "inventory.sku-map",
    }
    assert policies["inventory.commands"] == "7 days"
    assert policies["inventory.alerts"] == "30 days"


def test_the_registrys_subjects_are_the_deployed_topics_values() -> None:
    found = subjects("shop-a.")
    assert found["StockUpdate"] == "shop-a.inventory.updates-value"
    assert set(found) == {topic.schema for topic in CATALOGUE if topic.wire == AVRO}
