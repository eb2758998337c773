"""The view: what is committed is seen, what is not never is, and no restart or loss changes that."""

from __future__ import annotations

import asyncio
import shutil
import time

import pytest
from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka.admin import AdminClient

from schemas.topics import STOCK
from state import follower
from stockweave.errors import Fatal
from tests.api.stock import WAIT_S, Reader, Stock, row


async def test_a_row_is_invisible_until_its_transaction_is_committed(stock: Stock) -> None:
    async with Reader(stock) as reader:
        token = stock.begin([row("milk", acme=3)])
        await reader.get("/api/v1/inventory", 404, sku="milk")
        await asyncio.sleep(0.3)  # time enough for a follower that reads uncommitted
        await reader.get("/api/v1/inventory", 404, sku="milk")
        stock.end()
        assert (await reader.item("milk", min_offset=token))["available_quantity"] == 3


async def test_an_aborted_row_is_never_visible(stock: Stock) -> None:
    async with Reader(stock) as reader:
        stock.begin([row("milk", acme=3)])
        stock.end(commit=False)
        stock.next_update = [0, 0, 0]
        token = stock.write(row("milk", acme=7), row("bread", acme=1))
        assert (await reader.item("milk", min_offset=token))["available_quantity"] == 7
        assert reader.view.partitions[stock.partition("milk")].next_offset("inventory.updates") == 1


async def test_a_removed_row_is_unknown_again(stock: Stock) -> None:
    async with Reader(stock) as reader:
        await reader.item("milk", min_offset=stock.write(row("milk", acme=3)))
        await reader.get("/api/v1/inventory", 404, sku="milk", min_offset=stock.write(removed=["milk"]))


async def test_min_offset_waits_for_the_write(stock: Stock) -> None:
    async with Reader(stock) as reader:
        token = stock.begin([row("milk", acme=3)])
        waiting = asyncio.create_task(reader.item("milk", min_offset=token))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        stock.end()
        assert (await waiting)["available_quantity"] == 3
        assert not any(map(reader.view._waiters.any, range(3))), "a waiter stays behind"


async def test_min_offset_waits_for_every_partition_that_it_names(stock: Stock) -> None:
    async with Reader(stock) as reader:
        first = stock.write(*(row(f"sku-{i}", acme=1) for i in range(20)))
        assert first.count(",") == 2
        await reader.get("/api/v1/inventory", limit=5, min_offset=first)
        waiting = asyncio.create_task(reader.get("/api/v1/inventory", limit=5, min_offset="0-1,1-1,2-1"))
        stock.duplicate(0)
        stock.duplicate(1)
        await asyncio.sleep(0.3)
        assert not waiting.done()
        stock.duplicate(2)
        await waiting


async def test_min_offset_times_out_with_503_and_retry_after(stock: Stock) -> None:
    async with Reader(stock) as reader:
        began = time.monotonic()
        async with reader.client.get("/api/v1/inventory?sku=milk&min_offset=1-5") as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) >= 1
            assert "1-5" in (await response.json(content_type="application/problem+json"))["detail"]
        assert 1.9 <= time.monotonic() - began < 4
        assert not reader.view._waiters.any(1), "a waiter stays behind"


async def test_a_duplicate_that_changed_no_row_lets_its_reader_go(stock: Stock) -> None:
    async with Reader(stock) as reader:
        await reader.item("milk", min_offset=stock.write(row("milk", acme=3)))
        waiting = asyncio.create_task(reader.item("milk", min_offset=f"{stock.partition('milk')}-1"))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        assert stock.duplicate(stock.partition("milk")) == f"{stock.partition('milk')}-1"
        assert (await waiting)["available_quantity"] == 3


async def test_a_restart_keeps_its_place_and_reads_little_again(stock: Stock) -> None:
    stock.write(*(row(f"sku-{i}", acme=i) for i in range(600)))
    async with Reader(stock) as reader:
        assert reader.view.records_read >= 600
    stock.write(row("sku-7", version=2, acme=70))
    async with Reader(stock) as reader:
        assert (await reader.item("sku-7"))["available_quantity"] == 70
        assert (await reader.item("sku-599"))["available_quantity"] == 599
        # For each partition: the position record that it begins at, the end, and what is new.
        assert reader.view.records_read <= 10


async def test_a_view_catches_up_with_a_topic_whose_writes_never_pause(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka tells the end of a partition only with an empty answer, and there such an answer never comes."""

    class WithoutEnds(Consumer):
        def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
            messages = super().consume(num_messages, timeout)
            return [m for m in messages if (m.error() or KafkaError(0)).code() != KafkaError._PARTITION_EOF]

    monkeypatch.setattr(follower, "Consumer", WithoutEnds)
    stock.write(*(row(f"sku-{i}", acme=1) for i in range(20)))
    async with Reader(stock, wait=False) as reader:
        for version in range(2, 10):
            await asyncio.to_thread(stock.write, *(row(f"sku-{i}", version=version, acme=version) for i in range(20)))
            await asyncio.sleep(0.2)
        await reader.ready()
        assert (await reader.item("sku-7"))["available_quantity"] == 9


async def test_a_wiped_view_is_read_again(stock: Stock) -> None:
    stock.write(*(row(f"sku-{i}", acme=i) for i in range(50)))
    async with Reader(stock):
        pass
    shutil.rmtree(stock.settings.data_dir / "view")
    async with Reader(stock) as reader:
        page = await reader.get("/api/v1/inventory", limit=1000)
        assert {item["sku"]: item["available_quantity"] for item in page["items"]} == {f"sku-{i}": i for i in range(50)}


async def test_a_topic_made_anew_is_another_generation_and_no_old_token_matches(stock: Stock) -> None:
    stock.write(*(row(f"sku-{i}", acme=1) for i in range(5)))
    async with Reader(stock) as reader:
        async with reader.client.get("/api/v1/inventory?sku=sku-1") as response:
            etag = response.headers["ETag"]
        cursor = (await reader.get("/api/v1/inventory", limit=2))["next"]
    before = stock.generation
    await delete_stock(stock)
    stock.create()
    assert stock.generation != before
    stock.write(row("sku-1", acme=1))  # version 1 again, and the same content
    async with Reader(stock) as reader:
        async with reader.client.get("/api/v1/inventory?sku=sku-1", headers={"If-None-Match": etag}) as response:
            assert response.status == 200
        problem = await reader.get("/api/v1/inventory", 410, cursor=cursor)
        assert (problem["field"], problem["reason"]) == ("cursor", "cursor_of_another_generation")
        assert [i["sku"] for i in (await reader.get("/api/v1/inventory"))["items"]] == ["sku-1"]


async def test_a_topic_deleted_or_made_anew_under_a_running_view_ends_it_with_the_reason(stock: Stock) -> None:
    stock.write(row("milk", acme=3))
    reader = Reader(stock)
    async with reader:
        await delete_stock(stock)
        stock.create()
        async with asyncio.timeout(WAIT_S):
            await asyncio.wait({reader.running})
        with pytest.raises(Fatal, match=r"inventory\.stock (was created anew|is gone).* restart"):
            reader.running.result()
        await reader.client.close()
        reader.running = asyncio.create_task(asyncio.sleep(0))


async def test_reads_are_turned_away_while_a_partition_is_read_again(stock: Stock) -> None:
    stock.write(row("milk", acme=3))
    async with Reader(stock) as reader:
        partition = reader.view.partitions[stock.partition("milk")]
        partition.catching_up.target, partition.caught_up = 1 << 62, False
        problem = await reader.get("/api/v1/inventory", 503, sku="milk")
        assert "/readyz" in problem["detail"]
        await reader.get("/api/v1/inventory", 503)
        await reader.get("/readyz", 503)
        partition.catching_up.target = None
        await reader.ready()  # the follower sees that it is at the end
        await reader.item("milk")


async def test_readiness_tells_positions_and_lag(stock: Stock) -> None:
    stock.write(*(row(f"sku-{i}", acme=1) for i in range(20)))
    stock.duplicate(1)
    async with Reader(stock) as reader:
        await reader.item("sku-1", min_offset="0-0,1-1,2-0")
        ready = await reader.get("/readyz")
        assert ready["ready"]
        assert ready["generation"] == stock.generation
        assert [p["updates_next_offset"] for p in ready["partitions"]] == [1, 2, 1]
        assert [p["events"] for p in ready["partitions"]] == [1, 2, 1]
        assert [p["lag"] for p in ready["partitions"]] == [0, 0, 0]
        assert ready["outcomes"] == {"applied": 3, "duplicate": 1, "superseded": 0, "rejected": 0}
        stats = await reader.get("/api/v1/stats")
        assert stats["suppliers"] == [{"supplierId": "acme"} | ready["outcomes"]]


async def delete_stock(stock: Stock) -> None:
    admin = AdminClient({"bootstrap.servers": stock.bootstrap_servers})
    name = stock.topics[STOCK.name].name
    admin.delete_topics([name])[name].result(WAIT_S)
    async with asyncio.timeout(WAIT_S):
        while name in admin.list_topics(timeout=WAIT_S).topics:  # noqa: ASYNC110 - Kafka has no event for it
            await asyncio.sleep(0.1)
