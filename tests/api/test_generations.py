"""The view and the generations of rows: readers are moved to the next without an error, a mix or a step back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from api import routes
from api.listing import page
from schemas.admin import Deployed
from schemas.topics import COMMANDS, STOCK, UPDATES
from tests.api.stock import WAIT_S, Reader, Stock, row
from tests.conftest import BrokerFactory
from tests.generations import copy_rows, tell

SKUS = [f"sku-{i}" for i in range(30)]


def copied(stock: Stock, number: int) -> Deployed:
    return copy_rows(stock.settings, stock.bootstrap_servers, stock.topics[STOCK.name], number)


def write_into(stock: Stock, generation: Deployed) -> None:
    """From now on the workers, which `stock` stands for, fold into another generation."""
    stock.topics[STOCK.name] = generation


def say(stock: Stock, live: int, candidate: int | None = None, previous: int | None = None) -> None:
    tell(stock.settings, stock.bootstrap_servers, live, candidate, previous)


async def until(done: Callable[[], bool], reader: Reader) -> None:
    async with asyncio.timeout(WAIT_S):
        while not done():
            assert not reader.running.done(), reader.running.exception()
            await asyncio.sleep(0.01)


async def served(reader: Reader, generation: Deployed) -> None:
    await until(lambda: reader.view.generation == generation.generation, reader)


async def followed(reader: Reader, generation: Deployed) -> None:
    """Until a candidate is followed to its end."""

    def is_followed() -> bool:
        return (
            reader.view.next is not None and reader.view.next[0].topic == generation and reader.view.next[0].caught_up
        )

    await until(is_followed, reader)


def folders(stock: Stock) -> set[str]:
    return {path.name for path in (stock.settings.data_dir / "view").iterdir() if path.is_dir()}


async def test_readers_under_load_see_no_error_no_mix_and_no_number_that_goes_back(stock: Stock) -> None:
    stock.write(*(row(sku, version=1, acme=1) for sku in SKUS))
    first = stock.topics[STOCK.name]
    stopping = asyncio.Event()
    async with Reader(stock) as reader:
        readers = [asyncio.create_task(follow(reader, stopping, one)) for one in (one_by_one, many, listed)]
        written = 1

        async def go_on(times: int) -> None:
            nonlocal written
            for _ in range(times):
                written += 1
                await asyncio.to_thread(stock.write, *(row(sku, version=written, acme=written) for sku in SKUS))

        await go_on(20)
        second = await asyncio.to_thread(copied, stock, 1)
        behind = list(stock.next_update)
        say(stock, live=0, candidate=1)
        await go_on(20)  # which the second has not got
        say(stock, live=1, previous=0)
        await until(lambda: reader.view.next is None or reader.view.next[1], reader)
        await asyncio.sleep(0.5)
        write_into(stock, second)
        stock.next_update, ahead = behind, list(stock.next_update)
        for _ in range(5):  # a partition's worker folds again what the first generation has already
            await asyncio.to_thread(stock.write, *(row(sku, version=21, acme=21) for sku in SKUS))
        assert reader.view.generation == first.generation, "served before it was there"
        stock.next_update = ahead
        await go_on(20)
        await served(reader, second)
        await go_on(20)
        stopping.set()
        seen = set().union(*await asyncio.gather(*readers))
    assert {generation for generation, _ in seen} == {first.generation, second.generation}
    assert (second.generation, written) in seen or (second.generation, written - 1) in seen


Seen = set[tuple[str, int]]


async def follow(reader: Reader, stopping: asyncio.Event, look: Callable[[Reader], Any]) -> Seen:
    """Read again and again; what was seen, by generation."""
    newest: dict[str, int] = {}
    seen: Seen = set()
    while not stopping.is_set():
        items = await look(reader)
        assert items
        assert len({generation for _, generation, _, _ in items}) == 1, "a mix of generations"
        for sku, generation, version, quantity in items:
            assert version == quantity, "a row of another version than its number"
            assert quantity >= newest.get(sku, 0), f"{sku} went back from {newest[sku]} to {quantity}"
            newest[sku] = quantity
            seen.add((generation, quantity))
    return seen


def said(item: dict[str, Any]) -> tuple[str, str, int, int]:
    generation, _, version = item["version"].partition("-")
    return item["sku"], generation, int(version), item["available_quantity"]


async def one_by_one(reader: Reader) -> list[tuple[str, str, int, int]]:
    return [said(await reader.item("sku-7"))]


async def many(reader: Reader) -> list[tuple[str, str, int, int]]:
    answer = await reader.get("/api/v1/inventory", sku=",".join(SKUS))
    return list(map(said, answer["items"]))


async def listed(reader: Reader) -> list[tuple[str, str, int, int]]:
    answer = await reader.get("/api/v1/inventory", limit=len(SKUS))
    assert len(answer["items"]) == len(SKUS)
    return list(map(said, answer["items"]))


async def test_it_is_served_once_it_is_past_the_former_one_in_every_partition(stock: Stock) -> None:
    stock.write(*(row(sku, acme=1) for sku in SKUS))
    first, second = stock.topics[STOCK.name], copied(stock, 1)
    async with Reader(stock) as reader:
        stock.duplicate(2)
        await until(lambda: reader.view.next_offset(UPDATES.name, 2) == 2, reader)
        say(stock, live=1, previous=0)
        await followed(reader, second)
        await asyncio.sleep(0.5)
        assert reader.view.generation == first.generation
        ready = await reader.get("/readyz")
        assert (ready["generation"], ready["number"]) == (first.generation, 0)
        assert (ready["next"]["generation"], ready["next"]["number"], ready["next"]["live"]) == (
            second.generation, 1, True
        )  # fmt: skip
        assert [p["updates_next_offset"] for p in ready["partitions"]] == [1, 1, 2]
        assert [p["updates_next_offset"] for p in ready["next"]["partitions"]] == [1, 1, 1]
        assert all(p["caught_up"] and p["lag"] == 0 for p in ready["next"]["partitions"])
        write_into(stock, second)
        stock.next_update[2] = 1
        stock.duplicate(2)
        await served(reader, second)
        ready = await reader.get("/readyz")
        assert (ready["ready"], ready["number"], ready["next"]) == (True, 1, None)
        await until(lambda: folders(stock) == {second.generation}, reader)


async def test_a_wait_for_a_write_goes_on_when_the_next_generation_is_served(stock: Stock) -> None:
    stock.write(*(row(sku, acme=1) for sku in SKUS))
    second = copied(stock, 1)
    stock.settings = stock.settings.model_copy(update={"read_wait_ms": int(WAIT_S * 1_000)})
    async with Reader(stock) as reader:
        at = stock.partition("sku-3")
        waiting = asyncio.create_task(reader.item("sku-3", min_offset=f"{at}-1"))
        await asyncio.sleep(0.1)
        write_into(stock, second)
        assert stock.write(row("sku-3", version=2, acme=9)) == f"{at}-1"  # into the new one alone
        await asyncio.sleep(0.2)
        assert not waiting.done()
        say(stock, live=1, previous=0)
        item = await waiting
        assert (item["available_quantity"], item["version"]) == (9, f"{second.generation}-2")


async def test_tokens_of_the_former_generation_get_a_clear_answer(stock: Stock) -> None:
    token = stock.write(*(row(sku, acme=1) for sku in SKUS))
    second = copied(stock, 1)
    async with Reader(stock) as reader:
        cursor = (await reader.get("/api/v1/inventory", limit=7))["next"]
        async with reader.client.get("/api/v1/inventory?sku=sku-1") as response:
            etag = response.headers["ETag"]
        say(stock, live=1, previous=0)
        await served(reader, second)
        problem = await reader.get("/api/v1/inventory", 410, cursor=cursor)
        assert (problem["field"], problem["reason"]) == ("cursor", "cursor_of_another_generation")
        assert "begin again" in problem["detail"]
        async with reader.client.get("/api/v1/inventory?sku=sku-1", headers={"If-None-Match": etag}) as response:
            assert response.status == 200
            assert response.headers["ETag"] != etag
        await reader.item("sku-1", min_offset=token)  # names an update, and no generation
        begun_again = await reader.get("/api/v1/inventory", limit=7)
        await reader.get("/api/v1/inventory", limit=7, cursor=begun_again["next"])


async def test_a_list_under_way_is_finished_in_the_generation_that_it_began_with(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock.write(*(row(sku, acme=1) for sku in SKUS))
    first, second = stock.topics[STOCK.name], copied(stock, 1)
    go_on = threading.Event()

    def slow_page(*arguments: Any) -> Any:
        assert go_on.wait(WAIT_S)
        return page(*arguments)

    async with Reader(stock) as reader:
        monkeypatch.setattr(routes, "page", slow_page)
        reading = asyncio.create_task(reader.get("/api/v1/inventory", limit=1000))
        await asyncio.sleep(0.1)
        say(stock, live=1, previous=0)
        await served(reader, second)
        assert (await reader.item("sku-1"))["version"].startswith(second.generation)
        await asyncio.sleep(0.3)
        assert first.generation in folders(stock)
        go_on.set()
        items = (await reading)["items"]
        assert {said(item)[1] for item in items} == {first.generation}
        assert len(items) == len(SKUS)
        await until(lambda: folders(stock) == {second.generation}, reader)


async def test_a_way_back_is_served_once_it_has_what_the_later_generation_had(stock: Stock) -> None:
    stock.write(*(row(sku, acme=1) for sku in SKUS))
    first, second = stock.topics[STOCK.name], copied(stock, 1)
    async with Reader(stock) as reader:
        say(stock, live=1, previous=0)
        await served(reader, second)
        write_into(stock, second)
        left_at = list(stock.next_update)
        stock.write(*(row(sku, version=2, acme=2) for sku in SKUS))
        await until(lambda: all(reader.view.next_offset(UPDATES.name, p) == left_at[p] + 1 for p in range(3)), reader)
        say(stock, live=0, previous=1)
        await followed(reader, first)
        await asyncio.sleep(0.3)
        assert reader.view.generation == second.generation
        write_into(stock, first)
        stock.next_update = left_at
        stock.write(*(row(sku, version=2, acme=2) for sku in SKUS))
        await served(reader, first)
        assert (await reader.item("sku-5"))["available_quantity"] == 2


async def test_no_generation_is_served_before_it_has_what_was_decided_of_commands(stock: Stock) -> None:
    stock.write(*(row(sku, acme=1) for sku in SKUS))
    first, second = stock.topics[STOCK.name], copied(stock, 1)
    stock.decide(2, {}, next_command=1)
    async with Reader(stock) as reader:
        assert reader.view.next_offset(COMMANDS.name, 2) == 1
        say(stock, live=1, previous=0)
        await followed(reader, second)
        await asyncio.sleep(0.3)
        assert reader.view.generation == first.generation
        write_into(stock, second)
        stock.decide(2, {}, next_command=1)
        await served(reader, second)


async def test_a_restart_in_the_middle_of_a_switch_answers_nothing_older_than_before(stock: Stock) -> None:
    stock.write(*(row(sku, acme=1) for sku in SKUS))
    first, second = stock.topics[STOCK.name], copied(stock, 1)
    ahead = stock.write(*(row(sku, version=2, acme=2) for sku in SKUS))
    async with Reader(stock) as reader:
        await reader.item("sku-1", min_offset=ahead)
        say(stock, live=1, previous=0)
        await followed(reader, second)
        assert reader.view.generation == first.generation
    write_into(stock, second)
    async with Reader(stock, wait=False) as reader:
        assert reader.view.generation == second.generation
        await asyncio.sleep(1.0)
        await reader.get("/readyz", 503)
        await reader.get("/api/v1/inventory", 503, sku="sku-1")
        assert first.generation in folders(stock), "nobody would know any more how far the former one was"
        stock.next_update = [1, 1, 1]
        stock.write(*(row(sku, version=2, acme=2) for sku in SKUS))
        await reader.ready()
        assert (await reader.item("sku-1"))["available_quantity"] == 2
        await until(lambda: folders(stock) == {second.generation}, reader)


async def test_a_candidate_that_is_dropped_with_its_topic_does_no_harm(stock: Stock) -> None:
    stock.write(*(row(sku, acme=1) for sku in SKUS))
    first, second = stock.topics[STOCK.name], copied(stock, 1)
    async with Reader(stock) as reader:
        say(stock, live=0, candidate=1)
        await followed(reader, second)
        assert not (await reader.get("/readyz"))["next"]["live"]
        await asyncio.to_thread(delete, stock, second)
        await until(lambda: reader.view.next is None, reader)  # before the record says so
        say(stock, live=0)
        await until(lambda: folders(stock) == {first.generation}, reader)
        assert (await reader.item("sku-1"))["available_quantity"] == 1


async def test_the_served_generations_topic_may_go_once_another_is_live(stock: Stock) -> None:
    stock.write(*(row(sku, acme=1) for sku in SKUS))
    first, second = stock.topics[STOCK.name], copied(stock, 1)
    async with Reader(stock) as reader:
        at = stock.duplicate(0)
        await until(lambda: reader.view.next_offset(UPDATES.name, 0) == 2, reader)
        say(stock, live=1)
        await asyncio.to_thread(delete, stock, first)
        await until(lambda: reader.view.served not in reader.view._succession._running, reader)
        assert (await reader.item("sku-1", min_offset=at))["version"].startswith(first.generation)
        write_into(stock, second)
        stock.next_update[0] = 1
        stock.duplicate(0)
        await served(reader, second)
        assert (await reader.item("sku-1"))["available_quantity"] == 1


async def test_a_kafka_that_goes_away_in_the_middle_of_a_switch_is_waited_for(
    broker_factory: BrokerFactory, tmp_path: Path
) -> None:
    kafka = broker_factory().start()
    stock = Stock(kafka.bootstrap_servers, tmp_path)
    stock.write(*(row(sku, acme=1) for sku in SKUS))
    second = copied(stock, 1)
    async with Reader(stock) as reader:
        at = stock.duplicate(0)
        await reader.item("sku-1", min_offset=at)
        say(stock, live=1, previous=0)
        await followed(reader, second)
        kafka.kill()
        assert (await reader.item("sku-1"))["available_quantity"] == 1
        await asyncio.sleep(2)
        assert (await reader.item("sku-1"))["available_quantity"] == 1
        kafka.start()  # on this thread, for a child lives as long as the thread that started it
        write_into(stock, second)
        stock.next_update[0] = 1
        await asyncio.to_thread(stock.duplicate, 0)
        await served(reader, second)
        assert (await reader.item("sku-1", min_offset=at))["available_quantity"] == 1


async def test_folders_of_other_generations_and_of_the_former_layout_are_deleted(stock: Stock) -> None:
    for name in ("0", "2", "0123abcd"):
        (stock.settings.data_dir / "view" / name).mkdir(parents=True)
    async with Reader(stock) as reader:
        await until(lambda: folders(stock) == {stock.generation}, reader)


async def test_the_metrics_tell_which_generation_is_served(stock: Stock, tmp_path: Path) -> None:
    stock.write(*(row(sku, acme=1) for sku in SKUS))
    second = copied(stock, 1)
    async with Reader(stock) as reader:
        say(stock, live=1, previous=0)
        await served(reader, second)
        async with asyncio.timeout(WAIT_S):
            while "stockweave_view_generation 1.0" not in await metrics_of(reader):  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.1)
        assert 'stockweave_view_next_lag_records{partition="0"} 0.0' in await metrics_of(reader)


async def metrics_of(reader: Reader) -> str:
    async with reader.client.get("/metrics") as response:
        return await response.text()


def delete(stock: Stock, generation: Deployed) -> None:
    admin = AdminClient({"bootstrap.servers": stock.bootstrap_servers})
    admin.delete_topics([generation.name])[generation.name].result(WAIT_S)
