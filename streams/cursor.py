"""Where the reading of one partition of a source topic stands, and which of the messages that come follow it.

Kafka's own position is not used: it is unset after an assignment, and counts what was handed out, folded or not.
"""

from __future__ import annotations

from itertools import groupby
from typing import cast

import structlog
from confluent_kafka import KafkaError, Message

from stockweave.errors import Fatal

log = structlog.get_logger(__name__)

NO_GAP = (-1, -1)


class Cursor:
    """`next_offset` moves only with a commit; below zero: not known yet.

    `expects_gaps`: transactions write the topic, so that their markers lie in it everywhere; no gap is read again.
    """

    def __init__(self, next_offset: int = -1, *, expects_gaps: bool = False) -> None:
        self.next_offset = next_offset
        self._expects_gaps = expects_gaps
        self._gap = NO_GAP  # the last one that was read again: from, to

    def following(self, messages: list[Message]) -> tuple[list[Message], bool]:
        """The messages that follow without a gap, and whether there was one, so that it has to be read again.

        A gap is read again once, for the fetch may have run ahead of a seek; when it is still there, the offsets hold
        nothing (the markers of a producer's transactions, what is kept no longer) and it is passed. One that was not
        there the second time is forgotten: should the fetch run ahead to the same place later, that is another one.
        """
        expected = self.next_offset
        if (messages[0].offset(), messages[-1].offset()) == (expected, expected + len(messages) - 1):
            self._gap = NO_GAP
            return messages, False  # the usual case: offsets ascend, so there is none between
        taken: list[Message] = []
        for message in messages:
            offset = cast("int", message.offset())
            if offset < expected:
                continue
            if offset > expected and not self._expects_gaps and self._gap != (expected, offset):
                log.info("gap_read_again", topic=message.topic(), expected=expected, got=offset)
                self._gap = expected, offset
                return taken, True
            if offset == self._gap[0]:
                self._gap = NO_GAP
            taken.append(message)
            expected = offset + 1
        return taken, False


def is_error(message: Message, topic: str) -> bool:
    """Whether it is one of librdkafka's own, which goes on by itself.

    Raises:
        Fatal: reading can never go on.
    """
    error = message.error()
    if error is None:
        return False
    code = error.code()
    if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        raise Fatal(f"{topic} no longer has the updates to go on from: {error.str()}; restore a checkpoint")
    if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):
        raise Fatal(f"{topic} is gone: {error.str()}; restart to create it")
    if error.fatal() or code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
        raise Fatal(f"{topic} cannot be read: {error.str()}")
    log.info("consuming_interrupted", topic=topic, error=error.name(), text=error.str())
    return True


def by_partition(messages: list[Message]) -> dict[int, list[Message]]:
    """Messages of one topic by partition, each in its order; they come in long runs."""
    found: dict[int, list[Message]] = {}
    at = 0
    for number, run in groupby([message.partition() for message in messages]):
        first, at = at, at + len(list(run))
        found.setdefault(cast("int", number), []).extend(messages[first:at])
    return found
