"""Where a command finds its Kafka: a named cluster, the embedded broker that runs, or that broker started for a while.

So every command of this room works against a cluster, beside a running `stockweave up`, and on one that is stopped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from stockweave.broker.kafka import EmbeddedKafka, kafka_answers
from stockweave.errors import Fatal, Retriable
from stockweave.folder_lock import lock_folder
from stockweave.ports import free_port
from stockweave.settings import Settings

ANSWER_S = 5.0
_LISTENER = re.compile(r"^listeners=PLAINTEXT://(127\.0\.0\.1:\d+)", re.MULTILINE)


@contextmanager
def kafka(settings: Settings, console: Console) -> Iterator[Settings]:
    """The settings with `bootstrap_servers` set to a Kafka that answers, for as long as the block runs.

    Args:
        settings: `bootstrap_servers` names a cluster; unset, the embedded broker in `data_dir` is meant.
        console: says so when the broker is started for this.

    Raises:
        Retriable: Kafka is there and does not answer.
        Fatal: there is no Kafka to be found, or the broker cannot start.
    """
    if settings.bootstrap_servers is not None:
        yield _answering(settings, settings.bootstrap_servers)
        return
    folder = settings.data_dir.absolute() / "broker"
    if not (folder / "server.properties").exists():
        raise Fatal(
            f"there is no broker's data in {settings.data_dir}: name the folder that `stockweave up` used with "
            "--data-dir, or a cluster with STOCKWEAVE_BOOTSTRAP_SERVERS"
        )
    if _in_use(folder):
        found = _LISTENER.search((folder / "server.properties").read_text("utf-8"))
        if found is None:
            raise Fatal(f"{folder / 'server.properties'} names no listener on loopback; start `stockweave up` again")
        yield _answering(settings, found.group(1))
        return
    console.print(f"starting the broker of {settings.data_dir} alone", highlight=False)
    broker = EmbeddedKafka(settings.data_dir, free_port(), maven_repository=settings.maven_repository, console=console)
    with broker:
        broker.refuse_strays()
        yield _answering(settings, broker.bootstrap_servers)


def _answering(settings: Settings, bootstrap_servers: str) -> Settings:
    if not kafka_answers(bootstrap_servers, ANSWER_S):
        raise Retriable(f"Kafka at {bootstrap_servers} does not answer; is it running?")
    return settings.model_copy(update={"bootstrap_servers": bootstrap_servers})


def _in_use(folder: Path) -> bool:
    """Whether a process holds the broker's folder; `EmbeddedKafka` locks it itself, in case another comes meanwhile."""
    try:
        lock_folder(folder, "broker").close()
    except Fatal:
        return True
    return False
