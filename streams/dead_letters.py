"""What could not be used goes here with its original bytes, where it stood and why; nothing is lost in silence.

What is too large for the topic is cut, and a header says so: the whole of it stays in inventory.updates, at the offset
that the headers name. Headers are those of `schemas.dead_letters`.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import structlog
from confluent_kafka import OFFSET_END, KafkaException, Message, TopicPartition

from schemas.dead_letters import (
    DETAIL,
    DETAIL_CHARACTERS_MAX,
    NOTE,
    OFFSET,
    PARTITION,
    REASON,
    STAGE,
    TOPIC,
    TRUNCATED,
)  # fmt: skip
from schemas.topics import MESSAGE_BYTES_MAX
from stockweave.world import EndsConsumer

log = structlog.get_logger(__name__)

WHOLE_BYTES_MAX = MESSAGE_BYTES_MAX - (1 << 20)  # of value, key and headers; our own headers come to that
CUT_BYTES = 1 << 20  # what is left of a value or a key that is cut
ENDS_WAIT_S = 1.0

Headers = list[tuple[str, bytes]]

ENDING: Headers = [(NOTE, b"nothing by itself: it ends a transaction that hung, whose records may be here twice")]
"""Of the record that `Transaction.keep_what_hangs` writes."""


class DeadLetter(NamedTuple):
    """A message that was refused. `reason`: a stable code; `detail`: the field and the remedy."""

    message: Message
    reason: str
    detail: str


class Record(NamedTuple):
    """What is produced."""

    value: bytes | None
    key: bytes | None
    headers: Headers


def record(letter: DeadLetter, stage: str) -> Record:
    """The message as it came, with our headers after those that it came with; cut where it would not fit."""
    message = letter.message
    value, key = message.value(), message.key()
    came_with = cast("Headers", message.headers() or [])
    value_bytes, key_bytes = len(value or b""), len(key or b"")
    headers_bytes = sum(len(name) + len(content or b"") for name, content in came_with)
    own = _own_headers(letter, stage)
    if value_bytes + key_bytes + headers_bytes <= WHOLE_BYTES_MAX:
        return Record(value, key, came_with + own)
    said = (
        f"this is the beginning of a value of {value_bytes} bytes, with a key of {key_bytes} and headers of "
        f"{headers_bytes}, which are left out; the whole is in {message.topic()}, partition {message.partition()}, "
        f"offset {message.offset()}"
    )
    return Record(value and value[:CUT_BYTES], key and key[:CUT_BYTES], [*own, (TRUNCATED, said.encode())])


def hanging(topic: str, partitions: int, committed: EndsConsumer, uncommitted: EndsConsumer) -> list[int]:
    """The partitions of `topic` where readers of committed data stand before the end: a transaction is open, or hangs.

    None when Kafka does not say: nobody waits for a dead letter. Asked of alerts as well.
    """
    asked = [TopicPartition(topic, number, OFFSET_END) for number in range(partitions)]
    try:
        stable = {t.partition: t.offset for t in committed.offsets_for_times(asked, timeout=ENDS_WAIT_S)}
        ends = uncommitted.offsets_for_times(asked, timeout=ENDS_WAIT_S)
    except KafkaException as raised:
        log.info("hanging_not_looked_for", topic=topic, error=raised.args[0].name())
        return []
    return [t.partition for t in ends if 0 <= stable[t.partition] < t.offset]


def _own_headers(letter: DeadLetter, stage: str) -> Headers:
    message = letter.message
    own = {
        TOPIC: message.topic(),
        PARTITION: message.partition(),
        OFFSET: message.offset(),
        STAGE: stage,
        REASON: letter.reason,
        DETAIL: letter.detail[:DETAIL_CHARACTERS_MAX],
    }
    return [(name, str(value).encode()) for name, value in own.items()]
