"""Webhooks through a real Kafka: taken by any process, read once, by the feed."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientConnectionError

from connectors.configuration.load import load
from connectors.inbound import hooks, inbox, webhook
from connectors.kinds import kinds
from schemas.topics import RECEIVED
from stockweave.ports import is_free
from tests.connectors.inbound.sending import Receiver, body, hook_feed, listening, ready, send
from tests.connectors.runner.test_snapshots import last, order
from tests.connectors.running import Running, csv_feed, repeats, told, units

DELIVERY = {"delivery_id_header": "X-Delivery"}


def is_listening(url: str) -> bool:
    """Asked without a connection: CPython 3.11 leaks one that comes while its server closes."""
    return not is_free(int(url.split(":")[2].partition("/")[0]))


async def test_the_rows_of_a_webhook_are_updates_and_what_cannot_be_used_is_a_dead_letter(
    running: Running, tmp_path: Path
) -> None:
    url = listening(running)
    running.configure("acme", stock=hook_feed(tmp_path))
    async with running:
        await ready(running, url)
        assert await send(f"{url}/hooks/acme/stock", body(s1=5, s2=7)) == 202
        await running.until_updates(2)
        assert await send(f"{url}/hooks/acme/stock", b'{"items":[{"code":"s3","stock":"many"}]}') == 202
        assert await send(f"{url}/hooks/acme/stock", gzip.compress(body(s1=4)), **{"Content-Encoding": "gzip"}) == 202
        updates = await running.until_updates(3)
        await running.until(lambda: len(running.letters()) >= 1)
    assert units(updates) == {"s1": 4, "s2": 7}
    assert repeats(updates) == 0
    [message, *_] = running.deployment.read(RECEIVED.name)
    assert message.key() == b"acme/stock"
    assert message.value() == body(s1=5, s2=7)
    assert all(each["observed_at"] == each["received_at"] for each in updates)
    assert told(message)["received_at"] in {str(each["received_at"]) for each in updates}
    [letter] = running.letters()
    assert told(letter)["stockweave.feed"] == "acme/stock@1"
    assert told(letter)["__connect.errors.exception.class.name"] == "not_a_number"


async def test_a_body_may_be_larger_than_what_kafka_takes_unless_told_and_so_may_what_cannot_be_used_of_it(
    running: Running, tmp_path: Path
) -> None:
    url = listening(running) + "/hooks/acme/stock"
    running.configure("acme", stock=hook_feed(tmp_path, {"body_bytes_max": 4 << 20}))
    unusable = orjson.dumps({"items": [{"code": "s2", "stock": "x" * (2 << 20)}]})
    async with running:
        await ready(running, url)
        assert await send(url, unusable) == 202
        assert await send(url, body(s1=5) + b" " * (3 << 20)) == 202
        assert units(await running.until_updates(1)) == {"s1": 5}
    [letter] = running.letters()
    assert len(letter.value() or b"") == 1 << 20


async def test_a_delivery_that_comes_again_has_the_same_ids_and_changes_nothing(
    running: Running, tmp_path: Path
) -> None:
    url = listening(running) + "/hooks/acme/stock"
    running.configure("acme", stock=hook_feed(tmp_path, DELIVERY))
    async with running:
        await ready(running, url)
        assert await send(url, body(s1=5), **{"X-Delivery": "d-1"}) == 202
        assert await send(url, body(s1=3), **{"X-Delivery": "d-2"}) == 202
        assert await send(url, body(s1=5), **{"X-Delivery": "d-1"}) == 202
        await running.until_updates(2)
    async with running:  # what it knew it knows again
        await ready(running, url)
        assert await send(url, body(s1=5), **{"X-Delivery": "d-1"}) == 202
        assert await send(url, body(s1=2), **{"X-Delivery": "d-3"}) == 202
        updates = await running.until_updates(3)
    assert units(updates) == {"s1": 2}
    assert [each["update_id"].partition(":")[0] for each in updates] == ["d-1", "d-2", "d-3"]
    assert [state["state"]["next"] for state in running.progress().values()] == [5]


async def test_what_came_while_its_feed_did_not_run_is_read_after_the_start(running: Running, tmp_path: Path) -> None:
    url = listening(running) + "/hooks/acme/stock"
    running.configure("acme", stock=hook_feed(tmp_path))
    async with running:
        await ready(running, url)
        assert await send(url, body(s1=5)) == 202
        await running.until_updates(1)
    async with Receiver(running) as other:  # a process that takes what comes, and runs no feeds
        for count in (4, 3):
            assert await send(f"{other.url}/hooks/acme/stock", body(s1=count)) == 202
    async with running:
        updates = await running.until_updates(3)
    assert units(updates) == {"s1": 3}
    assert repeats(updates) == 0


async def test_feeds_that_share_a_partition_get_their_own_in_their_order_however_much_waits(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "BOX_MESSAGES_MAX", 3)
    url = listening(running)
    names = [f"f{number}" for number in range(12)]  # of eight partitions
    running.configure("acme", **{name: hook_feed(tmp_path) for name in names})
    async with running:
        await ready(running, url)
        for count in range(10):
            answers = [send(f"{url}/hooks/acme/{name}", body(**{name: count})) for name in names]
            assert set(await asyncio.gather(*answers)) == {202}
        updates = await running.until_updates(120)
    assert len(updates) == 120
    for name in names:
        assert [u["quantity"] for u in updates if u["feed"] == f"acme/{name}@1"] == list(range(10))


async def test_a_feed_that_is_configured_later_is_taken_in_and_one_that_is_gone_is_unknown(
    running: Running, tmp_path: Path
) -> None:
    url = listening(running)
    running.configure("acme", files=csv_feed(tmp_path / "in"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("code,stock\ns0,1\n")
    async with running:
        await running.until_updates(1)
        with pytest.raises(ClientConnectionError):
            await send(f"{url}/hooks/acme/stock", body(s1=5))
        running.configure("acme", stock=hook_feed(tmp_path), other=hook_feed(tmp_path))
        await ready(running, url)
        assert await send(f"{url}/hooks/acme/stock", body(s1=5)) == 202
        assert units(await running.until_updates(2)) == {"s0": 1, "s1": 5}
        running.configure("acme", other=hook_feed(tmp_path))
        for _ in range(600):
            if (status := await send(f"{url}/hooks/acme/stock", body(s1=5))) == 404:
                break
            await asyncio.sleep(0.05)
        assert status == 404
        assert is_listening(url)
        running.configure("acme", files=csv_feed(tmp_path / "in"))
        for _ in range(600):
            if not (listens := is_listening(url)):
                break
            await asyncio.sleep(0.05)
        assert not listens


async def test_only_so_many_deliveries_are_remembered_and_the_state_stays_small(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "REMEMBERED", 2)
    url = listening(running) + "/hooks/acme/stock"
    running.configure("acme", stock=hook_feed(tmp_path, DELIVERY))
    async with running:
        await ready(running, url)
        for number, delivery in enumerate("abca"):
            assert await send(url, body(s1=number), **{"X-Delivery": delivery}) == 202
        updates = await running.until_updates(4)
    assert [each["update_id"][0] for each in updates] == list("abca")
    [progress] = running.progress().values()
    assert (progress["state"]["from"], progress["state"]["next"]) == (2, 4)


async def test_too_much_at_once_is_refused_before_it_fills_the_memory(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "HELD_BYTES_MAX", 10)
    url = listening(running) + "/hooks/acme/stock"
    running.configure("acme", stock=hook_feed(tmp_path))
    async with running:
        await ready(running, url)
        assert await send(url, body(s1=5)) == 503
        monkeypatch.setattr(hooks, "HELD_BYTES_MAX", 100)
        for _ in range(5):
            assert await send(url, body(s1=5)) == 202, "what was answered is held no more"


async def test_each_body_may_be_a_snapshot_and_one_that_is_held_back_is_taken_when_a_person_lets_go_of_it(
    running: Running, tmp_path: Path
) -> None:
    url = listening(running) + "/hooks/acme/stock"
    running.configure("acme", stock=hook_feed(tmp_path, snapshot={"hold_back": {"at_least": 3}}))
    async with running:
        await ready(running, url)
        assert await send(url, body(s1=5, s2=6, s3=7, s4=8)) == 202
        await running.until_updates(4)
        assert await send(url, body(s1=4, s2=6, s3=7)) == 202
        updates = await running.until_updates(8)
        assert [u["kind"] for u in updates if u["sku"] == "s4"] == ["COUNT", "WITHDRAWN"]
        assert await send(url, body(s1=3)) == 202
        await running.until(lambda: running.held() is not None)
        order(running, "release")
        updates = await running.until_updates(11)
        await running.until(lambda: running.held() is None)
    assert last(updates) == {"s1": ("COUNT", 3), **{f"s{n}": ("WITHDRAWN", 0) for n in (2, 3, 4)}}


async def test_a_delivery_that_comes_again_is_no_empty_snapshot(running: Running, tmp_path: Path) -> None:
    url = listening(running) + "/hooks/acme/stock"
    running.configure("acme", stock=hook_feed(tmp_path, DELIVERY, snapshot={}))
    async with running:
        await ready(running, url)
        for delivery in "aab":
            assert await send(url, body(s1=5, s2=6), **{"X-Delivery": delivery}) == 202
        updates = await running.until_updates(4)
    assert {u["kind"] for u in updates} == {"COUNT"}


@pytest.mark.parametrize("more", [{}, DELIVERY])
def test_changes_without_an_id_need_the_suppliers_ids_of_deliveries(
    more: dict[str, Any], running: Running, tmp_path: Path
) -> None:
    mapping = {"version": 1, "sku": "code", "quantity": "stock", "kind": {"constant": "DELTA"}}
    running.configure("acme", stock=hook_feed(tmp_path, more, mapping=mapping))
    faults = load(running.folder, kinds()).faults
    assert bool(faults) != bool(more), faults
