"""The only producer of what comes in by HTTP, updates above all: says of each whether Kafka has it, or left it open.

Invariant: an update counts as published only once every in-sync replica has it, and one that is left open is said to
be in doubt, never dropped in silence. Deliveries are counted in the poll thread; the loop is woken once per parcel.
All methods are called on the loop that `start` ran on. Called by every connector, and for the commands of storefronts.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import itemgetter
from types import TracebackType
from typing import NoReturn, Protocol, Self

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer
from prometheus_client import Histogram

from connectors.parcel import IN_DOUBT, REFUSED, Parcel, Receipt, finish
from schemas.codec import Record
from schemas.topics import MESSAGE_BYTES_MAX
from stockweave.clients import CLIENT_LOGGER, Config, client_config
from stockweave.errors import Fatal, Rejected, Retriable
from stockweave.metrics import PUBLISH_SECONDS

log = structlog.get_logger(__name__)

Headers = list[tuple[str, str | bytes | None]]

QUEUED_MAX = 20_000  # updates in librdkafka's queue, over all senders: the bound on memory
GRACE_S = 0.5  # how long a lone write waits for a Kafka that is away: long enough for a reconnect
PROBE_S = 1.0
USED_S = 1.0  # as long after something was sent, more may come at any moment
OVERDUE_S = 10.0  # past the delivery timeout, after which a parcel can only be stuck


class InDoubt(Retriable):
    """Kafka may or may not have the update. Sending it again with the same update id is safe."""


BY_SKU = itemgetter("sku")


class Encoder(Protocol):
    """What makes the value of a record: a `schemas.codec.Codec`, for one."""

    def encode(self, record: Record, /) -> bytes:
        """The value."""


class Publisher:
    """One idempotent producer for a process.

    Args:
        bootstrap_servers: of the Kafka to write to.
        topic: inventory.updates as deployed, or another one.
        codec: of StockUpdate, or of that topic.
        timeout_ms: how long a delivery may take before it is in doubt.
        linger_ms: how long an update may wait for company.
        seconds: observes each parcel.
        key_of: the key of a record.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        codec: Encoder,
        timeout_ms: int = 10_000,
        linger_ms: float = 2,
        seconds: Histogram = PUBLISH_SECONDS,
        key_of: Callable[[Record], str] = BY_SKU,
    ) -> None:
        self.topic = topic
        self._seconds = seconds
        self._key_of = key_of
        self._servers = bootstrap_servers
        self._codec = codec
        self._timeout_s = timeout_ms / 1000
        self._config = _config(bootstrap_servers, timeout_ms, linger_ms)
        self._thread = threading.Thread(target=self._poll, name="publisher-poll", daemon=True)
        self._stopping = threading.Event()
        self._reachable = asyncio.Event()
        self._suspected = asyncio.Event()
        self._room = asyncio.Event()
        self._why_away = "not connected yet"
        self._reported: list[Parcel] = []  # of the poll thread alone, since it last told of any
        self._used_s = -math.inf  # when somebody last sent something

    async def start(self) -> None:
        """Connect. Returns after the first answer, or after a second without one: Kafka may come later."""
        self._loop = asyncio.get_running_loop()
        self._broken: asyncio.Future[Fatal] = self._loop.create_future()
        self._producer = Producer(self._config | {"error_cb": self._on_error}, logger=CLIENT_LOGGER)
        self._thread.start()
        self._suspected.set()
        self._prober = self._loop.create_task(self._probe(), name="publisher-probe")
        await self._wait(self._reachable, PROBE_S)

    async def stop(self) -> None:
        """Deliver what is queued, within the delivery timeout; what is left then ends in doubt."""
        self._stopping.set()
        self._prober.cancel()
        await asyncio.to_thread(self._thread.join)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def watch(self) -> NoReturn:
        """Raises `Fatal` when the producer is of no more use and the process has to be started again."""
        raise await asyncio.shield(self._broken)

    @property
    def reachable(self) -> bool:
        """Whether Kafka answered when last heard of."""
        return self._reachable.is_set()

    @property
    def is_used(self) -> bool:
        """Whether something was sent just now, so that more may come at any moment."""
        return self._loop.time() < self._used_s + USED_S

    async def publish(self, update: Record, headers: Headers | None = None) -> Receipt:
        """Publish one update; returns once Kafka has it.

        Raises:
            Retriable: Kafka is away, and nothing was sent.
            InDoubt: Kafka did not acknowledge it in time.
            Rejected: `refused_by_kafka`.
            Fatal: the process has to be started again.
        """
        parcel = await self.deliver([update], headers)
        for failure in parcel.failures:
            if failure.reason == REFUSED:
                raise Rejected(REFUSED, f"the update {failure.detail}")
            raise InDoubt(f"the update {failure.detail}")
        [(partition, offset)] = parcel.offsets.items()
        return Receipt(self.topic, partition, offset)

    async def deliver(self, updates: Sequence[Record], headers: Headers | None = None) -> Parcel:
        """`send`, and `settle`; raises as they do."""
        parcel = await self.send(updates, headers)
        await self.settle(parcel)
        return parcel

    async def send(
        self, updates: Sequence[Record], headers: Headers | None = None, patience_s: float = GRACE_S
    ) -> Parcel:
        """Hand updates to Kafka, waiting for room in the queue; `settle` waits for their outcome.

        Args:
            updates: valid records of StockUpdate, at most `QUEUED_MAX`.
            headers: of every one.
            patience_s: how long to wait for a Kafka that is away.

        Raises:
            Retriable: nothing of it was sent.
            Fatal: as `publish`.
        """
        self._used_s = self._loop.time()
        await self._admit(len(updates), patience_s)
        encode, key_of = self._codec.encode, self._key_of
        values = [encode(update) for update in updates]
        return self._produced(values, map(key_of, updates), repeat(headers))

    async def send_encoded(
        self,
        values: Sequence[bytes],
        keys: Sequence[str | bytes],
        headers: Iterable[Headers | None] = repeat(None),
        patience_s: float = GRACE_S,
        partition: int = -1,
    ) -> Parcel:
        """`send` what is encoded already, each with its key and its headers, to a partition if one is named.

        Raises:
            Retriable, Fatal: as `send`.
        """
        self._used_s = self._loop.time()
        await self._admit(len(values), patience_s)
        return self._produced(values, keys, headers, partition)

    def _produced(
        self,
        values: Sequence[bytes],
        keys: Iterable[str | bytes],
        headers: Iterable[Headers | None],
        partition: int = -1,
    ) -> Parcel:
        produce, topic = self._producer.produce, self.topic
        parcel = Parcel(values, self._reported.append, self._on_settled)
        report = parcel.on_delivery
        for value, key, each in zip(values, keys, headers):  # noqa: B905 - of headers there may be no end
            try:
                produce(topic, value, key, partition, report, None, 0, each)
            except KafkaException as error:
                parcel.refuse(value, error.args[0])
        return parcel

    async def settle(self, parcel: Parcel) -> None:
        """Wait until every update of the parcel is acknowledged or failed; bounded by the delivery timeout.

        Raises:
            Fatal: as `publish`.
        """
        overdue = self._loop.call_later(self._timeout_s + OVERDUE_S, self._miss, parcel)  # cheaper than a wait
        try:
            await asyncio.shield(parcel.done)  # who is cancelled here may wait for it again
        finally:
            overdue.cancel()
        if self._broken.done():
            raise self._broken.result()

    async def _admit(self, count: int, patience_s: float) -> None:
        if self._broken.done():
            raise self._broken.result()
        if self._stopping.is_set():
            raise Retriable("the service is stopping, and nothing was sent; send it again")
        if not await self._wait(self._reachable, patience_s):
            raise Retriable(f"Kafka at {self._servers} is away ({self._why_away}), and nothing was sent; send it again")
        give_up_s = time.monotonic() + self._timeout_s
        while len(self._producer) + count > QUEUED_MAX:
            self._room.clear()
            if not await self._wait(self._room, give_up_s - time.monotonic()):
                raise Retriable(f"{QUEUED_MAX} updates wait for Kafka, and nothing was sent; send it again, slower", 5)

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> bool:
        if not event.is_set():
            try:
                await asyncio.wait_for(event.wait(), seconds)
            except TimeoutError:
                return False
        return True

    def _on_settled(self, parcel: Parcel) -> None:
        self._seconds.observe(time.perf_counter() - parcel.began_s)
        self._room.set()
        if (fatal := parcel.fatal) is not None:
            self._break(fatal.str())
        elif any(failure.reason == IN_DOUBT for failure in parcel.failures):
            self._suspect("it did not acknowledge updates in time")

    def _poll(self) -> None:
        producer = self._producer
        while not self._stopping.is_set():
            producer.poll(0.1)
            self._tell()
        give_up_s = time.monotonic() + self._timeout_s
        while producer.flush(0.1) and time.monotonic() < give_up_s:
            self._tell()
        if len(producer):
            producer.purge()
            producer.flush(1)  # reports what was purged
        self._tell()

    def _tell(self) -> None:
        """The loop, of all parcels at once that Kafka has told of: it is woken once."""
        if self._reported:
            reported = self._reported.copy()
            self._reported.clear()
            self._loop.call_soon_threadsafe(finish, reported)

    def _miss(self, parcel: Parcel) -> None:
        self._break("deliveries are not reported any more")
        if not parcel.done.done():
            parcel.done.set_result(None)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._loop.call_soon_threadsafe(self._break, error.str())
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._loop.call_soon_threadsafe(self._suspect, error.str())

    def _break(self, why: str) -> None:
        if not self._broken.done():
            self._broken.set_result(
                Fatal(f"the producer of {self.topic} cannot go on: {why}; start the process again, nothing is lost")
            )

    def _suspect(self, why: str) -> None:
        if self._reachable.is_set():
            log.warning("Kafka is away: writes are refused until it answers", servers=self._servers, why=why)
        self._why_away = why
        self._reachable.clear()
        self._suspected.set()

    async def _probe(self) -> None:
        """While Kafka is suspected to be away, ask until it answers: no write has to find out by waiting."""
        while True:
            await self._suspected.wait()
            while (why := await asyncio.to_thread(self._ask)) is not None:
                self._why_away = why
                await asyncio.sleep(0.1)
            self._suspected.clear()
            self._reachable.set()
            log.info("Kafka answers: writes are taken", servers=self._servers)

    def _ask(self) -> str | None:
        try:
            described = self._producer.list_topics(self.topic, timeout=PROBE_S).topics[self.topic]
        except KafkaException as error:
            return str(error.args[0].str())
        if described.error is not None:
            return f"topic {self.topic}: {described.error.str()}; start a worker, or create it"
        return None


def _config(bootstrap_servers: str, timeout_ms: int, linger_ms: float) -> Config:
    return client_config(bootstrap_servers) | {
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": linger_ms,
        "message.timeout.ms": timeout_ms,
        "request.timeout.ms": timeout_ms,
        "socket.timeout.ms": max(timeout_ms, 1_000),
        "queue.buffering.max.messages": QUEUED_MAX + 1,  # `_admit` holds the bound; the client never refuses
        "queue.buffering.max.kbytes": 512 << 10,
        "message.max.bytes": MESSAGE_BYTES_MAX,  # how much a topic takes is the topic's matter
    }
