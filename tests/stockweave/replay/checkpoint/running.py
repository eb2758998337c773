"""The commands as they run against a deployment, and what can befall its topics."""

from __future__ import annotations

import time
from pathlib import Path

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.admin import ensure_topics
from schemas.rows import Position
from schemas.topics import UPDATES
from state.database import Resources
from state.store import PartitionStore
from stockweave.replay.checkpoint.create import create
from stockweave.replay.checkpoint.load import Checkpoint, load_partition
from stockweave.replay.checkpoint.place import Place, default_address
from stockweave.replay.scratch import scratch_folder
from tests.deployment import Deployment
from tests.stockweave.replay.planted import Quiet
from tests.stockweave.replay.rebuild.rebuilt import settings_of


def made(
    deployment: Deployment, *, verify: bool = False, jobs: int = 1, to: str | None = None, name: str = "engineer"
) -> Checkpoint:
    """A new checkpoint of the live rows, by whoever works in the folder `name`."""
    settings = settings_of(deployment, name)
    with scratch_folder(settings.data_dir) as folder:
        return create(settings, Place(to or default_address(settings)), folder, jobs, Quiet(), verify=verify)


def loaded(address: str, partition: int, folder: Path) -> tuple[dict[bytes, bytes], Position]:
    """What a partition of a checkpoint holds."""
    store = PartitionStore(folder / str(partition), Resources(8 << 20, 8 << 20), "test")
    try:
        position = load_partition(address, partition, store)
        assert store.position == position
        return dict(store.records()), position
    finally:
        store.close()


def shelf_of(deployment: Deployment, name: str = "engineer") -> Path:
    """The folder of the checkpoints of whoever works in the folder `name`."""
    return Path(default_address(settings_of(deployment, name)))


def delete_updates(deployment: Deployment, below: dict[int, int]) -> None:
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers})
    topic = deployment.topics[UPDATES.name].name
    for deleted in admin.delete_records([TopicPartition(topic, p, end) for p, end in below.items()]).values():
        deleted.result()


def delete_topic(deployment: Deployment, topic: str, *, again: bool = False) -> None:
    """Delete a topic, and with `again` have it made anew."""
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers})
    for deleted in admin.delete_topics([topic]).values():
        deleted.result()
    deadline = time.monotonic() + 20
    while topic in admin.list_topics(timeout=5).topics:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if again:
        deployment.topics = ensure_topics(deployment.base, deployment.bootstrap_servers)
