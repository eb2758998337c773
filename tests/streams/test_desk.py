"""What a worker does by itself, as time has it, with a reservation whose lines are silent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inventory.policies import Policies
from schemas.keys import hold_key
from schemas.reservations import (
    ASK_AGAIN_MS,
    COMMIT,
    EXPIRED,
    HELD,
    HOLD,
    NO_SKU,
    PENDING,
    UNCHANGED,
    Hold,
    Line,
    Part,
    Question,
)
from schemas.rows import encode
from state.database import Resources
from state.store import PartitionStore
from streams.desk import Desk
from tests.inventory.reservations.builders import command

NOW = 1_700_000_000_000
KEY = hold_key(NO_SKU, "r1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PartitionStore]:
    one = PartitionStore(tmp_path / "0", Resources(1 << 20, 1 << 20), "g")
    asked = [Question("r1", HOLD, NOW, 2)]
    lines = [Line("a", 2, asked=asked), Line("b", 1, state=HELD)]
    hold = Hold(NO_SKU, "r1", PENDING, created_at=NOW, expires_at=NOW + 10 * ASK_AGAIN_MS, lines=lines)
    one.write({KEY: encode(hold)}, 1)
    yield one
    one.close()


def looked(store: PartitionStore, at_ms: int) -> Desk:
    desk = Desk(store, Policies(), 0, at_ms, 0)
    desk.fetch([], [], [(at_ms, KEY)])
    desk.look_at(KEY)
    return desk


def test_a_silent_line_is_asked_again_and_looked_at_later(store: PartitionStore) -> None:
    desk = looked(store, NOW + ASK_AGAIN_MS)
    assert [(sent["sku"], sent["action"], sent["quantity"]) for sent in desk.sent] == [("a", HOLD, 2)]
    assert desk.to_look_at == [(NOW + 2 * ASK_AGAIN_MS, KEY)]
    assert desk.facts == []


def test_a_line_is_given_its_time(store: PartitionStore) -> None:
    assert looked(store, NOW + ASK_AGAIN_MS - 1).sent == []


def test_a_hold_that_has_lapsed_is_ended_before_anything_is_decided_by_it(store: PartitionStore) -> None:
    """Whether anybody has looked for it or not."""
    lapsed = Hold("sku-1", "r2", HELD, parts=[Part("acme", "north", 1)], created_at=NOW, expires_at=NOW + 1)
    key = hold_key("sku-1", "r2")
    store.write({key: encode(lapsed)}, 2)
    desk = Desk(store, Policies(), 0, NOW + 1, 0)
    asked = command(COMMIT, reservation_id="r2", command_id="c")
    desk.fetch([asked], [], [])
    desk.carry_out(asked, 0)
    assert [fact["fact"] for _, fact in desk.facts] == [EXPIRED, UNCHANGED]
    assert (desk.facts[1][1]["state"], desk.facts[1][1]["unchanged"]["state"]) == (EXPIRED, EXPIRED)
