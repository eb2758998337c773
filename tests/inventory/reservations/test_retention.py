"""What may be forgotten of reservations, and what rows and replays keep of it."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from inventory.reservations.facts import PRESENT, hold_after, keys_of, records_of, row_after
from inventory.reservations.reserved import of_holds
from inventory.reservations.retention import forgotten_to, is_explained, is_past
from schemas.keys import order_key
from schemas.policies import NETTING_DELAY_MS_MAX
from schemas.reservations import COMMITTED, EXPIRED, FULFILLED, HELD, REFUSED, RELEASED, Hold
from schemas.rows import Count, Open, PackedRow, decode_source
from tests.inventory.reservations.builders import NOW, SKU, command
from tests.inventory.reservations.shop import SOURCES, Shop, stock
from tests.inventory.reservations.test_laws import drawn

KEPT_MS = 30_000


@pytest.mark.parametrize("state", [FULFILLED, RELEASED, EXPIRED, REFUSED])
def test_what_is_over_is_kept_for_its_time_and_no_longer(state: str) -> None:
    hold = Hold(SKU, "r1", state, created_at=NOW - 10 * KEPT_MS, ended_at=NOW)
    assert not is_past(hold, forgotten_to(NOW + KEPT_MS - 1, KEPT_MS))
    assert is_past(hold, forgotten_to(NOW + KEPT_MS, KEPT_MS))


@pytest.mark.parametrize("state", [HELD, COMMITTED])
def test_what_may_still_change_is_kept_however_old(state: str) -> None:
    assert not is_past(Hold(SKU, "r1", state, created_at=1, expires_at=2), forgotten_to(NOW, KEPT_MS))


def counts_of(row: PackedRow) -> dict[str, Count | None]:
    return {key: decode_source(source).count for key, source in row.sources.items()}


class Forgetful(Shop):
    """Forgets, and is asked for the same ids again."""

    forgot_to = 0
    forgot = 0

    def forget(self) -> None:
        to_ms = forgotten_to(self.now_ms, KEPT_MS)
        for name in [name for name, hold in self.holds.items() if is_past(hold, to_ms)]:
            self.forgot_to = max(self.forgot_to, self.holds.pop(name).ended_at or 0)
            self.forgot += 1


@pytest.mark.parametrize("seed", range(150))
def test_forgetting_changes_no_row_and_a_replay_of_all_facts_gives_the_same(seed: int) -> None:
    rng = random.Random(seed)
    begin = {key: rng.randint(0, 9) for key in SOURCES}
    shop = Forgetful(stock(begin))
    counted: list[tuple[str, int, int, int]] = []
    for n in range(90):
        shop.now_ms += rng.randint(0, 6_000)
        if rng.random() < 0.15:
            when = shop.now_ms - rng.randint(-2_000, 5_000)
            counted.append((rng.choice(SOURCES), rng.randint(0, 9), when, rng.choice((0, 1))))
            shop.count(*counted[-1])
        shop.forget()
        shop.ask(drawn(rng, n))
        taken = of_holds(shop.holds.values(), counts_of(shop.row))
        assert is_explained(shop.row.reserved, taken, shop.forgot_to)
    again, holds = Shop(stock(begin)), dict[str, Hold]()
    for count in counted:
        again.count(*count)
    for fact in shop.facts:
        before = holds.get(fact["reservation_id"])
        holds[fact["reservation_id"]] = after = hold_after(before, fact)
        row_after(again.row, before, after)
    assert again.row.reserved == shop.row.reserved
    assert shop.forgot
    assert {name: hold for name, hold in holds.items() if not is_past(hold, shop.forgot_to)} == {
        name: hold for name, hold in shop.holds.items() if not is_past(hold, shop.forgot_to)
    }


def test_some_ids_of_these_runs_were_forgotten_and_held_anew() -> None:
    shop, rng = Forgetful(stock(dict.fromkeys(SOURCES, 9))), random.Random(1)
    for n in range(90):
        shop.now_ms += 5_000
        shop.forget()
        shop.ask(drawn(rng, n))
    begun = [fact["reservation_id"] for fact in shop.facts if fact["fact"] in (HELD, REFUSED)]
    assert len(begun) > len(set(begun))


def test_units_that_no_hold_takes_are_those_of_forgotten_ones_only_if_they_had_left_by_then() -> None:
    key, slowest = SOURCES[0], NETTING_DELAY_MS_MAX
    for entry, explained in (
        (Open(2, "default"), False),
        (Open(2, "default", 5_000), False),
        (Open(2, "default", 5_000, 9_000), True),
        (Open(2, "default", 5_000, slowest + 10_000), True),  # rounded up to the second
        (Open(2, "default", 5_000, slowest + 11_000), False),
    ):
        assert is_explained({key: [entry]}, {}, 9_500) is explained
        assert not is_explained({}, {key: [entry]}, 9_500), "what a hold takes is in the row"
        assert not is_explained({key: [entry]}, {key: [replace(entry, units=3)]}, 9_500)
        assert is_explained({key: [entry]}, {key: [entry]}, 0)


def test_one_that_begins_anew_takes_nothing_from_what_the_forgotten_one_left() -> None:
    shop = Shop(stock({SOURCES[0]: 10}))
    shop.ask(command(quantity=4))
    for action in ("COMMIT", "FULFIL"):
        shop.ask(command(action, command_id=action, quantity=0))
    former = shop.holds.pop("r1")
    left = shop.row.reserved[SOURCES[0]]
    shop.now_ms += KEPT_MS
    shop.ask(command(quantity=3))
    assert shop.available() == 10 - 4 - 3
    heard = hold_after(former, shop.facts[-1])  # where the former one is there still
    assert heard == shop.holds["r1"]
    assert (heard.created_at, len(heard.steps)) == (shop.now_ms, 1)
    row = stock({SOURCES[0]: 10})
    row.reserved = {SOURCES[0]: left}
    row_after(row, former, heard)
    assert row.reserved == shop.row.reserved


def test_the_order_of_a_forgotten_hold_does_not_have_the_one_that_begins_anew_for_another() -> None:
    former = Hold(SKU, "r1", RELEASED, "o1", ended_at=NOW)
    for order in (None, "o1", "o2"):
        records = records_of(former, Hold(SKU, "r1", HELD, order))
        told = {key: value for key, value in records.items() if key.startswith(b"\x02")}
        gone = {} if order == "o1" else {order_key("o1", SKU, "r1"): None}
        assert told == gone | ({order_key("o2", SKU, "r1"): PRESENT} if order == "o2" else {})
    assert set(keys_of(former)) == set(records_of(None, former))
