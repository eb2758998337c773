"""Commits that fail, hang, crash or are undone: driven as the pump does, with faults put between two steps."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from confluent_kafka import KafkaError, KafkaException

from schemas import keys
from state.store import PartitionStore
from stockweave.errors import Fatal, Retriable
from tests.deployment import Deployment, drive, drive_events, expected_on_hand, ready, some_updates
from tests.streams.staging import ABORTABLE, PARTITIONS, Replaced, crash, fail_once, stores, stores_of


def test_a_crash_after_the_commit_and_before_the_disk_loses_and_doubles_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = some_updates(400)
    deployment.publish(updates[:200])
    engine, identity = deployment.engine("w")
    drive_events(engine, 200)
    deployment.publish(updates[200:])

    def power_cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PartitionStore, "write", power_cut)
        with pytest.raises(KeyboardInterrupt):
            drive_events(engine, 200)
    crash(engine, deployment, "w", "again")
    engine, identity_again = deployment.engine("again")
    drive(engine, ready(engine, PARTITIONS), timeout_s=30)
    drive(engine, lambda: deployment.stock().events == len(updates))
    seen = deployment.stock()
    assert seen.on_hand() == expected_on_hand(updates)
    engine.processor.close()
    assert stores(deployment, "again") == {k: v for k, v in seen.raw.items() if k != keys.POSITION}
    identity.release()
    identity_again.release()


def test_an_aborted_transaction_is_invisible_and_its_events_are_folded_again(deployment: Deployment) -> None:
    updates = some_updates(300)
    deployment.publish(updates)
    engine, identity = deployment.engine("w")
    producer = fail_once(engine.processor, "commit_transaction")
    drive_events(engine, len(updates))
    assert producer.failed == 1
    engine.processor.close()
    identity.release()
    seen = deployment.stock()
    assert seen.on_hand() == expected_on_hand(updates)
    assert seen.events == len(updates)


def test_a_retriable_error_is_the_same_call_again_and_nothing_is_doubled(deployment: Deployment) -> None:
    updates = some_updates(300)
    deployment.publish(updates)
    engine, identity = deployment.engine("w")
    timed_out = KafkaError(KafkaError._TIMED_OUT, "staged", retriable=True)
    producer = fail_once(engine.processor, "send_offsets_to_transaction", timed_out)
    drive_events(engine, len(updates))
    assert producer.failed == 1
    engine.processor.close()
    identity.release()
    assert deployment.stock().on_hand() == expected_on_hand(updates)


def test_a_fatal_error_stops_with_the_reason_and_acknowledges_nothing(deployment: Deployment) -> None:
    deployment.publish(some_updates(50))
    engine, identity = deployment.engine("w")
    fail_once(engine.processor, "commit_transaction", KafkaError(KafkaError._FENCED, "staged", fatal=True))
    with pytest.raises(Fatal, match="commit_transaction failed for good"):
        drive_events(engine, 50)
    assert deployment.stock().events == 0
    identity.release()


def test_a_takeover_ends_the_transaction_that_a_killed_worker_left_open(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = some_updates(200)
    deployment.publish(updates)
    engine, identity = deployment.engine("w")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("streams.transaction.Transaction.commit", killed)
        with pytest.raises(KeyboardInterrupt):
            drive_events(engine, len(updates))
    crash(engine, deployment, "w", "again")
    engine, again = deployment.engine("again")
    drive(engine, lambda: deployment.stock().events == len(updates))
    engine.processor.close()
    identity.release()
    again.release()
    assert deployment.stock().on_hand() == expected_on_hand(updates)


def test_a_commit_below_what_the_store_has_read_stops_the_worker(deployment: Deployment) -> None:
    """Kafka lost the end of the rows while the worker ran, as an unclean election does."""
    deployment.publish(some_updates(100))
    engine, identity = deployment.engine("w")
    drive_events(engine, 100)
    before = stores_of(engine)
    for assigned in engine.processor._assigned.values():
        assigned.store.mark = msgspec.structs.replace(assigned.store.mark, next_offset=10_000)
    deployment.publish(some_updates(100, seed=2))
    with pytest.raises(Fatal, match=r"lost the end of .*; the worker has to start again"):
        drive_events(engine, 100)
    assert stores_of(engine) == before
    assert deployment.stock().events == 100
    engine.processor.close()
    identity.release()


@pytest.mark.parametrize("told", [None, -1])
def test_a_position_record_whose_offset_is_not_told_stops_the_worker(deployment: Deployment, told: int | None) -> None:
    deployment.publish(some_updates(50))
    engine, identity = deployment.engine("w")
    transaction = engine.processor._transaction
    real = transaction._producer.produce

    class Untold:
        def offset(self) -> int | None:
            return told

    def produce(*arguments: Any, on_delivery: Any = None, **named: Any) -> None:
        if on_delivery is not None:
            named["on_delivery"] = lambda error, _: on_delivery(error, Untold())
        real(*arguments, **named)

    transaction._producer = Replaced(transaction._producer, "produce", produce)
    with pytest.raises(Fatal, match=r"does not say at which offset .*; the worker has to start again"):
        drive_events(engine, 50)
    assert deployment.stock().events == 0
    engine.processor.close()
    identity.release()


@pytest.mark.parametrize("call", ["commit_transaction", "send_offsets_to_transaction", "flush", "produce"])
def test_a_stop_ends_a_commit_that_kafka_does_not_answer_and_the_next_start_undoes_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr("streams.transaction.STOP_PATIENCE_S", 0.5)
    updates = some_updates(200)
    deployment.publish(updates)
    engine, identity = deployment.engine("w")
    transaction, tried = engine.processor._transaction, threading.Event()

    def unanswered(*_: Any, **__: Any) -> int:
        tried.set()
        time.sleep(0.01)
        if call == "flush":
            return 1
        if call == "produce":
            raise BufferError
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "staged", retriable=True))

    transaction._producer = Replaced(transaction._producer, call, unanswered)
    with ThreadPoolExecutor(1) as thread:
        driving = thread.submit(drive_events, engine, len(updates))
        assert tried.wait(30)
        assert not driving.done()
        engine.processor.stop()
        with pytest.raises(Retriable, match="told to stop"):
            driving.result(10)
    engine.processor.close()
    assert deployment.stock().events == 0
    engine, identity = deployment.engine_after(identity, "w")
    drive_events(engine, len(updates))
    engine.processor.close()
    identity.release()
    assert deployment.stock().on_hand() == expected_on_hand(updates)


def test_a_batch_that_is_aborted_again_and_again_stops_the_worker(deployment: Deployment) -> None:
    deployment.publish(some_updates(20))
    engine, identity = deployment.engine("w")
    transaction = engine.processor._transaction

    def refuse(*_: Any) -> None:
        raise KafkaException(ABORTABLE)

    transaction._producer = Replaced(transaction._producer, "commit_transaction", refuse)
    with pytest.raises(Fatal, match=r"aborted \d+ times in a row"):
        drive_events(engine, 20)
    assert deployment.stock().events == 0
    engine.processor.close()
    identity.release()
