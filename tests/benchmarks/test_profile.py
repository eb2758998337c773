"""The profile is what the benchmarks say that it is."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import cast

import pytest

from benchmarks.profile import Profile, base, base_ends, mix, share, skus_of
from inventory.stock import StockUpdate, refusal
from schemas.codec import Codec
from schemas.keys import partition_of
from schemas.registry import FileRegistry

PROFILE = Profile(skus=200)
PARTITIONS, PARTS, EVENTS = 4, 2, 20_000


@pytest.fixture(scope="module")
def drawn() -> list[StockUpdate]:
    skus = skus_of(PROFILE, PARTITIONS, 0, PARTS)
    return list(mix(PROFILE, skus, 0, PARTS, EVENTS))


def identity(update: StockUpdate) -> str:
    return update["update_id"]


def test_half_of_the_events_are_deltas(drawn: list[StockUpdate]) -> None:
    assert Counter(u["kind"] for u in drawn)["DELTA"] / EVENTS == pytest.approx(0.5, abs=0.02)


def test_one_in_twenty_is_an_exact_repeat_of_one_before(drawn: list[StockUpdate]) -> None:
    seen: dict[str, StockUpdate] = {}
    for update in drawn:
        before = seen.setdefault(identity(update), update)
        assert before == update
    assert 1 - len(seen) / EVENTS == pytest.approx(PROFILE.duplicate_share, abs=0.01)


def test_three_in_a_hundred_are_late_and_none_is_beyond_the_bound(drawn: list[StockUpdate]) -> None:
    firsts = {identity(u): u for u in drawn}.values()
    lateness = [u["received_at"] - u["observed_at"] for u in firsts]
    assert sum(late > 0 for late in lateness) / EVENTS == pytest.approx(PROFILE.late_share, abs=0.005)
    assert max(lateness) < PROFILE.late_ms_max


def test_every_update_is_one_that_the_rule_can_use_and_the_schema_holds(drawn: list[StockUpdate]) -> None:
    codec = Codec("StockUpdate", FileRegistry())
    assert all(refusal(update) is None for update in drawn)
    records = cast("list[dict[str, object]]", drawn[:500])
    assert codec.decode([codec.encode(record) for record in records]) == records


def test_the_base_counts_every_source_once_before_the_mix_begins(drawn: list[StockUpdate]) -> None:
    skus = skus_of(PROFILE, PARTITIONS, 0, PARTS)
    counts = list(base(PROFILE, skus, 0, PARTS))
    assert Counter((u["sku"], u["supplier_id"]) for u in counts) == {
        (sku, f"supplier-{s}"): 1 for sku in skus for s in range(PROFILE.suppliers)
    }
    assert {u["kind"] for u in counts} == {"COUNT"}
    assert max(u["received_at"] for u in counts) < min(u["received_at"] for u in drawn)


def test_the_parts_together_have_every_sku_once_each_in_its_own_partitions() -> None:
    parts = [skus_of(PROFILE, PARTITIONS, part, PARTS) for part in range(PARTS)]
    assert sorted(sku for skus in parts for sku in skus) == sorted({sku for skus in parts for sku in skus})
    assert sum(map(len, parts)) == PROFILE.skus
    assert all(partition_of(sku.encode(), PARTITIONS) % PARTS == 1 for sku in parts[1])


@pytest.mark.parametrize("total", [1, 999, 20_000])
def test_shares_add_up_to_the_total(total: int) -> None:
    shares = [share(total, PROFILE, PARTITIONS, part, PARTS) for part in range(PARTS)]
    assert sum(shares) == total
    assert all(part >= 0 for part in shares)


def test_the_base_ends_where_each_partitions_base_has_ended() -> None:
    ends = base_ends(PROFILE, PARTITIONS)
    of_part_0 = list(base(PROFILE, skus_of(PROFILE, PARTITIONS, 0, PARTS), 0, PARTS))
    found = Counter(partition_of(u["sku"].encode(), PARTITIONS) for u in of_part_0)
    assert {p: ends[p] for p in (0, 2)} == found
    assert sum(ends) == PROFILE.base_events


def test_the_same_seed_draws_the_same_updates(drawn: list[StockUpdate]) -> None:
    skus = skus_of(PROFILE, PARTITIONS, 0, PARTS)
    assert list(mix(PROFILE, skus, 0, PARTS, 1_000)) == drawn[:1_000]


def test_time_goes_on_from_update_to_update(drawn: list[StockUpdate]) -> None:
    firsts = list({identity(u): u for u in drawn}.values())
    assert all(a["received_at"] < b["received_at"] for a, b in pairwise(firsts))
