"""The outside world as the stateful parts see it: Kafka clients and the clock, as small protocols.

The real classes of confluent_kafka satisfy them as they are; a simulator may stand in for them. Every signature is the
library's own, so its documentation is the reference.
"""
# ruff: noqa: D102

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from confluent_kafka import Message, TopicPartition


class FollowerConsumer(Protocol):
    """What a follower of a compacted topic needs of `confluent_kafka.Consumer`."""

    def incremental_assign(self, partitions: list[TopicPartition]) -> None: ...
    def incremental_unassign(self, partitions: list[TopicPartition]) -> None: ...
    def consume(self, num_messages: int = ..., timeout: float = ...) -> list[Message]: ...
    def close(self) -> None: ...


class WatermarkConsumer(Protocol):
    """What a reader of watermarks needs: of a read_committed one they are last stable offsets."""

    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float = ..., cached: bool = ...
    ) -> tuple[int, int] | None: ...
    def close(self) -> None: ...


class EndsConsumer(Protocol):
    """What a reader of many partitions' ends needs; a read_committed one is told last stable offsets."""

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float = ...) -> list[TopicPartition]: ...
    def close(self) -> None: ...


class GroupConsumer(FollowerConsumer, WatermarkConsumer, EndsConsumer, Protocol):
    """What the pump needs of the consumer in the workers' group."""

    def subscribe(
        self,
        topics: list[str],
        on_assign: Callable[..., None] = ...,
        on_revoke: Callable[..., None] = ...,
        on_lost: Callable[..., None] = ...,
    ) -> None: ...
    def pause(self, partitions: list[TopicPartition]) -> None: ...
    def resume(self, partitions: list[TopicPartition]) -> None: ...
    def seek(self, partition: TopicPartition) -> None: ...
    def committed(self, partitions: list[TopicPartition], timeout: float = ...) -> list[TopicPartition]: ...
    def consumer_group_metadata(self) -> Any: ...  # noqa: ANN401 - opaque, and so typed by the library


class TransactionalProducer(Protocol):
    """What a transaction needs of `confluent_kafka.Producer` with a transactional.id."""

    def init_transactions(self, timeout: float = ...) -> None: ...
    def begin_transaction(self) -> None: ...
    def produce(
        self,
        topic: str,
        value: bytes | None = ...,
        key: bytes | None = ...,
        partition: int = ...,
        on_delivery: Callable[..., None] | None = ...,
        timestamp: int = ...,
        headers: Any = ...,  # noqa: ANN401
    ) -> None: ...
    def poll(self, timeout: float = ...) -> int: ...
    def flush(self, timeout: float = ...) -> int: ...
    def send_offsets_to_transaction(
        self,
        positions: list[TopicPartition],
        group_metadata: Any,  # noqa: ANN401
        timeout: float = ...,
    ) -> None: ...
    def commit_transaction(self, timeout: float = ...) -> None: ...
    def abort_transaction(self, timeout: float = ...) -> None: ...


class Clock(Protocol):
    """Time, injected so that it can be simulated."""

    def now_ms(self) -> int: ...
    def monotonic_s(self) -> float: ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds, for durations."""
        return time.monotonic()
