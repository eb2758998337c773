"""The calls of a Kafka transaction, with one policy for their errors and a watchdog over their time.

An error is handled by its flags, not by its code: fatal ends the process (`Fatal`), requires-abort undoes the batch
(`Aborted`), and what is retriable or timed out is the same call again, for the outcome is then still unknown, until the
patience is over or a stop was asked for. Some errors carry no flag: `_STATE` from produce means abort, `_FATAL` fatal.
"""

from __future__ import annotations

import math
import os
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from schemas import keys
from schemas.topics import MESSAGE_BYTES_MAX
from stockweave.clients import Config, client_config
from stockweave.errors import Fatal, Retriable
from stockweave.world import CallWatchdog, Clock, TransactionalProducer

log = structlog.get_logger(__name__)

CALL_S = 5.0
FLUSH_S = 1.0  # it is but a wait, and is repeated: a stop is heard in between
HUNG_S = 12.0  # of one call: after a broker's restart some were seen to overrun their own timeout by minutes
HUNG_AFTER_TIMEOUT_S = 5.0  # Kafka itself may take as long as the transaction may
STOP_PATIENCE_S = 3.0  # of a call that Kafka does not answer, after a stop was asked for
LOOK_EVERY_S = 1.0
EXIT_HUNG = 75  # EX_TEMPFAIL: start me again
DELIVERY_WAIT_S = 0.05


class Aborted(Exception):
    """Kafka wants this transaction undone; nothing of it is visible."""


def producer_config(bootstrap_servers: str, transactional_id: str, timeout_ms: int) -> Config:
    """Settings of the worker's producer.

    A transaction is flushed, which waits for no company, so what it holds for a partition goes out as one request: with
    more requests than may be in flight at once, librdkafka spins until an answer comes, a tenth of the worker's time.
    """
    return client_config(bootstrap_servers) | {
        "transactional.id": transactional_id,
        "transaction.timeout.ms": timeout_ms,
        "partitioner": "murmur2_random",
        "linger.ms": 1_000,
        "compression.type": "lz4",
        "batch.size": 8 << 20,
        "batch.num.messages": 100_000,
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "queue.buffering.max.messages": 2_000_000,
        "queue.buffering.max.kbytes": 256 << 10,
    }


def hung_s(timeout_ms: int) -> float:
    """When a call hangs, in seconds: not before Kafka gives the transaction up, `timeout_ms`, whatever that is."""
    return max(HUNG_S, timeout_ms / 1_000 + HUNG_AFTER_TIMEOUT_S)


class Watchdog:
    """Ends the process when one call takes longer than `hung_s`: a thread of its own, for the caller hangs in C."""

    def __init__(self, clock: Clock, give_up: Callable[[str], None] | None = None, hung_s: float = HUNG_S) -> None:
        self._clock = clock
        self._give_up = give_up or _exit
        self._hung_s = hung_s
        self._hurried_at_s = -math.inf
        self._busy: tuple[str, float] | None = None  # written by the pump's thread alone
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="transaction-watchdog", daemon=True).start()

    def begin(self, call: str) -> None:
        """A call starts."""
        self._busy = (call, self._clock.monotonic_s())

    def end(self) -> None:
        """It came back."""
        self._busy = None

    def hurry(self) -> None:
        """From now on a call, the present one too, has `HUNG_S`; from any thread."""
        self._hurried_at_s = self._clock.monotonic_s()
        self._hung_s = HUNG_S

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(LOOK_EVERY_S):
            busy = self._busy
            if busy is not None and self._clock.monotonic_s() - max(busy[1], self._hurried_at_s) > self._hung_s:
                self._give_up(busy[0])


def _exit(call: str) -> None:
    log.error("transaction_call_hung", call=call, remedy="the worker exits, to be started again")
    os._exit(EXIT_HUNG)


class Transaction:
    """One producer's transactions, one after another; used on one thread alone, but for `stop`.

    Args:
        producer: with `producer_config`.
        clock: of the patience.
        watchdog: over every call.
        patience_s: how long a call is repeated while Kafka is away; until `stop` unless given.
    """

    def __init__(
        self, producer: TransactionalProducer, clock: Clock, watchdog: CallWatchdog, patience_s: float = math.inf
    ) -> None:
        self._producer = producer
        self._clock = clock
        self._patience_s = patience_s
        self._stop_at_s = math.inf
        self._watchdog = watchdog

    def take_over(self) -> None:
        """Fence and end whatever a former self left open; before subscribing.

        Raises:
            Retriable: Kafka does not answer yet; call again.
        """
        try:
            self._producer.init_transactions(CALL_S)
        except KafkaException as raised:
            error = raised.args[0]
            if error.retriable() or error.code() == KafkaError._TIMED_OUT:
                raise Retriable(f"Kafka does not answer: {error.str()}; is it running?") from raised
            _end("init_transactions", error, raised)

    def undo_what_hangs(self, places: Iterable[tuple[str, int]], group_offset: TopicPartition, group: Any) -> None:  # noqa: ANN401
        """End what a former transaction of this producer may have left open for ever; after `take_over`.

        A broker that is killed and starts again was seen to decide the end of a transaction before it knew of the
        partitions, to write no markers to some of them, and to take it for ended. The last stable offset then stands
        still there, and no reader of committed data, nor a restore, gets past it. A transaction of the same producer
        that touches the same partitions ends it, the same way as itself: so this one is undone. Whoever was told that
        the former one was committed has to look at the topic again (`state.follower` does).

        Args:
            places: topics and partitions that this producer writes to.
            group_offset: any offset, for the group's own partition is a place as well.
            group: metadata of a consumer of the group that has not joined it.

        Raises:
            Retriable: a stop was asked for, and Kafka does not answer.
            Fatal: this producer is fenced or broken.
        """
        self.begin()
        try:
            for topic, partition in places:
                self.produce(topic, None, keys.UNDONE, partition)
            self.flush()
            self._send_offsets([group_offset], group)
        except Aborted as why:
            log.info("not_all_of_what_may_hang_is_undone", why=str(why))
        self.abort()

    def keep_what_hangs(self, topic: str, partitions: Iterable[int], note: list[tuple[str, bytes]]) -> None:
        """`undo_what_hangs`, the other way: a record of nothing but `note` in each of these is committed.

        What hung is kept with it, whether it was to be committed or undone: for what is better told twice than never.

        Raises:
            Retriable: a stop was asked for, and Kafka does not answer.
            Fatal: this producer is fenced or broken.
        """
        self.begin()
        try:
            for partition in partitions:
                self.produce(topic, None, None, partition, headers=note)
            self.commit_records()
        except Aborted as why:
            log.info("what_hangs_is_not_ended", why=str(why))
            self.abort()

    def begin(self) -> None:
        """Open a transaction."""
        self._call("begin_transaction", self._producer.begin_transaction)

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        on_delivery: Callable[..., None] | None = None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        """Add a record; waits while the send queue is full.

        Raises:
            Aborted: call `abort`, then produce the records again.
            Retriable: patience is over, or a stop was asked for; what is open is left to the next `take_over`.
            Fatal: this producer is fenced or broken, or the record is too large.
        """
        optional: dict[str, Any] = {}
        if on_delivery is not None:
            optional["on_delivery"] = on_delivery
        if headers is not None:
            optional["headers"] = headers
        began_s = self._clock.monotonic_s()
        while True:
            try:
                return self._producer.produce(topic, value, key, partition, **optional)
            except BufferError:
                self._be_patient("produce", "the queue of records to be sent is full", began_s)
                self._call("poll", self._producer.poll, DELIVERY_WAIT_S)
            except KafkaException as raised:
                _end_produce(topic, key, raised)

    def produce_all(self, topic: str, values: Mapping[bytes, bytes], partition: int) -> None:
        """`produce` for many values by key, at a third of its cost.

        Raises:
            Aborted, Retriable, Fatal: as `produce`.
        """
        produce = self._producer.produce
        for key, value in values.items():
            try:
                produce(topic, value, key, partition)
            except BufferError:
                self.produce(topic, value, key, partition)
            except KafkaException as raised:
                _end_produce(topic, key, raised)

    def commit(self, offsets: list[TopicPartition], group_metadata: Any) -> None:  # noqa: ANN401 - opaque to us
        """Make the open transaction visible, with `offsets` as consumed.

        1. flush: every record is in the log before the offsets are offered;
        2. send the offsets with the group's metadata, which fences a worker that lost its partitions;
        3. commit.

        Raises:
            Aborted: call `abort`, then fold the batch again.
            Retriable: a stop was asked for, and Kafka does not answer; whether it is committed is not known.
            Fatal: this producer is fenced or broken.
        """
        self.flush()
        self._send_offsets(offsets, group_metadata)
        self._call("commit_transaction", self._producer.commit_transaction, CALL_S)

    def commit_records(self) -> None:
        """Make the open transaction visible, without offsets: for a writer that reads in no group.

        Raises:
            Aborted: call `abort`, then produce the records again.
            Retriable: patience is over; whether it is committed is not known.
            Fatal: this producer is fenced or broken.
        """
        self.flush()
        self._call("commit_transaction", self._producer.commit_transaction, CALL_S)

    def abort(self) -> None:
        """Undo the open transaction."""
        try:
            self._call("abort_transaction", self._producer.abort_transaction, CALL_S)
        except Aborted as error:
            raise Fatal(f"the transaction can neither be committed nor aborted ({error}); start again") from error

    def stop(self) -> None:
        """A call that Kafka does not answer is given up after `STOP_PATIENCE_S` from now on; from any thread."""
        self._stop_at_s = min(self._stop_at_s, self._clock.monotonic_s())
        self._watchdog.hurry()

    def close(self) -> None:
        """End the watchdog; an open transaction is left to the next `take_over`."""
        self._watchdog.stop()

    def flush(self) -> None:
        """Wait until every record is delivered, or has failed, which the commit then tells."""
        began_s = self._clock.monotonic_s()
        while self._call("flush", self._producer.flush, FLUSH_S):
            # Records that cannot be delivered fail after their timeout, and the commit then asks for an abort.
            self._be_patient("flush", "records wait to be sent", began_s)

    def _send_offsets(self, offsets: list[TopicPartition], group_metadata: Any) -> None:  # noqa: ANN401
        self._call(
            "send_offsets_to_transaction",
            self._producer.send_offsets_to_transaction, offsets, group_metadata, CALL_S,
        )  # fmt: skip

    def _call(self, name: str, function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
        began_s = self._clock.monotonic_s()
        while True:
            try:
                return self._watched(name, function, *args)
            except KafkaException as raised:
                error = raised.args[0]
                log.warning("transaction_call_failed", call=name, error=error.name(), text=error.str())
                if error.fatal() or error.code() == KafkaError._FATAL:
                    _end(name, error, raised)
                if error.txn_requires_abort():
                    raise Aborted(f"{name}: {error.str()}") from raised
                if not error.retriable() and error.code() != KafkaError._TIMED_OUT:
                    _end(name, error, raised)
                self._be_patient(name, error.str(), began_s)
                self._call("poll", self._producer.poll, DELIVERY_WAIT_S)

    def _be_patient(self, name: str, why: str, began_s: float) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - max(began_s, self._stop_at_s) > STOP_PATIENCE_S:
            raise Retriable(
                f"told to stop, and {name} has not succeeded for {now_s - began_s:.1f} s: {why}; the transaction is "
                "left to the next start, which undoes it unless Kafka has it committed already"
            )
        if now_s - began_s > self._patience_s:
            raise Retriable(f"{name} has not succeeded for {self._patience_s:g} s: {why}; is Kafka running?")

    def _watched(self, name: str, function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
        self._watchdog.begin(name)
        try:
            return function(*args)
        except SystemError as crashed:
            # The library calls a delivery callback while the exception of a fatal error is set already.
            if isinstance(crashed.__cause__, KafkaException):
                raise crashed.__cause__ from crashed
            raise
        finally:
            self._watchdog.end()


def _end_produce(topic: str, key: bytes | None, raised: KafkaException) -> NoReturn:
    error = raised.args[0]
    if error.fatal() or error.code() in (KafkaError._FATAL, KafkaError.MSG_SIZE_TOO_LARGE):
        _end(f"produce of {key!r} to {topic}", error, raised)
    raise Aborted(f"produce: {error.str()}") from raised


def _end(call: str, error: KafkaError, cause: KafkaException) -> NoReturn:
    raise Fatal(f"{call} failed for good: {error.name()}: {error.str()}; the worker has to start again") from cause


def is_member(metadata: Any) -> bool:  # noqa: ANN401 - bytes of confluent_kafka's own layout
    """Whether metadata names a member and a generation; offsets sent without them would pass unfenced.

    The layout is librdkafka's (`rd_kafka_consumer_group_metadata_write`): a magic up to a colon, the generation as a
    little-endian 32-bit number, then group, member and instance, each ended by a zero byte.
    """
    after_magic = metadata.index(b":") + 1
    (generation,) = struct.unpack_from("<i", metadata, after_magic)
    member = metadata[after_magic + 4 :].split(b"\0")[1]
    return bool(generation >= 0 and member != b"")
