"""The supplier's Kafka: reached with our credentials, read partition by partition from offsets of our own.

Invariant: nothing is committed there, and nothing is kept here but a connection; after a failure it is made anew, with
the secrets as they are then. All calls run in one thread of its own, one after the other. Used by `source`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeVar, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from pydantic import Field

from connectors.credentials.secret import Secret
from connectors.credentials.tls import Tls
from connectors.options import Options
from stockweave.clients import CLIENT_LOGGER, Config, client_config, reading_config
from stockweave.errors import Retriable

WAIT_S = 10.0
ASK_S = 0.5  # at a time: a broker that refuses us is not asked for longer
POLL_S = 0.25
SETTLED_S = 0.1
MESSAGES_AT_ONCE = 10_000
BYTES_AT_ONCE = 8 << 20

T = TypeVar("T")


class Sasl(Options):
    """A user and a password."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    user: Annotated[str, Field(min_length=1)]
    password: Secret


class KafkaTls(Tls):
    """Encrypted. `ca_file`: who may sign for brokers, unless those whom this machine trusts. `client`: what we show."""

    def config(self) -> Config:
        """As librdkafka takes it, with the files as they are now.

        Raises:
            Retriable: one cannot be read.
        """
        found: Config = {} if self.ca_file is None else {"ssl.ca.location": _readable(self.ca_file)}
        if self.client is not None:
            found["ssl.certificate.location"] = _readable(self.client.certificate_file)
            found["ssl.key.location"] = _readable(self.client.key_file or self.client.certificate_file)
            if self.client.key_password is not None:
                found["ssl.key.password"] = self.client.key_password.read()
        return found


class Ends(NamedTuple):
    """Of a partition: the first offset that is there, and the one after the last that is committed."""

    first: int
    end: int


class Topic(NamedTuple):
    """As it is. `id`: names this very topic, not a namesake created later; empty where its Kafka has none."""

    id: str
    ends: dict[int, Ends]


class Batch(NamedTuple):
    """Some messages, by partition in their order; and where each partition that was read to its end goes on."""

    messages: dict[int, list[Message]]
    ends: dict[int, int]


class Client:
    """A way to one topic.

    Args:
        bootstrap_servers: of its Kafka.
        topic: its name.
        sasl: who we are; None where nobody asks.
        tls: None: nothing is encrypted.
    """

    def __init__(self, bootstrap_servers: str, topic: str, sasl: Sasl | None, tls: KafkaTls | None) -> None:
        self._servers = bootstrap_servers
        self._topic = topic
        self._sasl = sasl
        self._tls = tls
        self._thread = ThreadPoolExecutor(1, "kafka-feed")
        self._consumer: Consumer | None = None
        self._admin: AdminClient | None = None
        self._refusal: KafkaError | None = None

    async def look(self) -> Topic:
        """The topic as it is; raises Retriable if it cannot be told."""
        return await self._call(self._look)

    async def read(self, wanted: dict[int, tuple[int, int]]) -> Batch:
        """The next messages; raises Retriable if they do not come.

        Args:
            wanted: of each partition, from which offset and before which one.
        """
        return await self._call(lambda: self._read(wanted))

    async def wait(self, offsets: dict[int, int]) -> None:
        """Until there is a message at one of these offsets, by partition, or after it; raises Retriable as `read`."""
        await self._call(lambda: self._aim(offsets))
        while not await self._call(self._has_come):
            pass

    async def close(self) -> None:
        """Leave it."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown(wait=False)

    async def _call(self, what: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._tried, what)

    def _tried(self, what: Callable[[], T]) -> T:
        """What fails is told in our words: an error of the library's may have an address or a name in it."""
        try:
            return what()
        except KafkaException as error:
            why = self._refusal or cast("KafkaError", error.args[0])
            self._drop()
            said = f"topic {self._topic} of the supplier's Kafka fails: {why.name()}; {self._remedy(why)}"
            raise Retriable(said) from None
        except Retriable:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
        self._consumer = self._admin = self._refusal = None

    def _remedy(self, why: KafkaError) -> str:
        match why.code():
            case KafkaError._AUTHENTICATION | KafkaError.SASL_AUTHENTICATION_FAILED:
                return "it does not take our user and password; mend sasl"
            case KafkaError._SSL:
                return "we do not trust its certificate; mend tls.ca_file"
            case KafkaError._TRANSPORT if _is_alert(why):
                return "it does not take our certificate; mend tls.client"
            case KafkaError._INVALID_ARG:
                return "mend bootstrap_servers, or the files of tls, or tls.client.key_password"
            case KafkaError.TOPIC_AUTHORIZATION_FAILED:
                return "ask the supplier to let us read it"
            case KafkaError.UNKNOWN_TOPIC_OR_PART:
                return "there is no such topic; mend topic"
            case KafkaError._TRANSPORT | KafkaError._ALL_BROKERS_DOWN | KafkaError._TIMED_OUT | KafkaError._RESOLVE:
                return "it does not answer: is it up? Else mend bootstrap_servers, or tls"
        return "is it up, and may we read it?"

    def _hear(self, error: KafkaError) -> None:
        """What a broker answers that refuses us; calls to it do not tell."""
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL) or _is_alert(error):
            self._refusal = error

    def _heard(self) -> None:
        if self._refusal is not None:
            raise KafkaException(self._refusal)

    def _opened(self) -> Consumer:
        if self._consumer is None:
            config = reading_config(self._servers, "stockweave-feed") | self._config() | _READING
            self._consumer = Consumer({**config, "error_cb": self._hear}, logger=CLIENT_LOGGER)
        return self._consumer

    def _asked(self, ask: Callable[[Consumer], T]) -> T:
        """The answer, for which `ask` waits ASK_S; who refuses us is not asked again, lest our user be locked out."""
        consumer, give_up_s = self._opened(), time.monotonic() + WAIT_S
        while True:
            try:
                return ask(consumer)
            except KafkaException:
                consumer.poll(0)  # hears what they say
                self._heard()
                if time.monotonic() > give_up_s:
                    raise

    def _config(self) -> Config:
        found = client_config(self._servers)
        if self._sasl is not None:
            found |= {
                "sasl.mechanism": self._sasl.mechanism,
                "sasl.username": self._sasl.user,
                "sasl.password": self._sasl.password.read(),
            }
        if self._tls is not None:
            found |= self._tls.config()
        return found | {"security.protocol": _PROTOCOLS[self._sasl is not None, self._tls is not None]}

    def _look(self) -> Topic:
        found = self._asked(lambda consumer: consumer.list_topics(self._topic, timeout=ASK_S)).topics[self._topic]
        if found.error is not None:
            raise KafkaException(found.error)
        ends = {}
        for partition in sorted(found.partitions):
            told = self._asked(partial(_ends, partition=TopicPartition(self._topic, partition)))
            if told is None:
                raise Retriable(f"topic {self._topic} partition {partition} does not tell its offsets; is it up?")
            ends[partition] = Ends(*told)
        return Topic(self._id(), ends)

    def _id(self) -> str:
        if self._admin is None:
            self._admin = AdminClient(self._config(), logger=CLIENT_LOGGER)
        asked = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=WAIT_S)
        return str(asked[self._topic].result(WAIT_S).topic_id or "")

    def _aim(self, offsets: dict[int, int]) -> Consumer:
        consumer = self._opened()
        consumer.assign([TopicPartition(self._topic, number, offset) for number, offset in offsets.items()])
        return consumer

    def _has_come(self) -> bool:
        found = self._opened().consume(1, POLL_S)
        self._heard()
        return any(_well(message) for message in found)

    def _read(self, wanted: dict[int, tuple[int, int]]) -> Batch:
        consumer = self._aim({number: first for number, (first, _) in wanted.items()})
        batch, open_, size, count = Batch({}, {}), set(wanted), 0, 0
        give_up_s = time.monotonic() + WAIT_S
        while open_ and size < BYTES_AT_ONCE and count < MESSAGES_AT_ONCE:
            found = consumer.consume(min(1_000, MESSAGES_AT_ONCE - count), SETTLED_S)
            self._heard()
            for message in found:
                number, offset = cast("int", message.partition()), message.offset() or 0
                if _well(message):
                    batch.messages.setdefault(number, []).append(message)
                    size, count = size + len(message), count + 1
                    if offset + 1 >= wanted[number][1]:
                        open_.discard(number)
                elif number in open_ and offset >= wanted[number][1]:
                    batch.ends[number] = offset
                    open_.discard(number)
            if not count and open_ and time.monotonic() > give_up_s:
                raise Retriable(f"topic {self._topic} gives no messages within {WAIT_S:.0f} s; is its Kafka well?")
            if count and time.monotonic() > give_up_s:
                break
        consumer.unassign()
        return batch


def _well(message: Message) -> bool:
    """Whether it is a message, and not the end of a partition, or about groups; raises what else it says."""
    error = message.error()
    if error is None:
        return True
    if error.code() not in (KafkaError._PARTITION_EOF, KafkaError.GROUP_AUTHORIZATION_FAILED):
        raise KafkaException(error)
    return False


def _ends(consumer: Consumer, partition: TopicPartition) -> tuple[int, int] | None:
    return consumer.get_watermark_offsets(partition, timeout=ASK_S)


def _is_alert(error: KafkaError) -> bool:
    """Whether it is the other end that ended a handshake of TLS."""
    return error.code() == KafkaError._TRANSPORT and "alert" in error.str()


def _readable(file: str) -> str:
    try:
        Path(file).open("rb").close()
    except OSError as error:
        raise Retriable(f"{file} cannot be read ({type(error).__name__}); mend the file, or tls") from None
    return file


_PROTOCOLS = {
    (False, False): "PLAINTEXT", (True, False): "SASL_PLAINTEXT", (False, True): "SSL", (True, True): "SASL_SSL",
}  # fmt: skip
_READING: Config = {"fetch.wait.max.ms": 100, "queued.max.messages.kbytes": 16 << 10}
