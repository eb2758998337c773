"""A mistyped prefix is said, and nothing comes of it."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from stockweave import cli
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.errors import Fatal


@pytest.mark.parametrize(
    "command",
    [
        "verify",
        "rebuild --yes",
        "rebuild --dry-run",
        "rebuild --back --yes",
        "explain sku-1",
        "checkpoint create",
        "checkpoint restore 2026 --yes",
        "checkpoint trim --yes",
    ],
)
def test_a_command_that_looks_begins_no_deployment(
    command: str, broker: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = f"t{uuid.uuid4().hex[:8]}."
    for name, value in {
        "BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "TOPIC_PREFIX": prefix,
        "DATA_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(f"STOCKWEAVE_{name}", value)
    with pytest.raises(Fatal, match=r"is not there|there is no topic"):
        cli.app(command.split(), standalone_mode=False)
    topics = AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=10).topics
    assert [name for name in topics if name.startswith(prefix)] == []
