"""Fixtures that all tests share: a real broker for the session, and brokers of their own for tests that end them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from stockweave.broker.kafka import EmbeddedKafka
from stockweave.ports import free_port

# Tests start some hundred processes: with this set, each would compile all that it imports, which doubles its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

_LIGHT = {
    "log.cleaner.dedupe.buffer.size": str(16 << 20),
    "log.cleaner.backoff.ms": "500",  # a compaction that a test waits for comes within a second
    "num.network.threads": "2",
    "num.io.threads": "4",
}

BrokerFactory = Callable[[], EmbeddedKafka]

LONG = (Path(__file__).parent / "system", Path(__file__).parent / "linearizability" / "test_recorded.py")


def _new_broker(data_dir: Path) -> EmbeddedKafka:
    return EmbeddedKafka(data_dir, free_port(), heap_mb=512, properties=_LIGHT)


@pytest.fixture(scope="session", autouse=True)
def loggers_are_not_kept() -> Iterator[None]:
    """A command that a test runs in this process configures logging, and loggers would stay as they were first used."""
    configure = structlog.configure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", lambda **how: configure(**how | {"cache_logger_on_first_use": False}))
        yield


@pytest.fixture(autouse=True)
def logging_is_as_before() -> Iterator[None]:
    """So that what a test configures is no other's matter."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def broker() -> Iterator[EmbeddedKafka]:
    """A started broker for all tests of the session; isolate yourself by a unique `topic_prefix`."""
    data_dir = Path(tempfile.mkdtemp(prefix="stockweave-broker-"))
    kafka = _new_broker(data_dir)
    try:
        yield kafka.start()
    finally:
        kafka.stop()
        shutil.rmtree(data_dir)


@pytest.fixture
def broker_factory() -> Iterator[BrokerFactory]:
    """Makes brokers, not started, that a test may `start`, `kill` and `stop` as it likes; all gone after the test."""
    made: list[EmbeddedKafka] = []

    def make() -> EmbeddedKafka:
        made.append(_new_broker(Path(tempfile.mkdtemp(prefix="stockweave-broker-"))))
        return made[-1]

    try:
        yield make
    finally:
        for kafka in made:
            kafka.stop()
            shutil.rmtree(kafka.data_dir)


def pytest_configure(config: pytest.Config) -> None:
    """Before a whole suite, teach Java to start Kafka in half the time: many brokers start in it.

    The classes that Kafka loads are kept in an archive (class data sharing), and are compiled quickly rather than well.
    """
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        return
    folder = Path(tempfile.mkdtemp(prefix="stockweave-java-"))
    config.add_cleanup(lambda: shutil.rmtree(folder))
    archive, options = folder / "kafka.jsa", "-XX:TieredStopAtLevel=1"
    os.environ["JAVA_TOOL_OPTIONS"] = f"{options} -XX:ArchiveClassesAtExit={archive}"
    with _new_broker(folder / "data"):
        pass
    if archive.exists():  # not every Java can
        options += f" -XX:SharedArchiveFile={archive}"
    os.environ["JAVA_TOOL_OPTIONS"] = options


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, so that no worker waits for them at the end."""
    items.sort(key=lambda item: not any(long in (item.path, *item.path.parents) for long in LONG))
