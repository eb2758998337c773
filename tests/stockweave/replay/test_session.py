"""Laws of finding a Kafka: the named one, the running one, or the stopped one for a while; else a clear line."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from schemas.admin import ensure_topics
from stockweave.broker.kafka import EmbeddedKafka, kafka_answers
from stockweave.errors import Fatal, Retriable
from stockweave.ports import free_port
from stockweave.replay.session import kafka
from stockweave.settings import Settings

QUIET = Console(quiet=True)


def test_a_named_kafka_is_used_as_it_is(broker: EmbeddedKafka) -> None:
    with kafka(Settings(bootstrap_servers=broker.bootstrap_servers), QUIET) as found:
        assert found.bootstrap_servers == broker.bootstrap_servers


def test_a_named_kafka_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockweave.replay.session.ANSWER_S", 0.2)
    with pytest.raises(Retriable, match="does not answer"), kafka(Settings(bootstrap_servers="127.0.0.1:1"), QUIET):
        pass


def test_a_folder_without_a_broker_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="--data-dir"), kafka(Settings(data_dir=tmp_path / "none"), QUIET):
        pass
    assert not (tmp_path / "none").exists()


def test_a_stopped_broker_is_started_for_a_while_and_a_running_one_is_shared(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with EmbeddedKafka(tmp_path, free_port()) as running:
        named = settings.model_copy(update={"bootstrap_servers": running.bootstrap_servers})
        before = ensure_topics(named, running.bootstrap_servers)
        with kafka(settings, QUIET) as found:
            assert found.bootstrap_servers == running.bootstrap_servers
        assert running.answers(1.0)
    with kafka(settings, QUIET) as found:
        assert found.bootstrap_servers is not None
        assert ensure_topics(found, found.bootstrap_servers) == before
    assert not kafka_answers(found.bootstrap_servers, 0.2)
