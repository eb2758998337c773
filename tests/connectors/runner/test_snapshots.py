"""Full snapshots: what is missing is gone, and what cannot be true waits for a person; through a real Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from connectors.runner.progress import ORDER
from schemas.keys import feed_partition
from schemas.topics import FEEDS
from tests.connectors.files.test_folder import write
from tests.connectors.running import Running, csv_feed

AT_MS = 1_790_000_000_000


def snapshots(path: Path, **snapshot: Any) -> dict[str, Any]:
    return csv_feed(path, snapshot=snapshot)


def put(root: Path, n: int, **units: int | str) -> None:
    text = "code,stock\n" + "".join(f"{sku},{number}\n" for sku, number in units.items())
    write(root / "in" / f"{n:03}.csv", text, changed_ms=AT_MS + n * 1_000)


def many(count: int, units: int = 5) -> dict[str, int | str]:
    return {f"s{n}": units for n in range(count)}


def last(updates: list[dict[str, Any]]) -> dict[str, tuple[str, int]]:
    ordered = sorted(updates, key=lambda u: u["observed_at"])
    return {u["sku"]: (u["kind"], u["quantity"]) for u in ordered}


def order(running: Running, do: str) -> None:
    held = running.held() or {}
    record = orjson.dumps({"origin": held["origin"], "do": do})
    deployment = running.deployment
    topic = deployment.topics[FEEDS.name]
    deployment.producer.produce(
        topic.name, record, f"acme/stock{ORDER}", partition=feed_partition("acme/stock", topic.partitions)
    )
    assert deployment.producer.flush(10) == 0


@pytest.mark.parametrize(("missing", "becomes"), [("withdrawn", ("WITHDRAWN", 0)), ("zero", ("COUNT", 0))])
async def test_what_a_snapshot_does_not_name_any_more_is_gone_once(
    running: Running, tmp_path: Path, missing: str, becomes: tuple[str, int]
) -> None:
    put(tmp_path, 1, a=5, b=6, c=7)
    running.configure("acme", stock=snapshots(tmp_path / "in", missing=missing))
    async with running:
        await running.until_updates(3)
        put(tmp_path, 2, a=4, c=7)
        await running.until_updates(6)
    async with running:  # what was offered is kept
        put(tmp_path, 3, a=4)
        updates = await running.until_updates(8)
        put(tmp_path, 4, b=1)
        updates = await running.until_updates(10)
    gone = [(u["sku"], u["observed_at"]) for u in updates if u["update_id"].endswith(":gone")]
    assert gone == sorted(gone, key=gone.index)
    assert sorted(gone) == [("a", AT_MS + 4_000), ("b", AT_MS + 2_000), ("c", AT_MS + 3_000)]
    assert last(updates) == {"a": becomes, "b": ("COUNT", 1), "c": becomes}


async def test_a_row_that_cannot_be_used_withdraws_nothing(running: Running, tmp_path: Path) -> None:
    put(tmp_path, 1, a=5, b=6, c=7)
    running.configure("acme", stock=snapshots(tmp_path / "in"))
    async with running:
        await running.until_updates(3)
        put(tmp_path, 2, a="many", b=6)  # it is said which one it is
        updates = await running.until_updates(5)
        assert last(updates) == {"a": ("COUNT", 5), "b": ("COUNT", 6), "c": ("WITHDRAWN", 0)}
        write(tmp_path / "in" / "003.csv", "code,stock\nb,6\n,1\n", changed_ms=AT_MS + 3_000)  # and here it is not
        await running.until_updates(6)
        put(tmp_path, 4, b=6)
        updates = await running.until_updates(8)
    assert [u["sku"] for u in updates if u["observed_at"] == AT_MS + 4_000 and u["kind"] == "WITHDRAWN"] == ["a"]


async def test_a_snapshot_that_takes_too_much_away_waits_and_goes_on_when_released(
    running: Running, tmp_path: Path
) -> None:
    put(tmp_path, 1, **many(40))
    running.configure("acme", stock=snapshots(tmp_path / "in"))
    async with running:
        await running.until_updates(40)
        put(tmp_path, 2, **many(10))
        await running.until(lambda: running.held() is not None)
        held = running.held() or {}
        assert (held["known"], held["missing"], held["why"]) == (
            40, 30, "30 of 40 offers are gone or at zero, more than 30 %",
        )  # fmt: skip
        assert running.deployment.end_of_updates() == 40, "nothing of it is there"
        order(running, "release")
        updates = await running.until_updates(80)
        await running.until(lambda: running.held() is None)
    assert sum(kind == "WITHDRAWN" for kind, _ in last(updates).values()) == 30


@pytest.mark.parametrize("text", ["", "code,stock\n"])
async def test_a_snapshot_that_offers_nothing_takes_nothing_away_however_few_there_were(
    running: Running, tmp_path: Path, text: str
) -> None:
    put(tmp_path, 1, a=5, b=6)
    running.configure("acme", stock=snapshots(tmp_path / "in"))
    async with running:
        await running.until_updates(2)
        write(tmp_path / "in" / "002.csv", text, changed_ms=AT_MS + 2_000)
        await running.until(lambda: running.held() is not None or bool(running.letters()))
        put(tmp_path, 3, a=4, b=6)
        updates = await running.until_updates(4)
    assert last(updates) == {"a": ("COUNT", 4), "b": ("COUNT", 6)}


async def test_a_snapshot_that_is_dropped_changes_nothing_and_a_later_one_is_taken(
    running: Running, tmp_path: Path
) -> None:
    put(tmp_path, 1, **many(40))
    running.configure("acme", stock=snapshots(tmp_path / "in", hold_back={"changed_percent": 50}))
    async with running:
        await running.until_updates(40)
        put(tmp_path, 2, **many(40, 6))
        await running.until(lambda: running.held() is not None)
        order(running, "drop")
        await running.until(lambda: running.held() is None)
        put(tmp_path, 3, **many(39))
        updates = await running.until_updates(80)
    assert last(updates)["s39"] == ("WITHDRAWN", 0)
    assert {number for _, number in last(updates).values()} == {5, 0}


async def test_of_several_that_have_to_wait_the_newest_does_and_what_is_released_is_that_one(
    running: Running, tmp_path: Path
) -> None:
    put(tmp_path, 1, **many(40))
    running.configure("acme", stock=snapshots(tmp_path / "in"))
    async with running:
        await running.until_updates(40)
        put(tmp_path, 2, **many(10))
        await running.until(lambda: running.held() is not None)
        older = (running.held() or {})["origin"]
        put(tmp_path, 3, **many(5))
        await running.until(lambda: (running.held() or {})["origin"] != older)
        put(tmp_path, 4, **many(4))  # one more, so that all were looked at since
        await running.until(lambda: (running.held() or {})["missing"] == 36)
        assert (running.held() or {})["passed"][0] == older
        order(running, "release")
        updates = await running.until_updates(80)
        await running.until(lambda: running.held() is None)
    assert sum(kind == "COUNT" for kind, _ in last(updates).values()) == 4
    assert len(updates) == 80, "those that were passed over are not taken"


async def test_a_snapshot_that_is_held_back_is_superseded_by_one_that_is_plausible(
    running: Running, tmp_path: Path
) -> None:
    put(tmp_path, 1, **many(40))
    running.configure("acme", stock=snapshots(tmp_path / "in"))
    async with running:
        await running.until_updates(40)
        put(tmp_path, 2, **many(1))
        await running.until(lambda: running.held() is not None)
        put(tmp_path, 3, **many(40, 4))
        await running.until_updates(80)
        await running.until(lambda: running.held() is None)
        put(tmp_path, 4, **many(40, 3))
        updates = await running.until_updates(120)
    assert {number for _, number in last(updates).values()} == {3}
    assert len(updates) == 120, "the one in between was never taken"
