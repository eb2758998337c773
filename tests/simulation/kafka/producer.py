"""A transactional producer, as librdkafka's: what it is given waits until a flush, and it remembers its failures."""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from schemas.keys import partition_of
from tests.simulation.kafka.cluster import Cluster, Ongoing
from tests.simulation.kafka.errors import abortable, fatal, plain, retriable
from tests.simulation.kafka.group import Place
from tests.simulation.process import Clock, Process

Waiting = tuple[Place, bytes | None, bytes | None, Any, Callable[..., None] | None]

FAULTS = {
    "init_transactions": ("timeout", "lost_answer"),
    "begin_transaction": ("timeout",),
    "produce": ("queue_full",),
    "flush": ("slow", "delivery_failed", "delivery_failed_late"),
    "deliver": (),
    "send_offsets_to_transaction": ("timeout", "lost_answer", "abortable", "hang"),
    "commit_transaction": ("timeout", "lost_answer", "abortable", "hang", "tear"),
    "abort_transaction": ("timeout", "lost_answer", "tear"),
}
"""What can go wrong with each call, beside a kill before or after it."""

HANG_MS = 60_000


class Phase(Enum):
    """Of the client itself."""

    NEW = auto()
    READY = auto()
    OPEN = auto()
    ABORTABLE = auto()
    COMMITTED = auto()  # and the answer was lost
    ABORTED = auto()  # and the answer was lost
    FATAL = auto()


class SimulatedProducer:
    """Satisfies `stockweave.world.TransactionalProducer`; `watch`: of the process, over hanging calls."""

    def __init__(self, cluster: Cluster, clock: Clock, process: Process, transactional_id: str) -> None:
        self._cluster = cluster
        self._clock = clock
        self._process = process
        self._id = transactional_id
        self._epoch = -1
        self._phase = Phase.NEW
        self._waiting: list[Waiting] = []
        self._failure: KafkaException | None = None
        self._reports: list[tuple[Callable[..., None], KafkaError | None, Message]] = []

    def init_transactions(self, timeout: float = -1) -> None:
        """Fence former producers of the id."""
        fault = self._reach("init_transactions")
        if fault == "timeout":
            raise retriable(KafkaError._TIMED_OUT)
        known = self._cluster.init(self._id)
        self._epoch, self._phase = known.epoch, Phase.READY
        if fault == "lost_answer":
            raise retriable(KafkaError._TIMED_OUT)
        self._process.reached_end(fault)

    def begin_transaction(self) -> None:
        """Nothing goes to the broker yet."""
        fault = self._reach("begin_transaction")
        if fault == "timeout":
            raise retriable(KafkaError._TIMED_OUT)
        if self._phase is not Phase.READY:
            raise plain(KafkaError._STATE)
        self._phase = Phase.OPEN
        self._process.reached_end(fault)

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        on_delivery: Callable[..., None] | None = None,
        timestamp: int = 0,
        headers: Any = None,
    ) -> None:
        """Let a record wait for the next flush."""
        fault = self._reach("produce")
        if fault == "queue_full":
            raise BufferError("simulated")
        if self._phase is Phase.FATAL:
            raise plain(KafkaError._FATAL)
        if self._phase is not Phase.OPEN:
            raise plain(KafkaError._STATE)
        if partition < 0:
            partition = partition_of(key or b"", len(self._cluster.topics[topic]))
        self._waiting.append(((topic, partition), key, value, headers, on_delivery))
        self._process.reached_end(fault)

    def poll(self, timeout: float = 0) -> int:
        """Serve delivery reports."""
        self._reach("poll")
        return self._report()

    def flush(self, timeout: float = -1) -> int:
        """Send what waits, partition by partition; how many are left."""
        fault = self._reach("flush")
        if fault == "slow":
            return len(self._waiting) or 1
        if fault in ("delivery_failed", "delivery_failed_late") and self._phase is Phase.OPEN and self._waiting:
            self._fail_one(late=fault == "delivery_failed_late")
        while self._waiting and self._phase is not Phase.FATAL:
            self._deliver(self._waiting[0][0])
        self._report()
        self._process.reached_end(fault)
        return 0

    def send_offsets_to_transaction(
        self, positions: list[TopicPartition], group_metadata: Any, timeout: float = -1
    ) -> None:
        """Offsets into the transaction, fenced by the group."""
        fault = self._reach("send_offsets_to_transaction")
        self._check_open()
        if fault == "timeout":
            raise retriable(KafkaError._TIMED_OUT)
        if fault == "abortable":
            raise self._fail(abortable(KafkaError._TIMED_OUT_QUEUE))
        group, member, epoch = read_metadata(group_metadata)
        offsets = {(p.topic, p.partition): p.offset for p in positions}
        try:
            self._cluster.offer(self._known(), group, offsets, (member, epoch), self._clock.now_ms())
        except KafkaException as refused:
            raise self._fail(refused) from None
        if fault == "lost_answer":
            raise retriable(KafkaError._TIMED_OUT)
        self._process.reached_end(fault)

    def commit_transaction(self, timeout: float = -1) -> None:
        """Decide; an answer that was lost is given to the next call."""
        fault = self._reach("commit_transaction")
        self._end(fault, commit=True)

    def abort_transaction(self, timeout: float = -1) -> None:
        """Undo; what still waits is dropped."""
        fault = self._reach("abort_transaction")
        for _, key, value, _, on_delivery in self._waiting:
            if on_delivery is not None:
                error = KafkaError(KafkaError._PURGE_QUEUE, "simulated")
                self._reports.append((on_delivery, error, Message(key=key, value=value, error=error)))
        self._waiting.clear()
        self._end(fault, commit=False)

    def _end(self, fault: str | None, *, commit: bool) -> None:
        done = Phase.COMMITTED if commit else Phase.ABORTED
        if self._phase is done:  # it is asked again, since the answer was lost
            self._phase = Phase.READY
            return
        if commit:
            while self._waiting:
                self._deliver(self._waiting[0][0])
            self._report()
            self._check_open()
        elif self._phase not in (Phase.OPEN, Phase.ABORTABLE):
            raise plain(KafkaError._STATE)
        if fault == "timeout":
            raise retriable(KafkaError._TIMED_OUT)
        if fault == "abortable":
            raise self._fail(abortable(KafkaError._TIMED_OUT_QUEUE))
        known = self._known()
        self._cluster.end(known, commit=commit)
        self._failure = None
        if fault == "tear":
            self._cluster.lose_markers(known)
        if fault == "lost_answer":
            self._phase = done
            raise retriable(KafkaError._TIMED_OUT)
        self._report()
        self._phase = Phase.READY
        self._process.reached_end(fault)

    def _deliver(self, place: Place) -> None:
        """All that waits for one partition, as one request."""
        fault = self._reach("deliver")
        sent = [waiting for waiting in self._waiting if waiting[0] == place]
        self._waiting = [waiting for waiting in self._waiting if waiting[0] != place]
        for (topic, partition), key, value, headers, on_delivery in sent:
            if self._phase is not Phase.OPEN:
                continue
            offset = self._cluster.append(self._known(), place, key, value, headers, self._clock.now_ms())
            if on_delivery is not None:
                message = Message(topic=topic, partition=partition, offset=offset, key=key, value=value)
                self._reports.append((on_delivery, None, message))
        self._process.reached_end(fault)

    def _fail_one(self, *, late: bool) -> None:
        """A record that cannot be delivered: the transaction has to be undone, and says so now or at its end."""
        (topic, partition), key, value, _, on_delivery = self._waiting.pop()
        error = KafkaError(KafkaError._MSG_TIMED_OUT, "simulated")
        if on_delivery is not None:
            message = Message(topic=topic, partition=partition, key=key, value=value, error=error)
            self._reports.append((on_delivery, error, message))
        if late:
            self._failure = abortable(KafkaError._MSG_TIMED_OUT)
        else:
            self._fail(abortable(KafkaError._MSG_TIMED_OUT))

    def _report(self) -> int:
        """Call what was promised a report."""
        reports, self._reports = self._reports, []
        for on_delivery, error, message in reports:
            on_delivery(error, message)
        return len(reports)

    def _known(self) -> Ongoing:
        try:
            return self._cluster.check(self._id, self._epoch)
        except KafkaException:
            self._phase = Phase.FATAL
            raise

    def _check_open(self) -> None:
        if self._phase is Phase.FATAL:
            raise fatal(KafkaError._FENCED)
        if self._failure is not None:
            raise self._fail(self._failure)
        if self._phase is not Phase.OPEN:
            raise plain(KafkaError._STATE)

    def _fail(self, failure: KafkaException) -> KafkaException:
        """It is told again by every call but an abort."""
        self._failure, self._phase = failure, Phase.ABORTABLE
        return failure

    def _reach(self, call: str) -> str | None:
        fault = self._process.reach(call)
        if fault == "hang":
            self._clock.pass_ms(HANG_MS)
            self._process.crash()  # its watchdog ends it; a call that hangs in C never comes back
        return fault


def metadata(group: str, member_id: str, epoch: int) -> bytes:
    """A consumer's group metadata in librdkafka's layout."""
    return b"CGMDv2:" + struct.pack("<i", epoch) + b"\0".join([group.encode(), member_id.encode(), b"", b""])


def read_metadata(packed: bytes) -> tuple[str, str, int]:
    """Group, member and epoch."""
    (epoch,) = struct.unpack_from("<i", packed, 7)
    group, member_id, *_ = packed[11:].split(b"\0")
    return group.decode(), member_id.decode(), epoch
