"""The checks are checked: each law is broken by hand once, and is seen to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from schemas import keys
from schemas.rows import decode_position, decode_row, encode, encode_row
from schemas.topics import ALERTS, DEAD_LETTERS, STOCK
from tests.simulation import checks, crossings, waiting
from tests.simulation.checks import Wrong
from tests.simulation.crossings import ALERT
from tests.simulation.kafka.log import Record
from tests.simulation.run import quietly, scheduled
from tests.simulation.schedule import Action
from tests.simulation.world import Simulation


@pytest.fixture(scope="module")
def finished() -> Simulation:
    """A run at rest, in which everything holds."""
    with quietly():
        simulation = Simulation(3, scheduled(3)[0])
        simulation.finish()
    checks.at_rest(simulation)
    return simulation


def last(simulation: Simulation, topic: str, of_position: bool = False) -> Record:
    """A record that counts still: of a row, or of a position."""
    [log, *_] = [log for log in simulation.cluster.topics[topic] if log.records]
    latest = {record.key: record for record in log.records if record.committed}
    position = latest.pop(keys.POSITION, None)
    if of_position:
        assert position is not None
        return position
    return latest[min(key for key in latest if key is not None and key >= keys.ROW_FIRST)]


def doubled(row: bytes) -> bytes:
    changed = decode_row(row)
    changed.on_hand *= 2
    changed.on_hand += 1
    return encode_row(changed)


def ahead(position: bytes) -> bytes:
    changed = decode_position(position)
    changed.offsets = {name: offset - 1 for name, offset in changed.offsets.items()}
    return encode(changed)


def miscounted(position: bytes) -> bytes:
    changed = decode_position(position)
    supplier = min(changed.outcomes)
    changed.outcomes[supplier] = [n + 1 for n in changed.outcomes[supplier]]
    return encode(changed)


@pytest.mark.parametrize(
    ("change", "of_position", "law"),
    [
        (doubled, False, "the topic, partition .* expected"),
        (ahead, True, "the topic, partition .* expected"),
        (miscounted, True, "the topic, partition .*: tallies"),
    ],
)
def test_a_row_or_position_that_is_not_what_the_events_say_is_seen(
    finished: Simulation, change: Callable[[bytes], bytes], of_position: bool, law: str
) -> None:
    record = last(finished, STOCK.name, of_position)
    right, record.value = record.value, change(record.value or b"")
    try:
        with quietly(), pytest.raises(Wrong, match=law):
            checks.at_rest(finished)
    finally:
        record.value = right


@pytest.mark.parametrize("how", ["twice", "missing", "other bytes"])
def test_a_dead_letter_that_is_missing_or_there_twice_or_changed_is_seen(finished: Simulation, how: str) -> None:
    [log, *_] = [log for log in finished.cluster.topics[DEAD_LETTERS.name] if log.records]
    right, value = list(log.records), log.records[0].value
    match how:
        case "twice":
            log.records.append(log.records[0])
        case "missing":
            log.records.pop()
        case _:
            log.records[0].value = b"changed"
    try:
        with quietly(), pytest.raises(Wrong, match="dead letter"):
            checks.at_rest(finished)
    finally:
        log.records, right[0].value = right, value


@pytest.fixture(scope="module")
def alarmed() -> Simulation:
    """A run at rest in which policies were changed, and much was told."""
    with quietly():
        simulation = Simulation(4, scheduled(4)[0])
        for _ in range(12):
            simulation.act(Action("policy"))
            simulation.act(Action("feed", number=9))
            for worker in simulation.workers:
                simulation.act(Action("run", worker.process.name, 40))
        simulation.finish()
    checks.at_rest(simulation)
    return simulation


@pytest.mark.parametrize("how", ["twice", "missing", "another state", "another number", "no id of its own"])
def test_an_alert_that_is_missing_or_there_twice_or_says_something_else_is_seen(alarmed: Simulation, how: str) -> None:
    [log, *_] = [log for log in alarmed.cluster.topics[ALERTS.name] if len(log.records) > 3]
    right, value = list(log.records), log.records[1].value
    [alert, other] = (cast("dict[str, Any]", ALERT.decode([r.value])[0]) for r in (right[1], right[2]))
    match how:
        case "twice":
            log.records.append(log.records[1])
        case "missing":
            log.records.pop(1)
        case "another state":
            right[1].value = ALERT.encode(alert | {"state": alert["previous"]})
        case "another number":
            right[1].value = ALERT.encode(alert | {"available": alert["available"] + 1})
        case _:
            right[1].value = ALERT.encode(alert | {"alert_id": other["alert_id"]})
    try:
        with quietly(), pytest.raises(crossings.Wrong, match=r"was told|have one id"):
            checks.at_rest(alarmed)
    finally:
        log.records, right[1].value = right, value


def test_a_row_that_says_another_alert_state_than_it_is_in_is_seen(alarmed: Simulation) -> None:
    written = next(each for each in alarmed.crossings._written if each)
    record = next(r for r in written if r.committed and r.key is not None and r.key >= keys.ROW_FIRST)
    row = decode_row(record.value or b"")
    row.alert ^= 0b0011
    right, record.value = record.value, encode_row(row)
    try:
        with quietly(), pytest.raises(crossings.Wrong, match="was expected"):
            checks.at_rest(alarmed)
    finally:
        record.value = right


def test_a_crossing_that_nobody_looks_for_holds_up_the_end_of_a_run(alarmed: Simulation) -> None:
    assert waiting.what_waits(alarmed) == ""
    alarmed.crossings._decided.append({"default": {"safety_units": 10_000}})
    with quietly():
        assert "says" in waiting.what_waits(alarmed)
    alarmed.crossings._decided.pop()


def test_a_view_that_goes_back_is_seen(finished: Simulation) -> None:
    finished.watch.look()
    place = min(finished.watch._view_at)
    finished.watch._view_at[place] += 1
    with pytest.raises(Wrong, match=r"the view of partition .* went back"):
        finished.watch.look()
    finished.watch._view_at[place] -= 1


def test_a_store_that_has_other_rows_than_the_topic_is_seen(finished: Simulation) -> None:
    worker = next(w for w in finished.workers if w.ready())
    store = worker.ready()[min(worker.ready())]
    key, row = next(iter(store.rows()))
    rows = {key: doubled(row)}
    store.write(dict(rows), store.mark.next_offset)
    with quietly(), pytest.raises(Wrong, match="the store of worker"):
        checks.at_rest(finished)
    store.write({key: row}, store.mark.next_offset)
    checks.at_rest(finished)


def test_a_store_that_stands_for_what_kafka_has_not_committed_is_seen(finished: Simulation) -> None:
    worker = next(w for w in finished.workers if w.ready())
    number, store = min(worker.ready().items(), key=lambda item: item[0])
    log = finished.cluster.log(STOCK.name, number)
    [record] = [r for r in log.records if r.offset == store.mark.anchor]
    assert record.span is not None
    finished.watch.look()
    for not_committed in (False, None):
        record.span.committed = not_committed
        with pytest.raises(Wrong, match=r"stands for offset \d+, which Kafka has not committed"):
            finished.watch.look()
    record.span.committed = True
