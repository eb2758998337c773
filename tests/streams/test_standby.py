"""Workers and the generations of rows: they follow the record, and nothing is lost or folded twice whenever it changes.

The engine is driven as the pump drives it, with the standby's own thread beside it, so that the record can change at
any step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import AdminClient

from schemas.admin import Deployed
from schemas.generations import KEY
from schemas.topics import GENERATIONS, STOCK
from stockweave.errors import Fatal
from streams.assembly import Engine
from tests.deployment import Deployment, Snapshot, drive, expected_on_hand, ready, some_updates, step
from tests.generations import copy_rows, tell
from tests.inventory.builders import update
from tests.inventory.reference import Event

PARTITIONS = 4
WAIT_S = 60.0


class Driven:
    """A worker's engine, with its standby, driven here."""

    def __init__(self, deployment: Deployment, name: str) -> None:
        self.deployment = deployment
        self.name = name
        self.engine, self.identity = deployment.engine(name)
        self.engine.standby.start()

    @property
    def number(self) -> int:
        return self.engine.standby.worked_on.number

    def until(self, done: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
        drive(self.engine, done, timeout_s)

    def until_ready(self, partitions: int = PARTITIONS) -> None:
        drive(self.engine, ready(self.engine, partitions))

    def until_folded(self, events: int) -> Snapshot:
        """Until the generation that the worker folds into has so many events."""
        looked_at, seen = 0.0, Snapshot()

        def folded() -> bool:
            nonlocal looked_at, seen
            if time.monotonic() - looked_at > 0.3:
                looked_at = time.monotonic()
                seen = rows_of(self.deployment, self.engine.standby.worked_on)
            return seen.events >= events

        self.until(folded)
        return seen

    def folders(self) -> set[str]:
        return {path.name for path in (self.deployment.folder / self.name / "stock").iterdir()}

    def close(self) -> None:
        self.engine.standby.close()
        self.engine.processor.close()
        self.identity.release()


@pytest.fixture
def driven(deployment: Deployment) -> Iterator[Callable[[str], Driven]]:
    """Starts workers; all are closed after the test, or their members would go on beating."""
    made: list[Driven] = []

    def start(name: str) -> Driven:
        made.append(Driven(deployment, name))
        return made[-1]

    yield start
    for worker in made:
        worker.engine.standby.stop()


def rows_of(deployment: Deployment, generation: Deployed) -> Snapshot:
    deployment.topics[STOCK.name] = generation
    return deployment.stock()


def copied(deployment: Deployment, number: int) -> Deployed:
    source = deployment.topics[STOCK.name]
    return copy_rows(deployment.base, deployment.bootstrap_servers, source, number)


def say(deployment: Deployment, live: int, candidate: int | None = None, previous: int | None = None) -> None:
    tell(deployment.base, deployment.bootstrap_servers, live, candidate, previous)


def close_all(*workers: Driven) -> None:
    for worker in workers:
        worker.close()


def test_a_switch_loses_and_doubles_nothing_and_leaves_no_folder_behind(
    deployment: Deployment, driven: Callable[[str], Driven]
) -> None:
    updates = some_updates(600)
    deployment.publish(updates[:300])
    worker = driven("w")
    before = worker.until_folded(300)
    first = worker.engine.standby.worked_on
    second = copied(deployment, 1)
    say(deployment, live=0, candidate=1)
    worker.until(lambda: second.generation in worker.folders())
    deployment.publish(updates[300:450])  # the old one goes on, and the copy has not got these
    worker.until_folded(450)
    say(deployment, live=1, previous=0)
    worker.until(lambda: worker.number == 1)
    deployment.publish(updates[450:])
    after = worker.until_folded(600)
    assert after.on_hand() == expected_on_hand(updates)
    assert after.events == 600
    assert not after.versions_fell
    worker.until(lambda: worker.folders() == {second.generation})
    worker.close()
    left = rows_of(deployment, first)
    assert left.events == 450, "the former generation was folded into after the switch"
    assert before.events == 300


def test_what_was_refused_once_is_one_dead_letter_whatever_generation_folds_it(
    deployment: Deployment, driven: Callable[[str], Driven]
) -> None:
    good = update(Event("COUNT", "c1", 1_000, 5))
    deployment.publish([good])
    worker = driven("w")
    worker.until_folded(1)
    first = worker.engine.standby.worked_on
    copied(deployment, 1)
    for i in range(5):
        deployment.publish_raw(b"sku-1", b"refused by the first %d" % i)
    rows_of(deployment, first)
    worker.until_folded(6)
    say(deployment, live=1, previous=0)
    worker.until(lambda: worker.number == 1)
    worker.until_folded(6)
    deployment.publish_raw(b"sku-1", b"refused by the second")
    seen = worker.until_folded(7)
    worker.close()
    letters = [message.value() for message in deployment.dead_letters()]
    assert sorted(v for v in letters if v) == [
        *(b"refused by the first %d" % i for i in range(5)), b"refused by the second"
    ]  # fmt: skip
    assert seen.positions[_partition(seen)].outcomes[""] == [0, 0, 0, 6]


def _partition(seen: Snapshot) -> int:
    [number] = [number for number, position in seen.positions.items() if position.events()]
    return number


def test_a_way_back_goes_on_where_the_former_generation_was_left(
    deployment: Deployment, driven: Callable[[str], Driven]
) -> None:
    updates = some_updates(600)
    deployment.publish(updates[:200])
    worker = driven("w")
    worker.until_folded(200)
    first = worker.engine.standby.worked_on
    copied(deployment, 1)
    say(deployment, live=1, previous=0)
    worker.until(lambda: worker.number == 1)
    deployment.publish(updates[200:400])
    worker.until_folded(400)
    say(deployment, live=0, previous=1)
    worker.until(lambda: worker.number == 0)
    deployment.publish(updates[400:])
    worker.until_folded(600)
    worker.close()
    seen = rows_of(deployment, first)
    assert seen.on_hand() == expected_on_hand(updates)
    assert seen.events == 600
    assert not seen.versions_fell


def test_a_partition_that_moves_between_generations_is_folded_once_into_each(
    deployment: Deployment, driven: Callable[[str], Driven]
) -> None:
    """One worker has heard of the switch, the other has not yet; what the latter folds into the old one is not lost."""
    updates = some_updates(900, skus=50)
    deployment.publish(updates[:300])
    ahead = driven("ahead")
    ahead.until_folded(300)
    second = copied(deployment, 1)
    deaf, identity = deployment.engine("deaf")  # its standby is not started
    say(deployment, live=1, previous=0)
    ahead.until(lambda: ahead.number == 1)

    def shared() -> bool:
        step(deaf)
        return len(deaf.processor.stages()) == 2 and all_ready(deaf) and all_ready(ahead.engine)

    ahead.until(shared)
    deployment.publish(updates[300:600])
    idle_since = time.monotonic()
    while time.monotonic() < idle_since + 1.0:
        if step(deaf) + step(ahead.engine):
            idle_since = time.monotonic()
    assert deaf.standby.worked_on.number == 0
    assert 300 < rows_of(deployment, second).events < 600
    deaf.processor.close()
    identity.release()
    ahead.until_ready()  # the two partitions come back, and go on where the new generation was left
    deployment.publish(updates[600:])
    seen = ahead.until_folded(900)
    ahead.close()
    assert seen.events == 900
    assert seen.on_hand() == expected_on_hand(updates)
    assert not seen.versions_fell


def all_ready(engine: Engine) -> bool:
    return {stage.name for stage in engine.processor.stages().values()} == {"READY"}


def test_a_worker_that_dies_in_the_middle_of_a_switch_goes_on_in_the_new_generation(
    deployment: Deployment, driven: Callable[[str], Driven]
) -> None:
    updates = some_updates(400)
    deployment.publish(updates[:200])
    worker = driven("w")
    worker.until_folded(200)
    second = copied(deployment, 1)
    say(deployment, live=0, candidate=1)
    worker.until(lambda: second.generation in worker.folders())
    deployment.publish(updates[200:])
    worker.until_folded(400)
    say(deployment, live=1, previous=0)
    offered = time.monotonic() + WAIT_S
    while worker.engine.standby._offered is None:
        assert time.monotonic() < offered, "the next generation was not offered"
        time.sleep(0.01)
    worker.close()  # and the offer is not taken
    again = driven("w")
    assert again.number == 1
    seen = again.until_folded(400)
    again.until(lambda: again.folders() == {second.generation})
    again.close()
    assert seen.events == 400
    assert seen.on_hand() == expected_on_hand(updates)


def test_a_candidate_that_is_dropped_with_its_topic_does_no_harm(
    deployment: Deployment, driven: Callable[[str], Driven]
) -> None:
    updates = some_updates(300)
    deployment.publish(updates[:200])
    worker = driven("w")
    worker.until_folded(200)
    first = worker.engine.standby.worked_on
    second = copied(deployment, 1)
    say(deployment, live=0, candidate=1)
    worker.until(lambda: second.generation in worker.folders())
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers})
    admin.delete_topics([second.name])[second.name].result(WAIT_S)  # before the record says so
    worker.until(lambda: worker.folders() == {first.generation})
    say(deployment, live=0)
    deployment.publish(updates[200:])
    seen = worker.until_folded(300)
    worker.close()
    assert seen.on_hand() == expected_on_hand(updates)


def test_a_switch_while_an_earlier_one_is_under_way_ends_in_the_last(
    deployment: Deployment, driven: Callable[[str], Driven]
) -> None:
    updates = some_updates(400)
    deployment.publish(updates[:200])
    worker = driven("w")
    worker.until_folded(200)
    first = worker.engine.standby.worked_on
    copied(deployment, 1)
    third = copied(deployment, 2)
    say(deployment, live=1, previous=0)
    deadline = time.monotonic() + WAIT_S
    while worker.engine.standby._offered is None:  # not taken, for nothing drives the worker
        assert time.monotonic() < deadline
        time.sleep(0.01)
    say(deployment, live=2, previous=1)
    deployment.publish(updates[200:])
    worker.until(lambda: worker.number == 2)
    seen = worker.until_folded(400)
    assert seen.on_hand() == expected_on_hand(updates)
    worker.until(lambda: worker.folders() == {third.generation})
    worker.close()
    assert first.generation not in worker.folders()


def test_an_offer_that_the_record_takes_back_is_not_taken(
    deployment: Deployment, driven: Callable[[str], Driven]
) -> None:
    deployment.publish(some_updates(200))
    worker = driven("w")
    worker.until_folded(200)
    second = copied(deployment, 1)
    say(deployment, live=1, previous=0)
    standby = worker.engine.standby
    await_that(lambda: standby._offered is not None)
    say(deployment, live=0, candidate=1)
    await_that(lambda: standby._offered is None)
    worker.until_ready()
    assert worker.number == 0
    say(deployment, live=1, previous=0)
    worker.until(lambda: worker.number == 1)
    assert worker.until_folded(200).events == 200
    worker.until(lambda: worker.folders() == {second.generation})
    worker.close()


def await_that(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_folders_of_other_generations_and_of_the_former_layout_are_deleted_at_the_start(
    deployment: Deployment, driven: Callable[[str], Driven]
) -> None:
    for name in ("0", "3", "0123abcd"):
        (deployment.folder / "w" / "stock" / name).mkdir(parents=True)
    worker = driven("w")
    worker.until_ready()
    worker.until(lambda: worker.folders() == {deployment.topics[STOCK.name].generation})
    worker.close()


def test_a_record_that_cannot_be_read_stops_the_worker(deployment: Deployment, driven: Callable[[str], Driven]) -> None:
    worker = driven("w")
    worker.until_ready()
    topic = deployment.topics[GENERATIONS.name].name
    deployment.producer.produce(topic, b"nonsense", KEY, 0)
    deployment.producer.flush(WAIT_S)
    with pytest.raises(Fatal, match=r"the record 'stock' in inventory\.generations cannot be read"):
        worker.until(lambda: False)
    worker.engine.processor.close()
    worker.identity.release()
