"""Changes that name an order, in batches and against the real broker: what they close, and how often."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from confluent_kafka import Message

from inventory.policies import Policies
from inventory.reservations.facts import Fact
from inventory.stock import Limits, StockUpdate
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.reservations import CLOSED, COMMITTED, FULFILLED, HELD, Hold, decode_hold
from schemas.rows import Position, StockRow, decode_row
from schemas.topics import COMMANDS, UPDATES
from state.database import Resources
from state.store import PartitionStore
from streams.batch import COLUMNS_MIN, Batch, Folder, Part
from streams.decider import Decider
from tests.deployment import Deployment, drive, drive_events
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.inventory.reservations.builders import NOW, SKU, command
from tests.reservations import check
from tests.streams.test_reservations import decided, left, put_back

UPDATE, COMMAND, FACT = (
    Codec(name, FileRegistry()) for name in ("StockUpdate", "ReservationCommand", "ReservationFact")
)
COUNT = update(Event("COUNT", "c1", NOW - 1, 10))


def shipped(units: int, at: int = NOW + 10, update_id: str = "d1", **fields: Any) -> StockUpdate:
    return update(Event("DELTA", update_id, at, -units), order_ref="o1", **fields)


def change(action: str, quantity: int = 0, **fields: Any) -> dict[str, Any]:
    return dict(command(action, command_id=f"{action}-{quantity}", quantity=quantity, **fields))


class Worker:
    """Folds batches of one partition, and keeps what comes of them in a store."""

    def __init__(self, folder: Path, row_cache_bytes: int = 0) -> None:
        self.store = PartitionStore(folder, Resources(1 << 20, 1 << 20, row_cache_bytes), "g")
        self.position = Position({}, {})
        self.facts: list[Fact] = []
        self._folder = Folder(UPDATE, Limits(), None, Decider(COMMAND, FACT, Policies))

    def work(
        self,
        updates: Sequence[StockUpdate] = (),
        commands: Sequence[Mapping[str, Any]] = (),
        missed: Sequence[Fact] = (),
        closes_from: int = 0,
    ) -> list[str]:
        """One batch; the facts that were decided."""
        offsets = self.position.offsets
        told, asked = (
            [
                Message(topic=topic.name, partition=0, offset=offsets.get(topic.name, 0) + i, key=one["sku"].encode(),
                        value=codec.encode(dict(one)))
                for i, one in enumerate(every)
            ]
            for topic, codec, every in ((UPDATES, UPDATE, updates), (COMMANDS, COMMAND, commands))
        )  # fmt: skip
        by_topic = {COMMANDS.name: asked} if asked else {}
        part = Part(0, self.store, self.position, told, by_topic, (), missed, 0, closes_from, at_ms=NOW)
        [folded] = self._folder.fold(Batch([part], None))
        self.position = folded.position
        self.store.write(folded.rows, 0)
        values = [] if folded.decided is None else [value for _, value in folded.decided.facts]
        facts = cast("list[Fact]", FACT.decode(values))
        self.facts += [*missed, *facts]
        assert self.position.facts == len(self.facts)
        return [fact["fact"] for fact in facts]

    def holds(self) -> dict[str, Hold]:
        return {hold.reservation_id: hold for hold in map(decode_hold, dict(self.store.holds()).values())}

    def row(self) -> StockRow:
        return decode_row(self.store.get(SKU.encode()) or b"")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path / "0", 1 << 20)
    yield made
    made.store.close()


@pytest.mark.parametrize("row_cache_bytes", [0, 1 << 20])
@pytest.mark.parametrize("others", [0, COLUMNS_MIN])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_change_closes_what_was_decided_before_it_wherever_that_is(
    tmp_path: Path, row_cache_bytes: int, others: int, at_once: bool
) -> None:
    worker = Worker(tmp_path / "0", row_cache_bytes)
    worker.work([COUNT])
    commands = [change("HOLD", 3), change("COMMIT")]
    updates = [shipped(2), *(update(Event("COUNT", "c", NOW, 5), sku=f"other-{n}") for n in range(others))]
    if at_once:
        worker.work(updates, commands)
    else:
        worker.work((), commands)
        worker.work(updates)
    assert [fact["fact"] for fact in worker.facts] == [HELD, COMMITTED, CLOSED]
    assert [fact["number"] for fact in worker.facts] == [0, 1, 2]
    closed = worker.facts[-1]
    assert (closed["units"], closed["update_offset"], closed["command_offset"]) == (2, 1, None)
    assert closed["next_update"] == 2 + others
    hold = worker.holds()["r1"]
    assert [(part.quantity, part.closed) for part in hold.parts] == [(1, False), (2, True)]
    assert left(worker.row()) == 7
    worker.store.close()


def test_what_is_not_accepted_or_no_shipment_closes_nothing(worker: Worker) -> None:
    worker.work([COUNT, update(Event("DELTA", "d0", NOW, -1))])
    worker.work((), [change("HOLD", 3)])
    for one in (
        shipped(1, NOW, "d0"),  # a duplicate, as ids go
        shipped(2, NOW, "d0"),  # and one that replaces it
        shipped(1, NOW + 1_000_000),  # observed in times to come
        shipped(-1, NOW + 1),
        shipped(1, NOW + 2, sku="another"),
        shipped(1, NOW + 3, location_id="another"),
        update(Event("DELTA", "d9", NOW + 4, -1), order_ref="another"),
        update(Event("DELTA", "d9", NOW + 5, -1)),
        update(Event("COUNT", "c2", NOW + 6, 8), order_ref="o1"),
    ):
        found = worker.work([one | {"received_at": NOW}])
        assert found == ([CLOSED] if one["quantity"] == -2 else []), one


def test_a_change_that_a_count_knows_of_already_closes(worker: Worker) -> None:
    worker.work([COUNT])
    worker.work((), [change("HOLD", 3), change("COMMIT")])
    worker.work([update(Event("COUNT", "c2", NOW + 50, 8)), shipped(2)])
    assert worker.position.outcomes["acme"][2] == 1
    assert left(worker.row()) == 7


def test_a_change_that_is_told_twice_closes_once_before_and_after_a_count(worker: Worker) -> None:
    worker.work([COUNT])
    worker.work((), [change("HOLD", 5), change("COMMIT")])
    worker.work([shipped(2), shipped(2)])
    worker.work([shipped(2), update(Event("COUNT", "c2", NOW + 50, 8)), shipped(2)])
    worker.work([shipped(2)])
    assert [fact["units"] for fact in worker.facts] == [5, 5, 2]
    assert left(worker.row()) == 5


def test_updates_that_name_no_order_look_nothing_up(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.work([COUNT])
    worker.work((), [change("HOLD", 5)])
    monkeypatch.setattr(worker.store, "order_keys", None)
    worker.work([update(Event("DELTA", "d1", NOW, -1)), update(Event("COUNT", "c2", NOW, 7))])
    with pytest.raises(TypeError):
        worker.work([shipped(1)])


@pytest.mark.parametrize("seed", range(30))
def test_what_comes_of_changes_does_not_depend_on_the_batches(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    steps: list[StockUpdate] = []
    for n in range(30):
        at, named = NOW + rng.randrange(20), rng.choice((None, "o1", "o1"))
        kind = rng.choice(("DELTA", "DELTA", "DELTA", "COUNT"))
        quantity = rng.randint(5, 12) if kind == "COUNT" else rng.choice((-3, -2, -1, 2))
        steps.append(update(Event(kind, f"u{rng.randrange(20) if n % 2 else n}", at, quantity), order_ref=named))
    commands = [
        *(change("HOLD", n, reservation_id=f"r{n}") for n in (1, 2, 3)),
        change("COMMIT", reservation_id="r2"),
        change("COMMIT", reservation_id="r3"),
        change("FULFIL", 1, reservation_id="r3"),
    ]
    seen = []
    for run in range(2):
        worker = Worker(tmp_path / str(run), 1 << 20)
        worker.work([COUNT])
        worker.work((), commands)
        waiting = steps
        while waiting:
            size = len(waiting) if run == 0 else rng.randint(1, 4)
            worker.work(waiting[:size])
            waiting = waiting[size:]
        row = worker.row()
        facts = [{name: value for name, value in fact.items() if name != "next_update"} for fact in worker.facts]
        seen.append((worker.holds(), facts, row.sources, row.reserved, row.on_hand))
        worker.store.close()
    assert seen[0] == seen[1]
    assert CLOSED in {fact["fact"] for fact in seen[0][1]}


def test_a_change_that_is_folded_again_into_rows_of_before_is_not_decided_again(tmp_path: Path) -> None:
    """Rows that were put back get the facts that they lack first, and then the updates again."""
    early, late = shipped(1, NOW + 10, "early"), shipped(2, NOW + 20, "late")
    first = Worker(tmp_path / "0")
    first.work([COUNT])
    first.work([early])  # there is nothing to close yet
    first.work([late], [change("HOLD", 5), change("COMMIT")])
    assert [fact["fact"] for fact in first.facts] == [HELD, COMMITTED, CLOSED]
    again = Worker(tmp_path / "1")
    again.work([COUNT])
    settled = max(fact["next_update"] for fact in first.facts)
    assert again.work([early], missed=first.facts, closes_from=settled) == []
    assert again.work([late], closes_from=settled) == []
    assert again.holds() == first.holds()
    assert again.row().reserved == first.row().reserved
    assert again.work([shipped(1, NOW + 30, "later")], closes_from=settled) == [CLOSED]
    for each in (first, again):
        each.store.close()


# -- against the broker


def asked(*commands: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return [dict(one) for one in commands]


def test_a_worker_closes_once_what_ships_also_where_it_was_killed_and_folds_again(deployment: Deployment) -> None:
    deployment.publish([COUNT])
    engine, identity = deployment.engine("w")
    drive_events(engine, 1)
    before = deployment.stock()
    deployment.publish([shipped(1, NOW, "before-the-reservation")])
    drive_events(engine, 1)
    commands = deployment.ask(asked(change("HOLD", 5), change("COMMIT")))
    drive(engine, lambda: decided(deployment, commands))
    deployment.publish([shipped(2), shipped(2)])
    drive_events(engine, 2)
    engine.processor.close()
    after = deployment.stock()
    check(after, deployment)
    assert (left(after.rows[SKU]), after.holds["r1"].open_units) == (10 - 1 - 5, 3)
    partition = next(n for n, position in after.positions.items() if position.facts)
    put_back(deployment, partition, before, after)
    engine, identity = deployment.engine_after(identity, "w")
    drive_events(engine, 3)
    more = deployment.ask(asked(change("FULFIL", 4)))
    drive(engine, lambda: decided(deployment, commands + more))
    deployment.publish([shipped(3, NOW + 20, "d2")])
    drive_events(engine, 1)
    engine.processor.close()
    identity.release()
    seen = deployment.stock()
    check(seen, deployment)
    facts = deployment.facts()
    assert [fact["fact"] for fact in facts] == [HELD, COMMITTED, CLOSED, FULFILLED, CLOSED]
    assert [fact["units"] for fact in facts] == [5, 5, 2, 4, 3]
    hold = seen.holds["r1"]
    assert (hold.state, hold.open_units, seen.rows[SKU].reserved) == (FULFILLED, 0, {})
    assert left(seen.rows[SKU]) == 4


def test_rows_behind_the_facts_catch_up_over_restarts_without_deciding_what_was_decided(deployment: Deployment) -> None:
    """A change that closed nothing, for it came before the reservation, closes nothing when it is folded again."""
    quick, slow = deployment.base, deployment.base.model_copy(update={"batch_events_max": 1})
    deployment.publish([COUNT])
    engine, identity = deployment.engine("w")
    drive_events(engine, 1)
    before = deployment.stock()
    fillers = [update(Event("DELTA", f"f{n}", NOW + n, 1)) for n in range(400)]  # more than fit before a command
    deployment.publish([*fillers, shipped(1, NOW + 400)])
    drive_events(engine, 401)
    commands = deployment.ask(asked(change("HOLD", 5)))
    drive(engine, lambda: decided(deployment, commands))
    engine.processor.close()
    after = deployment.stock()
    partition = next(n for n, position in after.positions.items() if position.facts)
    put_back(deployment, partition, before, after)
    deployment.base = slow
    engine, identity = deployment.engine_after(identity, "w")
    for _ in range(2):  # the second one leaves no fact, and a position that has none to look for
        commands += deployment.ask(asked(change("COMMIT")))
        drive(engine, partial(decided, deployment, commands))
    drive(engine, lambda: deployment.stock().positions[partition].offsets[UPDATES.name] > 1)  # commands go first
    engine.processor.close()
    behind = deployment.stock().positions[partition]
    assert 1 < behind.offsets[UPDATES.name] < 401, "the facts are there, and of the updates a part"
    deployment.base = quick
    engine, identity = deployment.engine_after(identity, "w")
    drive(engine, lambda: deployment.stock().positions[partition].offsets[UPDATES.name] == 402)
    engine.processor.close()
    identity.release()
    check(deployment.stock(), deployment)
    assert [fact["fact"] for fact in deployment.facts()] == [HELD, COMMITTED]
