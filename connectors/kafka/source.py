"""The kind `kafka`: a topic of the supplier's own Kafka, each message a row, or each a document.

Invariant: what was read is the feed's state, an offset for each partition, and is not committed in the supplier's
Kafka. A document begins where the state says, and how far it goes is the messages' matter alone, not that of how many
come at once; so a row that is read again has the same id. What was deleted before it was read is told. Used by `runner`
by its kind.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from hashlib import blake2b
from typing import Annotated, Any, Literal, cast

import orjson
from confluent_kafka import Message
from pydantic import Field

from connectors.documents import Document, Kind, SourceConfig, State, Surroundings, once
from connectors.formats.envelopes import packed
from connectors.kafka.client import Batch, Client, KafkaTls, Sasl, Topic
from stockweave.errors import Rejected

TOPIC_CHARACTERS_MAX = 60  # of its name, in an origin
DOCUMENT_MESSAGES_MAX = 10_000
DOCUMENT_BYTES = 1 << 20  # with the message that brings it there, a document ends


class KafkaConfig(SourceConfig):
    """A topic of the supplier's Kafka.

    `each`: what a message is: a `message` with `key`, `timestamp`, `headers`, `id` and its `value` of JSON, one a line
    (ndjson); a `record`, the same with a `value` of Avro; a `line` of its format (ndjson, or csv without a header); or
    a `document`, by itself. `start`: where a topic that was never read begins. `on_loss`: whether messages that were
    deleted before they were read are a dead letter, or end the reading until a person says `letter`. `within_s`: of
    messages that become one document, and so have one time unless their rows say one.
    """

    kind: Literal["kafka"] = "kafka"
    bootstrap_servers: Annotated[str, Field(min_length=1)]
    topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    sasl: Sasl | None = None
    tls: KafkaTls | None = None
    each: Literal["message", "record", "line", "document"] = "message"
    start: Literal["earliest", "latest"] = "earliest"
    on_loss: Literal["letter", "stop"] = "letter"
    within_s: Annotated[float, Field(ge=0, le=31 * 86_400)] = 1.0

    @property
    def is_content_named(self) -> bool:  # type: ignore[override] # as that of `webhook`
        """Whether a message that is read again has the same id: its offset is in it."""
        return True

    @property
    def is_partial(self) -> bool:
        """Whether messages tell what changed."""
        return self.each != "document"

    @property
    def gives_messages(self) -> bool:
        """Whether the format reads messages one by one, whatever bytes they have."""
        return self.each == "record"

    @property
    def is_one_by_one(self) -> bool:  # type: ignore[override]
        """Whether each message has a time of its own."""
        return self.each == "document"


class KafkaSource:
    """One topic.

    Args:
        config: checked.
        around: the clock and the budget.
    """

    def __init__(self, config: KafkaConfig, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._client = Client(config.bootstrap_servers, config.topic, config.sasl, config.tls)
        self._next: dict[int, int] = {}

    async def read(self, state: State) -> AsyncGenerator[Document, None]:
        """What has come until now."""
        async with self._around.budget.request():
            topic = await self._client.look()
        known = {int(number): offset for number, offset in state.get("next", {}).items()}
        is_same = not state or state["topic"] == topic.id
        at = self._begin(topic, is_first=not state) | (known if is_same else {})
        if not state and self._config.start == "latest" and not self._around.is_trial:
            yield self._state_only(topic, at)  # else the next start would leave out what comes until then
        lost = list(self._lost(topic, at, known, is_same=is_same))
        if lost and self._config.on_loss == "stop":
            raise Rejected("messages_lost", f"{'; '.join(lost)}; set on_loss: letter to go on")
        if lost:
            now_ms = self._around.clock.now_ms()
            begin = "-".join(str(at[number]) for number in sorted(at))[:40]
            yield Document(
                f"lost-{self._origin(topic, 0, 0)[:40]}-{begin}", now_ms, now_ms, _told(lost), self._state(topic, at)
            )
        begun: dict[int, list[Message]] = {}  # of documents that go on in the next batch
        come = dict(at)
        while wanted := {n: (come[n], ends.end) for n, ends in topic.ends.items() if come[n] < ends.end}:
            async with self._around.budget.request():
                batch = await self._client.read(wanted)
            come |= {number: _offset(messages[-1]) + 1 for number, messages in batch.messages.items()} | batch.ends
            for document in self._documents(batch, begun, topic, at):
                yield document
        self._next = at

    async def news(self) -> None:
        """Returns when there is a message that was not read."""
        await self._client.wait(self._next)

    async def close(self) -> None:
        """Leave the supplier's Kafka."""
        await self._client.close()

    def _begin(self, topic: Topic, *, is_first: bool) -> dict[int, int]:
        """A partition that came later, or with a topic that was made anew, is read from its beginning."""
        if is_first and self._config.start == "latest":
            return {number: ends.end for number, ends in topic.ends.items()}
        return {number: ends.first if is_first else 0 for number, ends in topic.ends.items()}

    def _lost(self, topic: Topic, at: dict[int, int], known: dict[int, int], *, is_same: bool) -> Iterator[str]:
        """What cannot be read any more, in words; `at` goes on after it."""
        name = self._config.topic
        if not is_same:
            yield f"topic {name} was made anew: what was not read of the former one, from {_shown(known)}, is gone"
        for gone in [number for number in at if number not in topic.ends]:
            yield f"partition {gone} of {name} is gone; it was read up to offset {at.pop(gone)}"
        for number, ends in topic.ends.items():
            if at[number] < ends.first:
                yield f"offsets {at[number]} to {ends.first - 1} of {name} partition {number} were deleted unread"
                at[number] = ends.first
            elif at[number] > ends.end:
                yield f"{name} partition {number} ends at offset {ends.end}, before {at[number]}, where it was read to"
                at[number] = ends.first

    def _documents(
        self, batch: Batch, begun: dict[int, list[Message]], topic: Topic, at: dict[int, int]
    ) -> Iterator[Document]:
        """Of a batch, after what was `begun`; `at` goes on with each. What may go on is held until the next batch."""
        for number in sorted({*begun, *batch.messages}):
            messages = begun.pop(number, []) + batch.messages.get(number, [])
            end = batch.ends.get(number, _offset(messages[-1]) + 1)
            is_end = end >= topic.ends[number].end
            for first, last in self._cuts(messages):
                if last == len(messages) and not is_end and not self._is_full(messages[first:last]):
                    begun[number] = messages[first:]
                    break
                some = messages[first:last]
                begin = at[number]
                at[number] = end if last == len(messages) else _offset(some[-1]) + 1
                values = [message for message in some if message.value() is not None]  # one without is a deletion
                if not values:
                    yield self._state_only(topic, at)
                    continue
                now_ms = self._around.clock.now_ms()
                yield Document(
                    origin=self._origin(topic, number, begin),
                    observed_at=_time(values[0], now_ms),
                    received_at=now_ms,
                    blocks=once(self._body(values)),
                    after=self._state(topic, at),
                )
        for number, end in batch.ends.items():
            if at[number] < end:  # marks of transactions, and what was compacted away
                at[number] = end
                yield self._state_only(topic, at)

    def _cuts(self, messages: list[Message]) -> Iterator[tuple[int, int]]:
        """From where to where a document goes."""
        first, first_ms, size = 0, messages[0].timestamp()[1], len(messages[0])
        for place, message in enumerate(messages[1:], 1):
            is_far = abs(message.timestamp()[1] - first_ms) > self._config.within_s * 1_000
            if is_far or self._is_much(place - first, size):
                yield first, place
                first, first_ms, size = place, message.timestamp()[1], 0
            size += len(message)
        yield first, len(messages)

    def _is_full(self, messages: list[Message]) -> bool:
        return self._is_much(len(messages), sum(map(len, messages)))

    def _is_much(self, messages: int, size: int) -> bool:
        """Whether a document ends here, whatever comes after it."""
        return self._config.each == "document" or messages >= DOCUMENT_MESSAGES_MAX or size >= DOCUMENT_BYTES

    def _body(self, messages: list[Message]) -> bytes:
        values = [message.value() or b"" for message in messages]
        if self._config.each == "document":
            return values[0]
        if self._config.each == "line":
            return b"".join(_line(value) for value in values)
        if self._config.each == "record":
            return b"".join(packed(_beside(message), message.value() or b"") for message in messages)
        return b"".join(map(_wrapped, messages))

    def _origin(self, topic: Topic, number: int, offset: int) -> str:
        of_topic = blake2b(f"{self._config.topic}/{topic.id}".encode(), digest_size=4).hexdigest()
        return f"{self._config.topic[:TOPIC_CHARACTERS_MAX]}-{of_topic}-{number:05}-{offset:016}"

    def _state(self, topic: Topic, at: dict[int, int]) -> State:
        return {"topic": topic.id, "next": {str(number): offset for number, offset in at.items()}}

    def _state_only(self, topic: Topic, at: dict[int, int]) -> Document:
        now_ms = self._around.clock.now_ms()
        return Document(self._origin(topic, 0, 0), now_ms, now_ms, None, self._state(topic, at))


def _wrapped(message: Message) -> bytes:
    """What there is of a message, in a line; ours stands behind the value, so that the value cannot say it."""
    value = _line(message.value() or b"")[:-1]
    return b'{"value":' + value + b"," + orjson.dumps(_beside(message))[1:] + b"\n"


def _beside(message: Message) -> dict[str, Any]:
    """What there is of it besides its value; a header that is no text is left out, and a key none."""
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return {
        "key": None if (key := message.key()) is None else _text(key),
        "timestamp": message.timestamp()[1],
        "headers": {name: text for name, value in headers if (text := _text(value)) is not None or value is None},
        "id": f"{message.topic()}-{message.partition():05}-{message.offset():016}",
    }


def _line(value: bytes) -> bytes:
    """One line, whatever it was: JSON has line ends between its parts alone. An empty one is a row that is broken."""
    return (value.replace(b"\r", b" ").replace(b"\n", b" ").strip() or b"-") + b"\n"


def _text(value: str | bytes | None) -> str | None:
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return None


def _time(message: Message, now_ms: int) -> int:
    """When it was sent, in ms since the epoch; now, where it does not say."""
    at_ms: int = message.timestamp()[1]
    return min(at_ms, now_ms) if at_ms > 0 else now_ms


def _offset(message: Message) -> int:
    return message.offset() or 0


def _shown(offsets: dict[int, int]) -> str:
    return ", ".join(f"partition {number} offset {offset}" for number, offset in offsets.items())


async def _told(lost: list[str]) -> AsyncGenerator[bytes, None]:
    """A document that cannot be read: its dead letter says what is missing."""
    for _ in ():
        yield b""
    raise Rejected("messages_lost", f"{'; '.join(lost)}; ask the supplier for it, and for a longer retention")


KIND = Kind(KafkaConfig, KafkaSource)
