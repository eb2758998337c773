"""A deployment with wrong rows, rebuild as its command runs it, and what a generation holds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NamedTuple

from inventory.digest import PartitionDigest
from schemas import keys
from schemas.admin import Deployed
from schemas.generation_log import read
from schemas.generations import Generations
from schemas.rows import StockRow, decode_position, decode_row
from schemas.topics import UPDATES
from stockweave.ports import free_port
from stockweave.replay.rebuild import rebuild
from stockweave.replay.rebuild.plan import Wanted
from stockweave.settings import Settings
from tests.deployment import Deployment
from tests.generations import read_partition
from tests.stockweave.replay.rebuild.writer import Writer

UNREACHED = free_port()  # no API there


class Content(NamedTuple):
    """What a partition of a generation means: equal for two that were folded from the same updates."""

    digest: str
    offset: int
    outcomes: dict[str, list[int]]
    clock: int


def settings_of(deployment: Deployment, name: str = "engineer") -> Settings:
    return deployment.settings(name).model_copy(update={"api_port": UNREACHED})


def agree(_: str) -> None:
    pass


def rebuilt(
    deployment: Deployment,
    wanted: Wanted | None = None,
    *,
    jobs: int = 1,
    restart: bool = False,
    name: str = "engineer",
) -> Generations:
    """Rebuild, by whoever works in the folder `name`; the record afterwards."""
    rebuild.run(settings_of(deployment, name), wanted or Wanted(), jobs, agree, restart=restart)
    return record(deployment)


def record(deployment: Deployment) -> Generations:
    return read(deployment.base, deployment.bootstrap_servers)


def content(deployment: Deployment, topic: str) -> dict[int, Content]:
    """By partition; one without a position is left out."""
    found = {}
    for partition in range(deployment.topics[UPDATES.name].partitions):
        kept = read_partition(deployment.bootstrap_servers, topic, partition)
        if keys.POSITION in kept:
            position = decode_position(kept.pop(keys.POSITION))
            digest = PartitionDigest()
            for key in sorted(kept):
                digest.add(key, kept[key])
            found[partition] = Content(
                digest.hexdigest(), position.offsets[UPDATES.name], position.outcomes, position.clock
            )
    return found


def on_hand(deployment: Deployment, topic: str) -> dict[str, int]:
    """By SKU, in all partitions."""
    found: dict[str, int] = {}
    for partition in range(deployment.topics[UPDATES.name].partitions):
        kept = read_partition(deployment.bootstrap_servers, topic, partition)
        kept.pop(keys.POSITION, None)
        found |= {row.sku: row.on_hand for row in map(decode_row, kept.values())}
    return found


def wrong(rows: dict[str, StockRow], _: list[str]) -> None:
    """A bug: what ends in 7 has a unit more, each time that it is folded."""
    for row in rows.values():
        if row.sku.endswith("7"):
            row.on_hand += 1


def wrong_rows(deployment: Deployment) -> Writer:
    """Folds all that was published, with that bug."""
    writer = Writer(deployment, wrong)
    writer.fold(100)
    return writer


def slowly(stretch_events: int, *arguments: str) -> list[str]:
    """The command, in one process, with a transaction for every so many events."""
    patched = (
        "import sys; from stockweave.replay.rebuild import fold; from stockweave.cli import main; "
        f"fold.STRETCH_EVENTS = {stretch_events}; sys.argv = ['stockweave', 'rebuild', '--jobs', '1', "
        f"*{list(arguments)!r}]; main()"
    )
    return [sys.executable, "-c", patched]


def environment(deployment: Deployment, name: str) -> Mapping[str, str]:
    return deployment.environment(name) | {"STOCKWEAVE_API_PORT": str(UNREACHED)}


def as_deployed(deployment: Deployment, topic: str) -> Deployed:
    return Deployed(topic, deployment.topics[UPDATES.name].partitions, "")
