"""The outside world as the stateful parts see it: Kafka clients, the disk, the clock, as small protocols.

The real classes satisfy them as they are; a simulator may stand in for them. Every signature of a Kafka client is the
library's own, so its documentation is the reference.
"""
# ruff: noqa: D102

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from confluent_kafka import Message, TopicPartition

from stockweave.errors import Fatal


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


class Database(Protocol):
    """Keys and values in one folder, for one thread that writes and any that read; any method may raise Fatal.

    Writes are whole and stay in their order: what a kill leaves is the state after some write, at the earliest the last
    one before a `flush` that was waited for.
    """

    broken: Fatal | None
    """The damage that was met."""

    def get(self, key: bytes) -> bytes | None: ...
    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...
    def write(self, changed: Mapping[bytes, bytes | None], local: bytes) -> None:
        """Put, or remove where the value is None, all of it in one write with `local`, the value of `keys.LOCAL`."""
        ...

    def items(self, first: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Everything from the key `first` on, in the order of the keys."""
        ...

    def rows_estimate(self) -> int: ...
    def flush(self, *, wait: bool) -> None:
        """Send what was written to the disk; `wait`: until it is there."""
        ...

    def reset(self) -> None:
        """Delete everything, and begin empty."""
        ...

    def close(self) -> None: ...


class Disk(Protocol):
    """What the stores of a process share; `row_cache_bytes`: of each, 0 for none."""

    row_cache_bytes: int

    @property
    def clock(self) -> Clock: ...
    def open(self, path: Path) -> Database:
        """The database in a folder, made where there is none; an unreadable one begins empty."""
        ...


class CallWatchdog(Protocol):
    """Ends the process when a call takes too long; `streams.transaction.Watchdog` says more."""

    def begin(self, call: str) -> None: ...
    def end(self) -> None: ...
    def hurry(self) -> None: ...
    def stop(self) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds, for durations."""
        return time.monotonic()
