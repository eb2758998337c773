"""Rows that wait for the map of SKUs, through a real Kafka: they come back by themselves, and count once."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, cast

import pytest

from connectors.runner import parked
from connectors.runner.letters import SKU
from connectors.runner.parked import Parked
from connectors.runner.progress import Kept, Progress, note
from inventory.stock import StockUpdate
from schemas.sku_map import Entry, record
from schemas.topics import FEEDS, SKU_MAP
from stockweave.dlq.letters import Letter, Wanted, settle, unsettled
from tests.connectors.files.test_folder import write
from tests.connectors.runner.test_skus import AT_MS, by_map, change, put
from tests.connectors.running import SIMPLE, Running, csv_feed, told, units
from tests.deployment import expected_on_hand


def left(running: Running) -> list[Letter]:
    """The letters that nobody has settled."""
    deployment = running.deployment
    servers = deployment.base.bootstrap_servers or ""
    return list(unsettled(deployment.topics, servers, deployment.codec, Wanted()))


def on_hand(updates: list[dict[str, Any]]) -> dict[str, int]:
    """As the fold has it, in the order of the log."""
    return expected_on_hand(cast("list[StockUpdate]", updates))


async def until_parked(running: Running, count: int) -> None:
    await running.until(lambda: len(running.letters()) >= count)


def kept(running: Running) -> Kept:
    found: dict[str, Kept] = {}
    for message in running.deployment.read(FEEDS.name):
        note(found, message)
    return found.get("acme/stock", Kept(Progress(feed="acme/stock")))


async def test_a_row_comes_back_when_the_map_knows_its_sku_as_it_would_have_come(
    running: Running, tmp_path: Path
) -> None:
    change(running, b="B")
    put(tmp_path, 1, a=5, b=6, c=7)
    running.configure("acme", stock=by_map(tmp_path / "in", "park"))
    async with running:
        await until_parked(running, 2)
        assert {told(letter)[SKU] for letter in running.letters()} == {"a", "c"}
        await running.until(lambda: kept(running).parked is not None)  # they were looked at, and not known
        change(running, a="A")
        updates = await running.until_updates(2)
        await running.until(lambda: len(left(running)) == 1)
    assert units(updates) == {"A": 5, "B": 6}
    [came] = [update for update in updates if update["sku"] == "A"]
    [other] = [update for update in updates if update["sku"] == "B"]
    assert (came["observed_at"], came["received_at"]) == (other["observed_at"], other["received_at"])
    assert came["update_id"] == other["update_id"][:-10] + "0000000000"
    assert [letter.original for letter in left(running)] == [b"c,7"]
    assert units(running.updates()) == {"A": 5, "B": 6}


async def test_an_entry_of_another_supplier_or_sku_brings_nothing_back(running: Running, tmp_path: Path) -> None:
    put(tmp_path, 1, a=5, b=6)
    running.configure("acme", stock=by_map(tmp_path / "in", "park"))
    async with running:
        await until_parked(running, 2)
        deployment = running.deployment
        key, value = record(Entry("other", "a", "A"))
        deployment.producer.produce(deployment.topics[SKU_MAP.name].name, value, key)
        change(running, A="A", aa="A", b="B")
        await running.until(lambda: len(left(running)) == 1)
    assert units(running.updates()) == {"B": 6}
    assert [letter.original for letter in left(running)] == [b"a,5"]


async def test_an_entry_that_came_while_nobody_ran_brings_rows_back_at_the_start(
    running: Running, tmp_path: Path
) -> None:
    put(tmp_path, 1, a=5, b=6)
    running.configure("acme", stock=by_map(tmp_path / "in", "park"))
    async with running:
        await until_parked(running, 2)
    change(running, a="A", b="B")
    async with running:
        assert units(await running.until_updates(2)) == {"A": 5, "B": 6}
        await running.until(lambda: left(running) == [])
    offsets = [letter.offset() or 0 for letter in running.letters()]
    assert running.deployment.end_of_updates() == 2
    parked_from = kept(running).parked
    assert parked_from is not None
    assert parked_from.offset == max(offsets) + 1, "they are not read again at the next start"


async def test_who_is_killed_before_it_is_noted_sends_again_and_it_counts_once(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = SIMPLE | {
        "sku_map": {"unknown": "park"}, "kind": {"constant": "DELTA"}, "update_id": "id",
        "observed_at": {"path": "at", "format": "unix_ms"},
    }  # fmt: skip
    write(tmp_path / "in" / "1.csv", f"code,stock,id,at\na,5,u1,{AT_MS}\na,3,u2,{AT_MS + 1}\n", changed_ms=AT_MS)
    running.configure("acme", stock=csv_feed(tmp_path / "in", mapping=mapping))

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    async with running:
        await until_parked(running, 2)
    with monkeypatch.context() as patched:
        patched.setattr(Parked, "_note", hang)
        change(running, a="A")
        await running.start()
        await running.until_updates(2)
        assert running.task is not None
        running.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running.task
    assert len(left(running)) == 2
    async with running:
        await running.until(lambda: left(running) == [])
    updates = running.updates()
    assert sorted(update["update_id"] for update in updates) == ["u1", "u1", "u2", "u2"]
    assert on_hand(updates) == {"A": 8}


async def test_what_a_person_has_dropped_stays_away(running: Running, tmp_path: Path) -> None:
    put(tmp_path, 1, a=5, b=6)
    running.configure("acme", stock=by_map(tmp_path / "in", "park"))
    deployment = running.deployment
    async with running:
        await until_parked(running, 2)
        dropped = [letter for letter in left(running) if letter.original == b"a,5"]
        settle(deployment.topics, deployment.base.bootstrap_servers or "", dropped, "dropped")
        change(running, a="A", b="B")
        await running.until(lambda: left(running) == [])
    assert units(running.updates()) == {"B": 6}


async def test_an_old_row_that_comes_back_does_not_overwrite_what_is_newer(running: Running, tmp_path: Path) -> None:
    change(running, b="OURS")
    put(tmp_path, 1, a=5)
    running.configure("acme", stock=by_map(tmp_path / "in", "park"))
    async with running:
        await until_parked(running, 1)
        put(tmp_path, 2, b=9)
        await running.until_updates(1)
        change(running, a="OURS")
        updates = await running.until_updates(2)
    assert [update["quantity"] for update in updates] == [9, 5], "in the log it is the later one"
    assert on_hand(updates) == {"OURS": 9}


async def test_rows_that_are_more_than_are_remembered_come_back_as_well(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parked, "WAITING_MAX", 7)
    monkeypatch.setattr(parked, "KNOWN_ROOM", 3)
    monkeypatch.setattr(parked, "AT_ONCE", 2)
    put(tmp_path, 1, **{f"a{n}": n for n in range(20)})
    running.configure("acme", stock=by_map(tmp_path / "in", "park"))
    async with running:
        await until_parked(running, 20)
        change(running, a17="A17")
        assert units(await running.until_updates(1)) == {"A17": 17}
        change(running, **{f"a{n}": f"A{n}" for n in range(5, 17)})
        await running.until(lambda: len(left(running)) == 7)
    updates = running.updates()
    assert units(updates) == {f"A{n}": n for n in range(5, 18)}
    assert len(updates) == 13, "each once"


async def test_rows_of_an_earlier_mapping_are_read_as_it_is_now(running: Running, tmp_path: Path) -> None:
    put(tmp_path, 1, a=5)
    running.configure("acme", stock=by_map(tmp_path / "in", "park"))
    async with running:
        await until_parked(running, 1)
        mapping = SIMPLE | {"version": 2, "sku": {"path": "code", "upper": True}, "sku_map": {"unknown": "park"}}
        running.configure("acme", stock=csv_feed(tmp_path / "in", mapping=mapping))
        change(running, A="OURS")
        [update] = await running.until_updates(1)
    assert (update["sku"], update["feed"]) == ("OURS", "acme/stock@2")
