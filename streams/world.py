"""What a processor is given: the Kafka clients, the clock and the disk of a worker, or of a simulated one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from schemas.admin import Deployed
from state.store import PartitionStore
from stockweave.world import (
    CallWatchdog,
    Clock,
    EndsConsumer,
    FollowerConsumer,
    GroupConsumer,
    TransactionalProducer,
)


@dataclass(frozen=True)
class World:
    """All that a processor touches outside itself."""

    consumer: GroupConsumer
    commands: FollowerConsumer
    facts: FollowerConsumer
    follower: FollowerConsumer
    ends: EndsConsumer
    producer: TransactionalProducer
    watchdog: CallWatchdog
    clock: Clock
    open_store: Callable[[int], PartitionStore]


@dataclass(frozen=True)
class Rows:
    """Another generation of the rows, to go on with.

    `follower`: a consumer that knows the topic; `open_store`: of a partition; `warm`: stores that are open already.
    """

    topic: Deployed
    follower: FollowerConsumer
    open_store: Callable[[int], PartitionStore]
    warm: dict[int, PartitionStore]
