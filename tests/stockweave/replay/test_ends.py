"""Questions about a log's ends, answered by the real broker, and by one whose partition has no leader for a moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from schemas.topics import UPDATES
from stockweave.errors import Retriable
from stockweave.replay import ends as asked
from stockweave.replay.facts import reader_config
from tests.deployment import Deployment

Answer = TypeVar("Answer")
EVENTS = 3
NEVER_MS = 4_102_444_800_000  # 2100-01-01


class Moving(Consumer):
    """The real client, whose first questions meet a broker that does not lead the partition (any more)."""

    def __init__(self, bootstrap_servers: str) -> None:
        super().__init__(reader_config(bootstrap_servers))
        self.refusals = 0
        self.code = KafkaError.NOT_LEADER_FOR_PARTITION

    def get_watermark_offsets(  # type: ignore[no-untyped-def, override]
        self, *args, **kwargs
    ) -> tuple[int, int] | None:
        return self._answer(lambda: super(Moving, self).get_watermark_offsets(*args, **kwargs))

    def offsets_for_times(self, *args, **kwargs) -> list[TopicPartition]:  # type: ignore[no-untyped-def]
        return self._answer(lambda: super(Moving, self).offsets_for_times(*args, **kwargs))

    def _answer(self, ask: Callable[[], Answer]) -> Answer:
        if self.refusals:
            self.refusals -= 1
            raise KafkaException(KafkaError(self.code))
        return ask()


@pytest.fixture
def topic(deployment: Deployment) -> str:
    topic = deployment.topics[UPDATES.name].name
    producer = Producer({"bootstrap.servers": deployment.bootstrap_servers})
    for _ in range(EVENTS):
        producer.produce(topic, b"v", b"k", 0)
    producer.flush()
    return topic


@pytest.fixture
def consumer(deployment: Deployment) -> Moving:
    return Moving(deployment.bootstrap_servers)


@pytest.mark.parametrize("code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._UNKNOWN_PARTITION])
def test_a_partition_without_a_leader_is_asked_again(consumer: Moving, topic: str, code: int) -> None:
    consumer.refusals, consumer.code = 2, code
    assert asked.ends(consumer, topic, 0) == (0, EVENTS)
    consumer.refusals = 2
    assert asked.offset_at(consumer, topic, 0, 0) == 0
    assert consumer.refusals == 0


def test_a_time_after_the_last_has_no_offset(consumer: Moving, topic: str) -> None:
    assert asked.offset_at(consumer, topic, 0, NEVER_MS) is None


@pytest.mark.parametrize("question", ["ends", "offset_at"])
def test_any_other_failure_names_the_topic_and_may_be_tried_again(consumer: Moving, topic: str, question: str) -> None:
    consumer.refusals, consumer.code = 1, KafkaError.TOPIC_AUTHORIZATION_FAILED
    with pytest.raises(Retriable, match=f"^{topic} partition 0 does not tell its offsets"):
        asked.ends(consumer, topic, 0) if question == "ends" else asked.offset_at(consumer, topic, 0, 0)
