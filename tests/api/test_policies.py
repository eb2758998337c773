"""Reads by policy: followed while the API runs, read before its first answer, one set of them an answer."""

from __future__ import annotations

import asyncio
from typing import Any

from schemas.keys import source_key
from schemas.rows import Count, Open
from stockweave.policies.command import Asked, set_policies
from tests.api.stock import T0, WAIT_S, Reader, Stock, row


async def decide(stock: Stock, scope: str, *words: str) -> None:
    asked = Asked(scope, words, None, replace=False)
    await asyncio.to_thread(set_policies, stock.settings, asked, None, json=True)


async def following(reader: Reader, revision: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while reader.view.policies.revision < revision:  # noqa: ASYNC110 - the view tells nobody
            await asyncio.sleep(0.01)


async def test_a_change_is_followed_and_its_numbers_are_answered_everywhere(stock: Stock) -> None:
    stock.write(row("milk", acme=10, best=5), row("bread", acme=2))
    async with Reader(stock) as reader:
        assert (await reader.item("milk"))["available_quantity"] == 15
        await decide(stock, "default", "safety_units=3")
        await following(reader, 1)
        assert (await reader.item("milk"))["available_quantity"] == 12
        several = await reader.get("/api/v1/inventory", sku="milk,bread")
        assert [item["available_quantity"] for item in several["items"]] == [12, 0]
        listed = await reader.get("/api/v1/inventory", in_stock="true")
        assert [item["sku"] for item in listed["items"]] == ["milk"]
        assert (await reader.get("/api/v1/inventory/milk"))["available_quantity"] == 12


async def test_policies_that_were_set_before_hold_from_the_first_answer_on(stock: Stock) -> None:
    stock.write(row("milk", acme=10))
    await decide(stock, "sku:milk", "safety_percent=25")
    async with Reader(stock) as reader:
        assert (await reader.item("milk"))["available_quantity"] == 7


async def test_a_channel_has_its_share_on_every_route(stock: Stock) -> None:
    stock.write(row("milk", acme=10), row("bread", acme=1))
    await decide(stock, "channel:web", "channel_share_percent=50")
    async with Reader(stock) as reader:
        web: dict[str, Any] = {"channel": "web"}
        assert (await reader.item("milk", **web))["available_quantity"] == 5
        assert (await reader.get("/api/v1/inventory/milk", **web))["available_quantity"] == 5
        several = await reader.get("/api/v1/inventory", sku="milk,bread", **web)
        assert [item["available_quantity"] for item in several["items"]] == [5, 0]
        listed = await reader.get("/api/v1/inventory", in_stock="false", **web)
        assert [item["sku"] for item in listed["items"]] == ["bread"]
        assert (await reader.item("milk", channel="shop"))["available_quantity"] == 10
        problem = await reader.get("/api/v1/inventory", 422, sku="milk", channel=" ")
        assert (problem["field"], problem["reason"]) == ("channel", "invalid_id")


async def test_an_etag_of_before_a_change_matches_no_more(stock: Stock) -> None:
    stock.write(row("milk", acme=10))
    async with Reader(stock) as reader:
        params = {"sku": "milk"}
        async with reader.client.get("/api/v1/inventory", params=params) as answer:
            tag = answer.headers["ETag"]
        for status in (304, 200):
            async with reader.client.get("/api/v1/inventory", params=params, headers={"If-None-Match": tag}) as answer:
                assert answer.status == status
            await decide(stock, "default", "safety_units=1")
            await following(reader, 1)


async def test_a_row_tells_what_each_source_brings_by_which_rules(stock: Stock) -> None:
    stock.write(row("milk", acme=10, best=7, cheap=1))
    await decide(stock, "default", "strategy=PRIORITY", "priority=best,acme", "safety_units=2", "backorder_units_max=4")
    await decide(stock, "supplier:cheap", "enabled=false")
    async with Reader(stock) as reader:
        whole = await reader.get("/api/v1/inventory/milk", channel="web")
        assert {s["supplierId"]: (s["counts"], s["standing"]) for s in whole["sources"]} == {
            "acme": (0, "PASSED_OVER"),
            "best": (7, "COUNTED"),
            "cheap": (0, "EXCLUDED"),
        }
        assert whole["rules"] == {
            "channel": "web",
            "revision": reader.view.policies.revision,
            "strategy": "PRIORITY",
            "priority": ["best", "acme"],
            "safety_units": 2,
            "safety_percent": 0,
            "channel_share_percent": 100,
            "reliability_percent_min": 0,
        }
        item = await reader.item("milk")
        names = ("available_quantity", "certain_quantity", "hoped_for_quantity", "backorderable_quantity")
        assert [item[name] for name in names] == [5, 5, 5, 4]
        assert [whole[name] for name in names] == [5, 5, 5, 4]


async def test_a_recorded_score_acts_on_every_route_as_soon_as_it_is_heard_and_is_told(stock: Stock) -> None:
    stock.write(row("milk", acme=10, best=5, own=1), row("bread", acme=1))
    await decide(stock, "default", "reliability_percent_min=80")
    async with Reader(stock) as reader:
        assert (await reader.item("milk"))["available_quantity"] == 16
        await decide(stock, "score:acme", "reliability_percent=79")
        await decide(stock, "score:best", "reliability_percent=80")
        await following(reader, 3)
        several = await reader.get("/api/v1/inventory", sku="milk,bread")
        assert [item["available_quantity"] for item in several["items"]] == [6, 0]
        whole = await reader.get("/api/v1/inventory/milk")
        told = {s["supplierId"]: (s["counts"], s["standing"], s["reliability_percent"]) for s in whole["sources"]}
        assert told == {"acme": (0, "EXCLUDED", 79), "best": (5, "COUNTED", 80), "own": (1, "COUNTED", None)}
        assert whole["rules"]["reliability_percent_min"] == 80
        await decide(stock, "default", "reliability_percent_min=", "strategy=PRIORITY", "priority=acme,own,best")
        await decide(stock, "default", "priority_by_reliability=true")
        await following(reader, 5)
        whole = await reader.get("/api/v1/inventory/milk")
        assert (whole["available_quantity"], whole["rules"]["priority"]) == (5, ["best", "acme", "own"])


async def test_two_systems_that_count_one_warehouse_count_once_where_a_pool_says_so(stock: Stock) -> None:
    milk = row("milk", erp=10, wms=10, shop=3)
    wms = milk.sources[source_key("wms", "default")]
    wms.count = Count(0, "c-later", T0, 8)
    milk.reserved = {source_key("erp", "default"): [Open(2, "default")]}
    stock.write(milk)
    async with Reader(stock) as reader:
        assert (await reader.item("milk"))["available_quantity"] == 8 + 8 + 3
        await decide(stock, "supplier:erp", "pool=main")
        await decide(stock, "supplier:wms", "pool=main")
        await following(reader, 2)
        item = await reader.item("milk")
        names = ("available_quantity", "certain_quantity", "hoped_for_quantity")
        assert [item[name] for name in names] == [6 + 3] * 3
        whole = await reader.get("/api/v1/inventory/milk")
        told = ("on_hand", "reserved", "counts", "standing", "at_most")
        assert {s["supplierId"]: [s[name] for name in told] for s in whole["sources"]} == {
            "erp": [10, 0, 0, "SAME_STOCK", None],
            "wms": [8, 2, 6, "COUNTED", None],
            "shop": [3, 0, 3, "COUNTED", None],
        }
        assert (whole["available_quantity"], whole["reserved"], whole["on_hand"]) == (9, 2, 23)
        await decide(stock, "supplier:wms", "pool=")
        await following(reader, 3)
        assert (await reader.item("milk"))["available_quantity"] == 8 + 8 + 3
