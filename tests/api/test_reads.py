"""What the read routes answer: one SKU, several, whole rows, entity tags, problems."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from schemas.keys import source_key
from schemas.rows import Count, Receipt, Source, StockRow
from stockweave.broker.kafka import EmbeddedKafka
from tests.api.stock import T0, Reader, Stock, row, with_delta

ODD_SKUS = ["a/b//c", "caf\u00e9 noir", "100%", "x,y", "..", "\u6771\u4eac?&#+", "%2F", "s" * 128]


@pytest.fixture(scope="module")
async def reader(broker: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reader]:
    folder: Path = tmp_path_factory.mktemp("reads")
    stock = Stock(broker.bootstrap_servers, folder)
    stock.write(
        with_delta(row("milk", version=4, changed_at=T0 + 5, acme=10, best__north=5, best__south=-2), "acme", -3),
        row("bread", acme=0),
        stale_row("fish"),
        *(row(sku, acme=1) for sku in ODD_SKUS),
    )
    async with Reader(stock) as opened:
        yield opened


def stale_row(sku: str) -> StockRow:
    fresh = Source(Count(0, "c1", T0, 4))
    stale = Source(Count(1, "c2", T0 - 9_000, 6), carried=1, floor_at=T0 - 8_000, basis=1, stale_after_ms=60_000)
    stale.incoming = [Receipt(T0 + 1, 50)]
    stale.received_at, stale.offset = T0 + 2, 77
    return StockRow(sku, 2, 11, T0, {source_key("acme", "a"): fresh, source_key("best", "b"): stale})


async def test_one_sku_is_answered_with_its_parts(reader: Reader) -> None:
    item = await reader.item("milk")
    freshness = item.pop("freshness")
    assert item == {
        "sku": "milk",
        "available_quantity": 12,  # 7 + 5 + 0
        "suppliers": [{"supplierId": "acme", "quantity": 7}, {"supplierId": "best", "quantity": 3}],
        "locations": [
            {"locationId": "default", "quantity": 7},
            {"locationId": "north", "quantity": 5},
            {"locationId": "south", "quantity": 0},
        ],
        "certain_quantity": 12,
        "hoped_for_quantity": 12,
        "backorderable_quantity": 0,
        "last_updated": "2023-11-14T22:13:20.005Z",
        "version": f"{reader.view.generation}-4",
    }
    assert freshness["oldest_observed_at"] == "2023-11-14T22:13:19.000Z"
    assert freshness["age_ms"] > 86_400_000
    assert freshness["stale_sources"] == []
    assert freshness["confirmed_at"].endswith("Z")


async def test_a_stale_source_counts_as_nothing_and_is_named(reader: Reader) -> None:
    item = await reader.item("fish")
    assert item["available_quantity"] == 4
    assert item["freshness"]["stale_sources"] == [{"supplierId": "best", "locationId": "b"}]


async def test_several_skus_are_answered_in_order_with_the_unknown_apart(reader: Reader) -> None:
    answer = await reader.get("/api/v1/inventory", sku="bread,nothing,milk,bread")
    assert [item["sku"] for item in answer["items"]] == ["bread", "milk"]
    assert answer["unknown"] == ["nothing"]
    async with reader.client.get("/api/v1/inventory?sku=bread&sku=milk") as repeated:
        assert [item["sku"] for item in (await repeated.json())["items"]] == ["bread", "milk"]


async def test_many_skus_are_answered_as_few_are(reader: Reader) -> None:
    answer = await reader.get("/api/v1/inventory", sku=",".join(["milk", *(f"no-{i}" for i in range(999))]))
    assert [item["sku"] for item in answer["items"]] == ["milk"]
    assert answer["items"][0]["available_quantity"] == 12
    assert len(answer["unknown"]) == 999


async def test_a_whole_row_tells_where_every_unit_came_from(reader: Reader) -> None:
    answer = await reader.get("/api/v1/inventory/fish")
    assert (answer["available_quantity"], answer["on_hand"]) == (4, 11)
    assert answer["sources"][1] == {
        "supplierId": "best",
        "locationId": "b",
        "on_hand": 7,
        "reserved": 0,
        "available": 7,
        "anchored": True,
        "counts": 0,
        "standing": "STALE",
        "reliability_percent": None,
        "at_most": None,
        "count": {"kind": "WITHDRAWN", "id": "c2", "observed_at": "2023-11-14T22:13:11.000Z", "quantity": 6},
        "deltas": [],
        "carried": 1,
        "floor_at": "2023-11-14T22:13:12.000Z",
        "basis": "AVAILABLE",
        "incoming": [{"expected_at": "2023-11-14T22:13:20.001Z", "quantity": 50}],
        "stale_after_ms": 60_000,
        "observed_at": "2023-11-14T22:13:12.000Z",
        "received_at": "2023-11-14T22:13:20.002Z",
        "topic": reader._stock.topics["inventory.updates"].name,
        "partition": reader._stock.partition("fish"),
        "offset": 77,
    }
    milk = await reader.get("/api/v1/inventory/milk")
    assert milk["sources"][0]["deltas"] == [
        {"id": "d-3", "observed_at": "2023-11-14T22:13:20.000Z", "quantity": -3, "order_ref": "order-1"}
    ]


@pytest.mark.parametrize("sku", ODD_SKUS)
async def test_any_sku_can_be_asked_for_by_its_path(reader: Reader, sku: str) -> None:
    from yarl import URL

    path = URL("/api/v1/inventory/" + quote(sku, safe="").replace("..", "%2E%2E"), encoded=True)
    async with reader.client.get(path) as response:
        assert (await response.json())["sku"] == sku


@pytest.mark.parametrize("sku", [s for s in ODD_SKUS if "," not in s])
async def test_any_sku_without_a_comma_can_be_asked_for_by_query(reader: Reader, sku: str) -> None:
    assert (await reader.item(sku))["sku"] == sku


async def test_a_sku_is_found_in_any_normal_form(reader: Reader) -> None:
    assert (await reader.item("cafe\u0301 noir"))["sku"] == "caf\u00e9 noir"
    assert (await reader.get("/api/v1/inventory/" + quote("cafe\u0301 noir")))["sku"] == "caf\u00e9 noir"


@pytest.mark.parametrize("path", ["/api/v1/inventory?sku=milk", "/api/v1/inventory/milk"])
async def test_an_unchanged_row_is_answered_with_304(reader: Reader, path: str) -> None:
    async with reader.client.get(path) as response:
        etag = response.headers["ETag"]
    assert etag == f'W/"{reader.view.generation}-4"'
    for given in (etag, f'"x", {etag}', "*", etag.removeprefix("W/")):
        async with reader.client.get(path, headers={"If-None-Match": given}) as response:
            assert (response.status, response.headers["ETag"], await response.read()) == (304, etag, b"")
    for given in ('"x"', f'W/"{reader.view.generation}-3"', "nonsense"):
        async with reader.client.get(path, headers={"If-None-Match": given}) as response:
            assert response.status == 200


async def test_a_source_that_goes_stale_changes_the_tag_as_it_changes_the_number(reader: Reader) -> None:
    async with reader.client.get("/api/v1/inventory?sku=fish") as response:
        assert response.headers["ETag"] == f'W/"{reader.view.generation}-2-s1"'
    # The tag of the time when nothing was stale.
    headers = {"If-None-Match": f'W/"{reader.view.generation}-2"'}
    async with reader.client.get("/api/v1/inventory?sku=fish", headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize("path", ["/api/v1/inventory?sku=milk", "/api/v1/inventory/milk", "/api/v1/inventory"])
async def test_head_answers_as_get_without_the_body(reader: Reader, path: str) -> None:
    async with reader.client.get(path) as got, reader.client.head(path) as asked:
        assert asked.status == 200
        assert asked.headers.get("ETag") == got.headers.get("ETag")
        assert await asked.read() == b""


@pytest.mark.parametrize("path", ["/api/v1/inventory?sku=cheese", "/api/v1/inventory/cheese"])
async def test_an_unknown_sku_is_a_problem_with_404(reader: Reader, path: str) -> None:
    async with reader.client.get(path) as response:
        assert response.status == 404
        assert response.content_type == "application/problem+json"
        problem = await response.json(content_type="application/problem+json")
    assert problem["type"] == "urn:stockweave:problem:unknown_sku"
    assert (problem["status"], problem["title"], problem["sku"]) == (404, "Not Found", "cheese")
    assert "cheese" in problem["detail"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("skus=milk", "skus"),
        ("sku=", "sku"),
        ("sku=milk&supplier=acme", "supplier"),
        ("sku=milk&limit=5", "limit"),
        ("limit=0", "limit"),
        ("cursor=abc", "cursor"),
        ("min_offset=9-1", "min_offset"),
    ],
)
async def test_a_query_that_cannot_be_used_is_a_problem_that_names_the_parameter(
    reader: Reader, query: str, field: str
) -> None:
    async with reader.client.get(f"/api/v1/inventory?{query}") as response:
        assert response.status == 422
        assert (await response.json(content_type="application/problem+json"))["field"] == field


async def test_what_there_is_no_route_for_is_a_problem_too(reader: Reader) -> None:
    await reader.get("/api/v1/nothing", 404)
    async with reader.client.post("/api/v1/inventory") as response:
        assert response.status == 405
        assert set(response.headers["Allow"].split(",")) == {"GET", "HEAD"}
        assert response.content_type == "application/problem+json"


async def test_a_supplier_that_is_all_digits_or_empty_in_stock_filters_as_text(reader: Reader) -> None:
    assert (await reader.get("/api/v1/inventory", supplier="12"))["items"] == []


async def test_times_past_what_rfc_3339_can_say_do_not_break_the_answer(reader: Reader) -> None:
    from api.answers import rfc3339

    assert rfc3339(1 << 62) == "9999-12-31T23:59:59.999Z"
    assert rfc3339(-1) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_767_225_600_007) == "2026-01-01T00:00:00.007Z"
