"""The publisher: an update is acknowledged, refused, or said to be in doubt, and no caller waits without an end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from connectors import publisher as publisher_module
from connectors.parcel import IN_DOUBT
from connectors.publisher import InDoubt, Publisher
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.topics import UPDATES
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.errors import Fatal, Rejected, Retriable
from stockweave.ports import free_port
from tests.connectors.service import deployed, records
from tests.deployment import Deployment
from tests.inventory.builders import update
from tests.inventory.reference import Event

CODEC = Codec("StockUpdate", FileRegistry())
TIMEOUT_MS = 2_000


def made(number: int, **changed: Any) -> dict[str, Any]:
    return dict(update(Event("COUNT", f"p{number}", 1_000, 5))) | {"sku": f"sku-{number % 50}"} | changed


def publisher(servers: str, topic: str) -> Publisher:
    return Publisher(servers, topic, CODEC, TIMEOUT_MS)


def all_stopped(pid: int | None) -> bool:
    """Whether no thread of a process runs any more: on a busy machine some come to it later than others."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def new_topic(servers: str, **config: str) -> str:
    name = f"t{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(name, 1, 1, config=config)])[name].result()
    return name


async def test_without_a_kafka_a_write_is_refused_at_once_and_later_ones_too() -> None:
    async with publisher(f"127.0.0.1:{free_port()}", "any") as lone:
        for _ in range(3):
            began_s = time.monotonic()
            with pytest.raises(Retriable, match=r"is away .* nothing was sent"):
                await lone.publish(made(1))
            assert time.monotonic() - began_s < 1
        assert not lone.reachable
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 1, "there is nothing to deliver at the stop"


async def test_a_topic_that_is_missing_is_named(broker: EmbeddedKafka) -> None:
    async with publisher(broker.bootstrap_servers, "no-such-topic") as lone:
        with pytest.raises(Retriable, match="topic no-such-topic"):
            await lone.publish(made(1))


async def test_an_update_that_kafka_refuses_is_rejected_and_not_in_doubt(broker: EmbeddedKafka) -> None:
    topic = new_topic(broker.bootstrap_servers, **{"max.message.bytes": "300"})
    async with publisher(broker.bootstrap_servers, topic) as lone:
        with pytest.raises(Rejected) as caught:
            await lone.publish(made(1, order_ref=os.urandom(400).hex()))
        assert caught.value.reason == "refused_by_kafka"
        assert (await lone.publish(made(2))).offset == 0
        assert lone.reachable


async def test_a_fatal_error_ends_every_write_and_is_told_to_whoever_watches(broker: EmbeddedKafka) -> None:
    topic = new_topic(broker.bootstrap_servers)
    async with publisher(broker.bootstrap_servers, topic) as lone:
        watching = asyncio.create_task(lone.watch())
        await lone.publish(made(1))
        assert not watching.done()
        lone._on_error(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "out of order", fatal=True))
        with pytest.raises(Fatal, match="out of order; start the process again"):
            await watching
        with pytest.raises(Fatal):
            await lone.publish(made(2))


async def test_more_than_fits_the_queue_waits_for_room(broker: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "QUEUED_MAX", 500)
    topic = new_topic(broker.bootstrap_servers)
    most = 0
    async with publisher(broker.bootstrap_servers, topic) as lone:

        async def send(lane: int) -> int:
            nonlocal most
            parcel = await lone.send([made(lane * 400 + i) for i in range(400)])
            most = max(most, len(lone._producer))
            await lone.settle(parcel)
            return parcel.offsets[0] + 1 if not parcel.failures else 0

        assert max(await asyncio.gather(*map(send, range(20)))) == 8_000
    assert 400 <= most <= 500


async def test_what_a_stop_finds_in_the_queue_is_delivered(broker: EmbeddedKafka) -> None:
    topic = new_topic(broker.bootstrap_servers)
    async with publisher(broker.bootstrap_servers, topic) as lone:
        parcel = await lone.send([made(i) for i in range(5_000)])
    await lone.settle(parcel)
    assert parcel.failures == []
    assert parcel.offsets == {0: 4_999}
    with pytest.raises(Retriable, match="stopping"):
        await lone.publish(made(1))


async def test_who_asks_hears_whether_something_was_sent_just_now(
    broker: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with publisher(broker.bootstrap_servers, new_topic(broker.bootstrap_servers)) as one:
        told = [one.is_used]
        await one.publish(made(1))
        told.append(one.is_used)
        monkeypatch.setattr(publisher_module, "USED_S", 0.0)
        assert [*told, one.is_used] == [False, True, False]


async def test_who_is_kept_from_waiting_for_a_parcel_may_wait_for_it_again(broker: EmbeddedKafka) -> None:
    async with publisher(broker.bootstrap_servers, new_topic(broker.bootstrap_servers)) as one:
        parcel = await one.send([made(i) for i in range(500)])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await one.settle(parcel)
        await one.settle(parcel)
        assert (parcel.failures, parcel.offsets) == ([], {0: 499})


async def test_a_kafka_that_stands_still_leaves_updates_in_doubt_and_is_found_again(
    broker_factory: Callable[[], EmbeddedKafka], tmp_path: Path
) -> None:
    kafka = broker_factory().start()
    deployment, settings = deployed(kafka.bootstrap_servers, tmp_path)
    assert kafka.pid is not None
    async with publisher(kafka.bootstrap_servers, settings.topic(UPDATES.name)) as one:
        await one.publish(made(1))
        os.kill(kafka.pid, signal.SIGSTOP)
        await until(lambda: all_stopped(kafka.pid))
        try:
            began_s = time.monotonic()
            with pytest.raises(InDoubt, match="same updateId"):
                await one.publish(made(2))
            assert TIMEOUT_MS / 1000 * 0.9 < time.monotonic() - began_s < TIMEOUT_MS / 1000 + 2
            await until(lambda: not one.reachable)
            began_s = time.monotonic()
            with pytest.raises(Retriable, match="nothing was sent"):
                await one.publish(made(3))
            assert time.monotonic() - began_s < 1
        finally:
            os.kill(kafka.pid, signal.SIGCONT)
        await until(lambda: one.reachable)
        await one.publish(made(2))
    assert {"p1", "p2"} <= set(await asyncio.to_thread(records, deployment)) <= {"p1", "p2"}


async def test_a_kafka_that_is_killed_under_updates_loses_none_that_was_acknowledged(
    broker_factory: Callable[[], EmbeddedKafka], tmp_path: Path
) -> None:
    kafka = broker_factory().start()
    deployment, settings = deployed(kafka.bootstrap_servers, tmp_path)
    async with publisher(kafka.bootstrap_servers, settings.topic(UPDATES.name)) as one:
        early = [await one.send([made(i * 500 + j) for j in range(500)]) for i in range(10)]
        await one.settle(early[0])
        kafka.kill()
        late = await one.send([made(5_000 + j) for j in range(500)] * 2, patience_s=0.5)
        for parcel in (*early, late):
            await one.settle(parcel)
        assert {failure.reason for failure in late.failures} == {IN_DOUBT}
        assert [failure.place for failure in late.failures] == list(range(1_000)), "equal updates are told apart"
        in_doubt = {5_000 + j for j in range(500)}
        in_doubt |= {i * 500 + failure.place for i, parcel in enumerate(early) for failure in parcel.failures}
        kafka.start()
        await until(lambda: one.reachable)
        found = await _ids(deployment)
        assert {f"p{number}" for number in range(5_500) if number not in in_doubt} <= found
        await one.settle(await one.send([made(number) for number in sorted(in_doubt)]))
        assert await _ids(deployment) == {f"p{number}" for number in range(5_500)}


async def _ids(deployment: Deployment) -> set[str]:
    return set(await asyncio.to_thread(records, deployment))
