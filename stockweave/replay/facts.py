"""The committed updates of one partition between two offsets, in their order, in big batches.

Invariant: nothing in [start, end) is left out in silence. That the end was reached is proven by an offset past it or by
the end of the partition, never by a timeout; gaps are the markers of producers' transactions. Called by all that fold
again: verify, rebuild, checkpoints, explain.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NoReturn, cast

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from stockweave.clients import CLIENT_LOGGER, Config, reading_config
from stockweave.errors import Fatal, Retriable
from stockweave.replay.ends import log_ends

CHUNK_EVENTS_MAX = 10_000  # of one call: `consume` waits for as many as it is asked for, and may hold them all
CHUNK_WAIT_S = 0.1
BATCH_BYTES_MAX = 64 << 20
STALLED_S = 60.0


def reader_config(bootstrap_servers: str) -> Config:
    """Settings of a consumer that reads a stretch of a log: committed data only, big fetches, no group."""
    return reading_config(bootstrap_servers, "stockweave-replay") | {
        "fetch.wait.max.ms": 100,
        "fetch.message.max.bytes": 8 << 20,
        "queued.min.messages": 1_000_000,  # so that the bytes below are the limit
        "queued.max.messages.kbytes": 64 << 10,
    }


def everything(bootstrap_servers: str, topic: str, partitions: Iterable[int], what: str) -> Iterator[Message]:
    """All committed events of some partitions as of now, one after another; `what` they are, for messages.

    Raises:
        Fatal: the topic is gone, or may not be read.
        Retriable: Kafka does not answer.
    """
    for partition, (low, high) in log_ends(bootstrap_servers, topic, list(partitions)).items():
        for batch in Facts(bootstrap_servers, topic, partition, low, high, what=what).batches(CHUNK_EVENTS_MAX):
            yield from batch


class Facts:
    """A stretch of one partition's log.

    Args:
        bootstrap_servers: of Kafka.
        topic: the deployed name.
        partition: its number.
        start: the first offset.
        end: the offset after the last; all before it is committed already.
        consumer: with `reader_config`, to be used again afterwards; None: one for this stretch alone.
        what: the events are, for messages.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        partition: int,
        start: int,
        end: int,
        consumer: Consumer | None = None,
        what: str = "updates",
    ) -> None:
        self.topic, self.partition, self.start, self.end = topic, partition, start, end
        self._what = what
        self._bootstrap_servers = bootstrap_servers
        self._consumer = consumer
        self._position = start

    def batches(self, events_max: int) -> Iterator[list[Message]]:
        """All events, in batches of at most `events_max`, fewer where they are large; none is empty.

        Raises:
            Fatal: the log begins after `start`, or ends before `end`.
            Retriable: Kafka does not answer.
        """
        if self.start >= self.end:
            return
        self._check_range()
        kept = self._consumer
        consumer = Consumer(reader_config(self._bootstrap_servers), logger=CLIENT_LOGGER) if kept is None else kept
        try:
            consumer.assign([TopicPartition(self.topic, self.partition, self.start)])
            batch: list[Message] = []
            batch_bytes, heard_at_s = 0, time.monotonic()
            while self._position < self.end:
                wanted = min(CHUNK_EVENTS_MAX, events_max - len(batch), self.end - self._position)
                got = consumer.consume(wanted, CHUNK_WAIT_S)
                if got:
                    heard_at_s = time.monotonic()
                elif time.monotonic() - heard_at_s > STALLED_S:
                    self._stalled()
                events = self._events(got)
                batch += events
                batch_bytes += sum(map(len, events))
                if batch and (len(batch) >= events_max or batch_bytes >= BATCH_BYTES_MAX):
                    yield batch
                    batch, batch_bytes = [], 0
                    heard_at_s = time.monotonic()
            if batch:
                yield batch
        finally:
            if kept is None:
                consumer.close()
            else:
                consumer.unassign()

    def _events(self, got: list[Message]) -> list[Message]:
        """Those of `got` that are events of the range; moves the position past all of them."""
        events = [message for message in got if message.error() is None]
        if len(events) != len(got):
            for message in got:
                error = message.error()
                if error is not None:
                    self._told(error, message)
        if events:
            last = cast("int", events[-1].offset())
            self._position = max(self._position, last + 1)
            if last >= self.end:
                events = [message for message in events if cast("int", message.offset()) < self.end]
        return events

    def _told(self, error: KafkaError, message: Message) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._position = max(self._position, message.offset() or 0)
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            self._trimmed(error.str())
        elif code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):
            raise Fatal(f"topic {self.topic} partition {self.partition} is gone: {error.str()}; restore the topic")
        elif error.fatal() or code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION):
            raise Fatal(f"topic {self.topic} cannot be read: {error.str()}; grant the right to read it")
        # librdkafka goes on by itself after the rest

    def _check_range(self) -> None:
        low, high = log_ends(self._bootstrap_servers, self.topic, [self.partition], self._consumer)[self.partition]
        if low > self.start:
            self._trimmed(f"it begins at {low}")
        if high < self.end:
            raise Fatal(
                f"{self.topic} partition {self.partition} ends at {high}, and {self.end} of its {self._what} are "
                "folded: the log has lost its end; restore it from a copy"
            )

    def _trimmed(self, why: str) -> NoReturn:
        raise Fatal(
            f"{self.topic} partition {self.partition} no longer has the {self._what} from offset {self.start} on: "
            f"{why}; start from a checkpoint that covers them (`stockweave checkpoint list`)"
        )

    def _stalled(self) -> NoReturn:
        raise Retriable(
            f"{self.topic} partition {self.partition} has brought nothing for {STALLED_S:.0f} s at offset "
            f"{self._position} of {self.end}; is Kafka at {self._bootstrap_servers} well?"
        )
