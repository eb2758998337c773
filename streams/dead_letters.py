"""What could not be used goes here with its original bytes, where it stood and why; nothing is lost in silence.

Headers follow Kafka Connect's dead letter queue (KIP-298, `__connect.errors.*`), so that its tools read them.
"""

from __future__ import annotations

from typing import NamedTuple, cast

from confluent_kafka import Message


class DeadLetter(NamedTuple):
    """A message that was refused. `reason`: a stable code; `detail`: the field and the remedy."""

    message: Message
    reason: str
    detail: str


def headers(letter: DeadLetter, stage: str) -> list[tuple[str, bytes]]:
    """Headers of the dead letter, after those that the message came with."""
    message = letter.message
    own = {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "stage": stage,
        "exception.class.name": letter.reason,
        "exception.message": letter.detail,
    }
    came_with = cast("list[tuple[str, bytes]]", message.headers() or [])
    return came_with + [(f"__connect.errors.{name}", str(value).encode()) for name, value in own.items()]
